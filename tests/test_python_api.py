"""What a Python user sees of the package: signatures, and types that a checker accepts."""

import inspect
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

import textgen

from .test_readme import README, blocks

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = [getattr(textgen, name) for name in textgen.__all__ if not name.startswith("_")]
FUNCTIONS = [
    function
    for each in PUBLIC
    for function in (vars(each).values() if inspect.isclass(each) else [each])
    if isinstance(function, FunctionType | classmethod)
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.__name__)
def test_every_default_in_a_signature_explains_itself(function: object) -> None:
    function = getattr(function, "__func__", function)
    assert callable(function) and " at 0x" not in str(inspect.signature(function))


def test_the_example_of_the_readme_passes_mypy_strict(tmp_path: Path) -> None:
    (example,) = blocks(README, "python")
    snippet = tmp_path / "snippet.py"
    snippet.write_text(example, encoding="utf-8")
    # With the configuration of the project, which is strict, and so with its cache.
    command = [sys.executable, "-m", "mypy", "--strict", str(snippet)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
