"""Paths of texts, as a run keeps them."""

from pathlib import Path

from textgen.errors import UsageError


def lasting(path: str | Path) -> str:
    """A path that a resumed run finds again from wherever it is started; ``-`` is stdin."""
    if not str(path):
        raise UsageError("an empty path was given for a text", fix="name a file or a folder")
    return str(path) if str(path) == "-" else str(Path(path).absolute())
