"""What MkDocs does for the site beyond its own: see ``mkdocs.yml``.

* Pages that lie elsewhere in the repository (``OUTSIDE``) become pages of the site from their one
  source. Links are written as they work in the repository, and are translated here.
* A comment ``<!-- options of train -->`` becomes the options of that command, and a comment
  ``<!-- README: Doors to other programs -->`` what stands below that heading in the README.
* Comments for ``run.py`` are left out.
* Formulas become MathML, which browsers draw by themselves.
"""

import os.path
import re
import sys
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from latex2mathml.converter import convert
from mkdocs.structure.files import File

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
README = ROOT / "README.md"
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from commands import options_page  # noqa: E402

from hatch_build import public_address  # noqa: E402

OUTSIDE = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "benchmarks/results/ablations.md": "reference/ablations.md",
    "corpora/README.md": "guides/corpora.md",
} | {
    f"benchmarks/results/{path.name}": f"assets/{path.name}"
    for path in (ROOT / "benchmarks" / "results").glob("*.png")
}
"""Where a file of the repository that is not in ``docs/`` is on the site."""

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(?=[)#])")
_OPTIONS = re.compile(r"^<!-- options of ([a-z ]+) -->$", re.MULTILINE)
_SECTION = re.compile(r"^<!-- README: (.+) -->$", re.MULTILINE)
_FOR_RUN = re.compile(r"^ *<!-- (?:run:|setup\b).*?-->\n", re.MULTILINE | re.DOTALL)
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_config(config: Any) -> None:
    """The link to the repository is the one that builds the site."""
    config.repo_url = public_address(str(ROOT))


def on_files(files: Any, config: Any) -> None:
    """Add the files that lie outside of ``docs/``."""
    for path, place in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Leave out what is for ``run.py``, translate the links, and fill in what comments ask for."""
    place = page.file.src_uri
    markdown = _translated(_FOR_RUN.sub("", markdown), Path(page.file.abs_src_path), place)
    markdown = _OPTIONS.sub(lambda match: options_page(match[1]), markdown)
    return _SECTION.sub(lambda match: _translated(_section(match[1]), README, place), markdown)


def _section(heading: str) -> str:
    """What stands below a heading of the README."""
    text = README.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return str(found).strip()


def _translated(markdown: str, source: Path, page: str) -> str:
    """Markdown of a file of the repository, with links that work on the page of the site."""
    return _LINK.sub(lambda match: _link(match[1], source, page), markdown)


def _link(target: str, source: Path, page: str) -> str:
    """The link of a page to another file of the repository, as it works on the site."""
    path = (source.parent / unquote(target)).resolve()
    if not path.exists() or not path.is_relative_to(ROOT):
        return target  # MkDocs says so
    name = path.relative_to(ROOT).as_posix()
    place = OUTSIDE.get(name, os.path.relpath(path, DOCS))
    return os.path.relpath(place, Path(page).parent).replace(os.sep, "/")


def on_page_content(html: str, **_: Any) -> str:
    """Formulas in LaTeX become MathML."""
    return _FORMULA.sub(
        lambda match: convert(
            unescape(match[2]), display="inline" if match[1] == "span" else "block"
        ),
        html,
    )


def on_post_page(output: str, **_: Any) -> str:
    """Name the dialog of the search for screen readers, which the theme forgets."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')


on_post_template = on_post_page  # of the page that says that there is no such page
