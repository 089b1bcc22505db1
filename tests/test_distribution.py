"""What is installed under the distribution's own name, and the lines that tell how."""

import importlib.metadata
import re
import shlex
import subprocess
import sys
import zipfile
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


def test_the_wheel_has_every_file_that_the_package_needs(wheel: Path) -> None:
    (path,) = wheel.glob("textgen_lm-*.whl")
    found = {name: zipfile.Path(path, name) for name in zipfile.ZipFile(path).namelist()}
    package = {
        file.relative_to(ROOT).as_posix(): file
        for file in (ROOT / "textgen").rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    corpora = ("stories.txt", "probe.jsonl")
    package |= {f"textgen/bundled/{name}": ROOT / "corpora" / name for name in corpora}
    assert {Path(name).suffix for name in package} >= {".py", ".typed", ".c", ".h", ".css", ".js"}
    for name, file in package.items():
        assert found[name].read_bytes() == file.read_bytes()
    others = {name for name in found.keys() - package.keys() if ".dist-info/" not in name}
    assert others == set()


def test_the_wheel_names_its_authors_and_no_address_that_does_not_exist(wheel: Path) -> None:
    (path,) = wheel.glob("textgen_lm-*.whl")
    names = zipfile.ZipFile(path).namelist()
    (metadata, scripts) = (
        zipfile.ZipFile(path).read(name).decode()
        for end in ("METADATA", "entry_points.txt")
        for name in names
        if name.endswith(f".dist-info/{end}")
    )
    assert "Author: The textgen authors\n" in metadata
    assert "Project-URL" not in metadata and "Home-page" not in metadata
    assert "textgen = textgen.__main__:main" in scripts
    assert any(name.endswith("licenses/LICENSE") for name in names)
