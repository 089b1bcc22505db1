"""All output for people: results to stdout, everything else to stderr.

rich lays out the text. It is written here, so that a full disk, a closed pipe and a terminal
without UTF-8 are each handled in one place.
"""

import contextlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType
from rich.style import Style
from rich.text import Text
from rich.theme import Theme

from textgen.errors import ResourceError

_THEME = Theme(
    {
        "heading": Style(bold=True),
        "label": Style(dim=True),
        "faint": Style(dim=True),
        "accent": Style(color="cyan"),
        "good": Style(color="green"),
        "warning": Style(color="yellow"),
        "unknown": Style(color="yellow", bold=True),
        "copied": Style(color="yellow", underline=True),
        "error": Style(color="red", bold=True),
    }
)
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_NAMED = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}


def prepare_streams() -> None:
    """Make stdout and stderr able to print any text, whatever the locale says.

    What UTF-8 cannot hold (half a surrogate pair, from a file name in another encoding) is
    written as an escape, which inside a JSON string is also JSON's own. Raises ResourceError
    where there is no stdout.
    """
    if sys.stderr is None:  # closed by who called us: "2>&-"
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - open to the end
    if sys.stdout is None:
        raise ResourceError("cannot write", where="standard output", why="it is closed")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def out_console() -> Console:
    """How results look on stdout as it is now. It lays out; ``emit`` writes."""
    return _console(sys.stdout)


def err_console() -> Console:
    """How everything else looks on stderr as it is now. It lays out; ``say`` writes."""
    return _console(sys.stderr)


def live_console() -> Console:
    """A console that writes to stderr itself, as a display that changes in place must."""
    return _console(sys.stderr, file=sys.stderr)


@contextlib.contextmanager
def in_one_piece(console: Console) -> Iterator[None]:
    """What is drawn inside appears at once, so that no half of a frame is ever seen.

    These are the marks of "synchronized output"; a terminal that does not know them shows nothing
    of them.
    """
    if console.legacy_windows:
        yield
        return
    console.file.write("\x1b[?2026h")
    try:
        yield
    finally:
        console.file.write("\x1b[?2026l")
        console.file.flush()


def is_terminal(stream: TextIO) -> bool:
    """Whether a person watches this stream, on a terminal that can move its cursor."""
    try:
        watched = stream.isatty()
    except ValueError:  # closed
        return False
    return watched and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def emit(text: str) -> None:
    """Write a result to stdout, at once where a person watches.

    Raises ResourceError where it cannot be written; BrokenPipeError where nobody reads on.
    """
    try:
        sys.stdout.write(text)
        if sys.stdout.isatty():
            sys.stdout.flush()
    except OSError as error:
        raise _unwritten(error) from error


def finish_output() -> None:
    """Write out what is still buffered; raises as ``emit`` does.

    A full disk is otherwise noticed only as Python exits, too late for an exit code.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _unwritten(error) from error


def abandon_output() -> None:
    """Let what stdout still holds go nowhere, so that Python's own exit does not fail on it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def show(*renderables: RenderableType, widest: int | None = None) -> None:
    """Write results to stdout, laid out for it, in no more than ``widest`` columns."""
    console = out_console()
    console.width = min(console.width, widest or console.width)
    text = laid_out(console, *renderables)
    if not console.is_terminal:
        text = "\n".join(line.rstrip(" ") for line in text.split("\n"))
    emit(text)


def say(*renderables: RenderableType) -> None:
    """Write to stderr. That nobody can read it is no reason to fail."""
    console = err_console()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(laid_out(console, *renderables))
        sys.stderr.flush()


def note(message: str) -> None:
    """Say something worth knowing that is neither result nor error."""
    in_lines = not is_terminal(sys.stderr)
    say(Text.assemble(("note: ", "accent"), (shown(message), "label"), no_wrap=in_lines))


def say_error(line: str) -> None:
    """The one line by which a command that failed says so."""
    say(Text.assemble("textgen: ", ("error", "error"), f": {shown(line)}", no_wrap=True))


def say_plain(text: str) -> None:
    """Lines on stderr as they are, such as a traceback."""
    say(Text(shown(text, keep="\n\t"), no_wrap=True))


def laid_out(console: Console, *renderables: RenderableType) -> str:
    """The characters, escape codes included, that draw these on the console.

    A Text that is marked ``no_wrap`` keeps its lines as they are, however long.
    """
    with console.capture() as capture:
        for renderable in renderables:
            as_it_is = isinstance(renderable, Text) and bool(renderable.no_wrap)
            console.print(renderable, soft_wrap=as_it_is)
    return capture.get()


def shown(text: str, *, keep: str = "") -> str:
    r"""Text that cannot drive the terminal: control characters appear as escapes.

    keep: control characters to leave as they are.

    >>> shown("red: \x1b[31m")
    'red: \\x1b[31m'
    """
    return _CONTROL.sub(lambda match: _escape(match[0], keep), text)


def _escape(character: str, keep: str) -> str:
    if character in keep:
        return character
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def _console(stream: TextIO, file: TextIO | None = None) -> Console:
    """A console as wide and as colourful as a stream; without ``file`` it cannot write to it.

    rich flushes the stream it has whenever it has laid something out, and has its own way with
    an error of that.
    """
    watched = stream.isatty()
    # Off a terminal rich would take 80 columns; so do we, but COLUMNS is heard everywhere.
    width = None if watched else shutil.get_terminal_size((80, 24)).columns
    return Console(
        file=file or io.StringIO(),
        force_terminal=True if watched else None,
        theme=_THEME,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _unwritten(error: OSError) -> Exception:
    if is_broken_pipe(error):
        return BrokenPipeError(*error.args)
    return ResourceError("cannot write", where="standard output", why=error.strerror or str(error))


def is_broken_pipe(error: OSError) -> bool:
    """Whether the reader of our output has left. Windows says EINVAL for it."""
    return isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == 22)
