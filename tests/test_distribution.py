"""What is installed under the distribution's own name, and the lines that tell how."""

import importlib.metadata
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from textgen.errors import install_line

ROOT = Path(__file__).resolve().parent.parent
PAGES = (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.py"))
METADATA = importlib.metadata.metadata("textgen-lm")
EXTRAS = METADATA.get_all("Provides-Extra") or []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of this source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return folder


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_line_that_installs_an_extra_installs_this_distribution_with_it(
    extra: str, wheel: Path
) -> None:
    pip, install, requirement = shlex.split(install_line(extra))
    assert (pip, install) == ("pip", "install")
    options = ("--dry-run", "--force-reinstall", "--no-deps", "--no-index", "--find-links", wheel)
    command = [sys.executable, "-m", "pip", "install", *map(str, options), requirement]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "Would install textgen-lm-" in ended.stdout
    assert "does not provide the extra" not in ended.stderr


def test_every_install_line_of_the_documents_is_the_one_of_an_extra() -> None:
    lines = {install_line(extra) for extra in EXTRAS}
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    documented = set(re.findall(r"pip install '[^']*'", text))
    assert documented and documented <= lines
    assert not re.search(r"\btextgen\[", text)


def test_no_message_writes_an_install_line_of_its_own() -> None:
    modules = [path for path in (ROOT / "textgen").rglob("*.py") if path.name != "errors.py"]
    assert not [path for path in modules if "pip install" in path.read_text(encoding="utf-8")]


def test_the_wheel_says_who_made_it() -> None:
    assert METADATA["Author"] == "The textgen authors"
    assert METADATA["Summary"] and METADATA["License-Expression"] == "MIT"
