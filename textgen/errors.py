"""The exception tree. Every error a user can cause is a TextgenError and knows its exit code."""

from collections.abc import Sequence
from typing import ClassVar


class TextgenError(Exception):
    """An error that ends the command in one line: ``WHAT (WHERE): WHY; WHAT TO DO``.

    what: what went wrong, in the user's words.
    where: the file, option or byte at which it went wrong.
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
    """The command line, or an argument of the Python face, asks for what cannot be."""

    exit_code = 2


class DataError(TextgenError):
    """A corpus, tokenizer or checkpoint is not what it should be."""

    exit_code = 3


class CheckpointError(DataError):
    """A checkpoint or tokenizer folder is damaged, foreign or from a newer version."""


class DivergedError(TextgenError):
    """Training met a loss that is not finite and could not go on."""

    exit_code = 4


class ElsewhereError(TextgenError):
    """The first of several processes failed, and says itself how.

    code: the exit code it ends with.
    """

    def __init__(self, what: str, *, code: int) -> None:
        super().__init__(what)
        self.code = code


class LockedError(TextgenError):
    """Another run is writing into the same folder."""

    exit_code = 5


def named(names: Sequence[str], most: int = 8) -> str:
    """Names for a message: the first few of them, quoted."""
    shown = ", ".join(repr(name) for name in names[:most])
    more = len(names) - most
    return shown + (f" and {more} more" if more > 0 else "")
