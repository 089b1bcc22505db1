"""The corpus that comes with textgen, and the grammar that wrote it."""

from pathlib import Path

from textgen.errors import ResourceError


def bundled_corpus() -> Path:
    """Where the bundled corpus lies: in an installed package, or in the repository."""
    return _bundled("stories.txt")


def bundled_grammar() -> Path:
    """Where the grammar of the bundled corpus lies."""
    return _bundled("grammar.txt")


def _bundled(name: str) -> Path:
    package = Path(__file__).resolve().parent.parent
    for path in (package / "bundled" / name, package.parent / "corpora" / name):
        if path.is_file():
            return path
    raise ResourceError("a bundled file is missing", where=path, fix="install textgen again")
