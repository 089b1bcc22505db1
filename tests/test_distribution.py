"""What is installed under the distribution's own name, and the lines that tell how."""

import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hatch_build import Links, site_address, standalone
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


def test_the_lines_that_install_the_extras_install_this_distribution_with_them(
    wheel: Path,
) -> None:
    lines = [shlex.split(install_line(extra)) for extra in EXTRAS]
    assert lines and all(line[:2] == ["pip", "install"] and len(line) == 3 for line in lines)
    options = ("--dry-run", "--force-reinstall", "--no-deps", "--no-index", "--find-links", wheel)
    command = [sys.executable, "-m", "pip", "install", *map(str, options)]
    command += [requirement for _, _, requirement in lines]
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
    assert {name.partition(".data/")[2] for name in others} == {"data/share/man/man1/textgen.1"}


def metadata_file(path: Path, name: str = "METADATA") -> str:
    (member,) = (n for n in zipfile.ZipFile(path).namelist() if n.endswith(f".dist-info/{name}"))
    return zipfile.ZipFile(path).read(member).decode()


def test_the_wheel_names_its_authors_and_its_command(wheel: Path) -> None:
    (path,) = wheel.glob("textgen_lm-*.whl")
    assert "Author: The textgen authors\n" in metadata_file(path)
    assert "textgen = textgen.__main__:main" in metadata_file(path, "entry_points.txt")
    assert any(name.endswith("licenses/LICENSE") for name in zipfile.ZipFile(path).namelist())


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ("https://example.org/ada/textgen.git", "https://example.org/ada/textgen"),
        (
            "https://ada:secret@example.org/group/lab/textgen",
            "https://example.org/group/lab/textgen",
        ),
        ("git@example.org:ada/textgen.git", "https://example.org/ada/textgen"),
        ("/home/ada/textgen", None),
        ("file:///srv/git/textgen.git", None),
        ("http://localhost/textgen", None),
        (None, None),
    ],
)
def test_the_links_are_those_of_the_repository_that_builds(
    origin: str | None, address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    if origin is not None:
        remote = ["git", "-C", tmp_path, "remote", "add", "origin", origin]
        subprocess.run(remote, check=True)
    shutil.copy(ROOT / "README.md", tmp_path)
    metadata: dict[str, Any] = {}
    Links(str(tmp_path), {}).update(metadata)
    links, readme = metadata.get("urls", {}), metadata["readme"]["text"]
    assert links.get("Repository") == address
    assert all(link.startswith(f"{address}") for link in links.values())
    assert "secret" not in f"{links}{readme}"
    targets = re.findall(r"\]\(([^)]*)\)", readme)
    assert all(target.startswith(f"{address}/blob/main/") for target in targets)
    assert bool(targets) == (address is not None)


def test_every_link_of_the_packaged_readme_leads_to_a_file_of_the_repository() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8") + "![A](docs/picture.png)"
    text = standalone(readme, "https://example.org/ada/textgen")
    targets = re.findall(r"[^!]\[[^\]]*\]\(([^)]*)\)", text)
    for target in targets:
        path = target.removeprefix("https://example.org/ada/textgen/blob/main/").partition("#")[0]
        assert path != target and (ROOT / path).exists(), target
    assert text.endswith("![A](https://example.org/ada/textgen/raw/main/docs/picture.png)")
    assert standalone("[a](b.md#c), [d](https://e.org)", None) == "a, [d](https://e.org)"


def test_the_documentation_of_a_repository_on_github_is_its_site() -> None:
    assert site_address("https://github.com/ada/textgen") == "https://ada.github.io/textgen/"
    assert site_address("https://example.org/a/b") == "https://example.org/a/b#readme"


def test_a_wheel_made_from_a_source_distribution_keeps_its_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path), "-t"]
    monkeypatch.setenv("GITHUB_REPOSITORY", "ada/textgen")
    subprocess.run([*build, "sdist"], cwd=ROOT, check=True, capture_output=True, timeout=120)
    monkeypatch.delenv("GITHUB_REPOSITORY")
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("textgen_lm-*/")
    subprocess.run([*build, "wheel"], cwd=source, check=True, capture_output=True, timeout=120)
    (path,) = tmp_path.glob("*.whl")
    assert "Project-URL: Repository, https://github.com/ada/textgen\n" in metadata_file(path)
