"""All output for people: results to stdout, everything else to stderr.

rich lays out the text. It is written here, so that a full disk, a closed pipe and a terminal
without UTF-8 are each handled in one place.
"""

import contextlib
import errno
import io
import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from rich.theme import Theme

from textgen.errors import ResourceError, TextgenWarning

_THEME = Theme(
    {
        "heading": "bold",
        "label": "dim",
        "faint": "dim",
        "accent": "cyan",
        "good": "green",
        "warning": "yellow",
        "unknown": "bold yellow",
        "copied": "underline yellow",
        "error": "bold red",
    }
)
_CONTROLS = "\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROL = re.compile(f"[{_CONTROLS}]")
# Characters that a terminal does not show (Unicode's Default_Ignorable_Code_Point). In scripts that
# join letters, and in emoji, a joiner and a variation selector are seen by what they do.
_UNSEEN = (
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
_JOINED = "[\u0590-\u1fff\u2190-\u303f\ufe0f\U0001f000-\U0001faff]"
HIDDEN = re.compile(
    f"[{_CONTROLS}{_UNSEEN}]|(?<!{_JOINED})[\u200c\u200d]|[\u200c\u200d](?!{_JOINED})"
    "|(?<![#*0-9\u0100-\U000dffff])[\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
"""What is escaped wherever text is shown: control characters, and characters that are invisible."""


class Drawn(str):
    """Text with escape codes of ours in it, in which whatever is of others has been ``shown``."""


class _SafeConsole(Console):
    """Everything that is drawn passes here: no text has control characters but ours."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            # Control segments are rich's own: they move the cursor of a display.
            yield (
                segment
                if segment.control
                else Segment(shown(segment.text, keep="\n\t"), segment.style)
            )


_quiet = _verbose = False


def prepare_streams() -> None:
    """Make stdout and stderr print any text, whatever the locale is.

    What UTF-8 cannot encode (half a surrogate pair, from a file name in another encoding) is
    written as an escape, which is also valid inside a JSON string.

    Raises:
        ResourceError: stdout is closed.
    """
    if sys.stderr is None:  # closed by the shell: "2>&-"
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - open to the end
    if sys.stdout is None:
        raise ResourceError("cannot write", where="standard output", why="it is closed")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def set_verbosity(*, quiet: bool = False, verbose: bool = False) -> None:
    """Say how much ``inform``, ``note`` and ``detail`` write; errors and warnings stay."""
    global _quiet, _verbose
    _quiet, _verbose = quiet, verbose


def is_quiet() -> bool:
    return _quiet


def out_console() -> Console:
    """A console that lays out results for the current stdout; ``emit`` writes them."""
    return _console(sys.stdout)


def live_console() -> Console:
    """A console that writes to stderr itself, as a display that changes in place must."""
    return _console(sys.stderr, file=sys.stderr)


def is_terminal(stream: TextIO) -> bool:
    """Whether this stream is a terminal that can move its cursor."""
    try:
        watched = stream.isatty()
    except ValueError:  # closed
        return False
    return watched and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def emit(*texts: str) -> None:
    """Write results to stdout; on a terminal without delay, and so that no text can drive it.

    Raises:
        ResourceError: It cannot be written.
        BrokenPipeError: The reader of the pipe has ended.
    """
    try:
        watched = sys.stdout.isatty()
        for text in texts:
            safe = not watched or isinstance(text, Drawn)
            sys.stdout.write(text if safe else shown(text, keep="\n\t"))
        if watched:
            sys.stdout.flush()
    except OSError as error:
        raise _unwritten(error) from error


def finish_output() -> None:
    """Write what is still buffered; raises as ``emit`` does.

    Otherwise a full disk is noticed only when Python exits, too late for an exit code.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _unwritten(error) from error


def abandon_output() -> None:
    """Discard what stdout still buffers, so that the exit of Python does not fail on it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def show(*renderables: RenderableType, widest: int | None = None, ended: bool = True) -> None:
    """Write results to stdout, laid out for it, in no more than ``widest`` columns.

    ended: whether the last line ends.
    """
    console = out_console()
    console.width = min(console.width, widest or console.width)
    text = str(laid_out(console, *renderables))
    if not ended:
        text = text.removesuffix("\n")
    if not console.is_terminal:
        text = "\n".join(line.rstrip(" ") for line in text.split("\n"))
    emit(Drawn(text))


def say(*renderables: RenderableType) -> None:
    """Write to stderr; that it cannot be written is no error."""
    console = _console(sys.stderr)
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(laid_out(console, *renderables))
        sys.stderr.flush()


def inform(*renderables: RenderableType) -> None:
    """Write to stderr what is neither result, error nor warning, unless --quiet was given."""
    if not _quiet:
        say(*renderables)


def note(message: str) -> None:
    """Write a note to stderr; one with a command is never broken, so that it can be copied."""
    in_one_line = "textgen " in message or not is_terminal(sys.stderr)
    inform(Text.assemble(("note: ", "accent"), (shown(message), "label"), no_wrap=in_one_line))


def detail(message: str) -> None:
    """Write a note that only --verbose asks for."""
    if _verbose:
        note(message)


@contextlib.contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Write the warnings of textgen as notes; those of other packages are left as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", TextgenWarning)
        show_other: Callable[..., None] = warnings.showwarning

        def show_warning(message: Any, category: type[Warning], *rest: Any, **where: Any) -> None:
            if issubclass(category, TextgenWarning):
                note(str(message))
            else:
                show_other(message, category, *rest, **where)

        warnings.showwarning = show_warning
        yield


def say_error(line: str) -> None:
    """Write the one line of a command that failed."""
    say(Text.assemble("textgen: ", ("error", "error"), f": {shown(line)}", no_wrap=True))


def say_plain(text: str) -> None:
    """Lines on stderr as they are, such as a traceback."""
    say(Text(shown(text, keep="\n\t"), no_wrap=True))


def laid_out(console: Console, *renderables: RenderableType) -> Drawn:
    """The characters, escape codes included, that draw these on the console.

    A Text that is marked ``no_wrap`` keeps its lines as they are, however long.
    """
    with console.capture() as capture:
        for renderable in renderables:
            as_it_is = isinstance(renderable, Text) and bool(renderable.no_wrap)
            console.print(renderable, soft_wrap=as_it_is)
    return Drawn(capture.get())


def shown(text: str, *, keep: str = "") -> str:
    r"""Text that cannot drive the terminal, and in which nothing is invisible: see ``HIDDEN``.

    keep: control characters to leave as they are.

    >>> shown("red: \x1b[31m"), shown("\ufeffa\u200bb")
    ('red: \\x1b[31m', '\\ufeffa\\u200bb')
    """
    return HIDDEN.sub(lambda found: found[0] if found[0] in keep else escape(found[0]), text)


def without_controls(text: str) -> str:
    """Text with escapes for control characters alone, as in the layouts of other tools."""
    return _CONTROL.sub(lambda found: escape(found[0]), text)


def shown_in_json(line: str) -> str:
    r"""JSON with the same value, in which whatever cannot be seen is a ``\u`` escape."""
    return HIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], line)


def escape(character: str) -> str:
    r"""The escape of a character in Python: ``\n``, ``\x1b``, ``\u202e``."""
    return character.encode("unicode_escape").decode()


def _console(stream: TextIO, file: TextIO | None = None) -> Console:
    """A console with the width and colours of a stream. Without ``file`` it only lays out.

    rich flushes its stream after every layout, and handles the errors of that in its own way.
    """
    watched = stream.isatty()
    # Without a terminal rich takes 80 columns; here COLUMNS counts everywhere.
    width = None if watched else shutil.get_terminal_size((80, 24)).columns
    return _SafeConsole(
        file=file or io.StringIO(),
        force_terminal=True if watched else None,
        theme=_THEME,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _unwritten(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
        return BrokenPipeError(*error.args)  # the reader of the pipe has ended
    return ResourceError("cannot write", where="standard output", why=error.strerror or str(error))
