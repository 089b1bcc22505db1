"""The exception tree. Every error a user can cause is a TextgenError with an exit code."""

from collections.abc import Sequence
from typing import ClassVar


class TextgenError(Exception):
    """An error that ends the command in one line: ``WHAT (WHERE): WHY; WHAT TO DO``.

    Attributes:
        what: what went wrong, in the user's terms.
        where: the file, option or byte where it went wrong.
        why: the cause.
        fix: what the user can do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        where: object | None = None,
        why: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.why, self.fix = what, where, why, fix
        message = what
        if where is not None:
            message += f" ({where})"
        if why is not None:
            message += f": {why}"
        if fix is not None:
            message += f"; {fix}"
        super().__init__(message)


class ResourceError(TextgenError):
    """Input, output or resources: a missing file, a full disk, no such device."""

    exit_code = 1


class UsageError(TextgenError):
    """An option of the command line, or an argument in Python, is not valid."""

    exit_code = 2


class DataError(TextgenError):
    """A corpus, tokenizer or checkpoint is damaged or not what it should be."""

    exit_code = 3


class CheckpointError(DataError):
    """A checkpoint or tokenizer folder is damaged, foreign or from a newer version."""


class DivergedError(TextgenError):
    """The loss of training is not finite, and training could not continue."""

    exit_code = 4


class OtherProcessError(TextgenError):
    """Another of several processes failed, and reports the error itself.

    Args:
        code: the exit code of that process.
    """

    def __init__(self, what: str, *, code: int) -> None:
        super().__init__(what)
        self.code = code


class LockedError(TextgenError):
    """Another run is writing into the same folder."""

    exit_code = 5


def quoted(names: Sequence[str], most: int = 8) -> str:
    """The first few names, quoted for a message."""
    shown = ", ".join(map(repr, names[:most]))
    more = len(names) - most
    return shown + (f" and {more} more" if more > 0 else "")
