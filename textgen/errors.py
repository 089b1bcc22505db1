"""The exception tree. Every error a user can cause is a TextgenError with an exit code."""

import re
from collections.abc import Collection, Sequence
from typing import ClassVar

_OPTION = re.compile(r"--[a-z][a-z-]*")


class TextgenError(Exception):
    """An error that ends the command in one line: ``WHAT (WHERE): WHY; FIX``.

    Args:
        fix: What the user can do about it; alternatives are given as a tuple.

    Attributes:
        where: The file, option or byte where it went wrong.
        fix: The alternatives in one text.
        alternatives: Them, where there are several.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        where: object | None = None,
        why: str | None = None,
        fix: str | tuple[str, ...] | None = None,
    ) -> None:
        self.what, self.where, self.why = what, where, why
        self.alternatives = fix if isinstance(fix, tuple) else ()
        self.fix = ", or ".join(fix) if isinstance(fix, tuple) else fix
        super().__init__(self._line(self.fix))

    def _line(self, fix: str | None) -> str:
        where = "" if self.where is None else f" ({self.where})"
        why = "" if self.why is None else f": {self.why}"
        return self.what + where + why + (f"; {fix}" if fix else "")

    def for_command(self, options: Collection[str]) -> str:
        """The line for a command: of alternatives, those without options that it lacks."""
        known = set(options)
        fixes = [each for each in self.alternatives if known.issuperset(_OPTION.findall(each))]
        return self._line(", or ".join(fixes))


class TextgenWarning(UserWarning):
    """What a caller should know about a result; a command writes it as a note."""


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


def not_finite() -> DataError:
    """The error for a model whose weights are finite and whose probabilities are not."""
    return DataError(
        "the model gives no probabilities",
        why="not all of its logits are finite: its weights are damaged, or too large for float32",
        fix="use another checkpoint of the run, or train again",
    )


class DivergedError(TextgenError):
    """The loss of training is not finite, and training could not continue."""

    exit_code = 4


class OtherProcessError(TextgenError):
    """Another of several processes failed with this exit code, and reports the error itself."""

    def __init__(self, what: str, *, code: int) -> None:
        super().__init__(what)
        self.code = code


class LockedError(TextgenError):
    """Another run is writing into the same folder."""

    exit_code = 5


def install_line(extra: str) -> str:
    """The command that installs an extra of the distribution that this package came with."""
    from importlib import metadata  # with the package email: only this error needs it

    commands = metadata.entry_points(group="console_scripts", name="textgen")
    ours = [each.dist.name for each in commands if each.dist and each.value.startswith("textgen.")]
    # A source tree that was never installed has no metadata.
    return f"pip install '{ours[0] if ours else '.'}[{extra}]'"


def missing_package(
    what: str, package: str, extra: str, *, where: object | None = None, instead: str = ""
) -> UsageError:
    """The error for an optional package that is not installed.

    Args:
        what: What needs it.
        extra: The extra of the distribution that has it.
        instead: What can be done without it, after "or".
    """
    return UsageError(
        f"{what} needs the package {package}",
        where=where,
        why="it is not installed",
        fix=install_line(extra) + (f", or {instead}" if instead else ""),
    )


def not_both(one: str, other: str, why: str | None = None, fix: str = "keep one") -> UsageError:
    """The error of two options that exclude each other."""
    return UsageError(f"{one} and {other} cannot both be given", why=why, fix=fix)


def quoted(names: Sequence[str], most: int = 8) -> str:
    """The first few names, quoted for a message."""
    shown = ", ".join(map(repr, names[:most]))
    more = len(names) - most
    return shown + (f" and {more} more" if more > 0 else "")
