"""The corpus that comes with textgen."""

from pathlib import Path

from textgen.errors import ResourceError


def bundled_corpus() -> Path:
    """Where the bundled corpus lies: in an installed package, or in the repository."""
    package = Path(__file__).resolve().parent.parent
    for path in (package / "bundled" / "stories.txt", package.parent / "corpora" / "stories.txt"):
        if path.is_file():
            return path
    raise ResourceError("the bundled corpus is missing", where=path, fix="install textgen again")
