"""How a command ends if something goes wrong: one line on stderr, an exit code, and signals."""

import contextlib
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import typer

from textgen.config import suggestion
from textgen.errors import OtherProcessError, ResourceError, TextgenError, UsageError
from textgen.presentation import console

_SIGPIPE = 13  # which Windows does not define

FOREIGN_NAMES = {
    "--nhid": "--hidden-size",
    "--emsize": "--embedding-size",
    "--num-layers": "--hidden-size N,N",
    "--nlayers": "--hidden-size N,N",
    "--bptt": "--sequence-length",
    "--block-size": "--sequence-length",
    "--lr": "--learning-rate",
    "--max-iters": "--steps",
    "--max-new-tokens": "--length",
    "--num-samples": "--count",
    "--start": "--prompt",
    "--start-text": "--prompt",
    "--prefix": "--prompt",
    "--output": "--format",
}
"""Names of options in other tools, and ours, where the spelling does not lead to them."""

_OUT_OF_MEMORY = (
    "allocate memory",  # PyTorch's allocator on Linux and macOS
    "not enough memory",  # and on Windows
    "out of memory",  # CUDA and MPS
    "alloc_failed",  # cuBLAS and cuDNN
    "bad_alloc",  # C++, as oneDNN passes it on
)

# Newer releases of Typer include click, older ones import it: these are its exceptions in both.
_ClickUsageError: Any = typer.BadParameter.__base__
_ClickError: Any = _ClickUsageError.__base__


def report(error: BaseException, arguments: list[str]) -> int:
    """Write one line on what went wrong; with ``--debug`` also the traceback. The exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return exit_code(signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        return exit_code(_SIGPIPE)
    if isinstance(error, OtherProcessError):
        return error.code
    # From the arguments themselves: the options may not have been parsed.
    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--debug" in before_dashes:
        console.say_plain("".join(traceback.format_exception(error)).rstrip())
    known = _as_textgen_error(error, arguments)
    # An error of the command or the run is the same in all processes: one of them writes it.
    from textgen.training.ranks import is_first_process

    if is_first_process() or isinstance(known, ResourceError):
        console.say_error(str(known))
    return known.exit_code


def _as_textgen_error(error: BaseException, arguments: list[str]) -> TextgenError:
    if isinstance(error, TextgenError):
        return error
    if isinstance(error, _ClickError):
        return _usage_error(error, arguments)
    if _is_out_of_memory(error):
        return ResourceError(
            "out of memory", fix="lower --batch-size, --hidden-size or --sequence-length"
        )
    if isinstance(error, OSError):
        where = error.filename or "standard input or output"
        return ResourceError("cannot read or write", where=where, why=error.strerror or str(error))
    return ResourceError(
        f"unexpected {type(error).__name__}",
        why=str(error) or None,
        fix="this is a bug in textgen: run it again with --debug and report the traceback",
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """Recognized by its name: importing torch for its exception would be slow, and may fail."""
    if isinstance(error, MemoryError) or "OutOfMemoryError" in type(error).__name__:
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(each in text for each in _OUT_OF_MEMORY)


def _usage_error(error: Any, arguments: list[str]) -> UsageError:
    """An error of Typer in the form of ours; Typer's own message if there is no better one."""
    ctx: Any = getattr(error, "ctx", None)
    typed_command = ["textgen", *(each for each in arguments[:1] if not each.startswith("-"))]
    see = f"see {ctx.command_path if ctx is not None else ' '.join(typed_command)} --help"
    option = getattr(error, "option_name", None)
    kind = type(error).__name__
    if kind == "NoSuchOption":
        return _no_such_option(str(option), arguments, ctx, see)
    if kind == "BadOptionUsage" and "requires" in error.format_message():
        return UsageError(f"{option} needs a value", fix=see)
    if kind == "MissingParameter" and error.param is not None:
        param = error.param
        name = param.metavar if param.param_type_name == "argument" else param.opts[0]
        return UsageError(f"missing {name}", fix=see)
    if ctx is not None and "No such command" in error.message:
        words = [each for each in arguments if not each.startswith("-")]
        typed = words[len(ctx.command_path.split()) - 1]  # after "textgen", or "textgen plot"
        known = list(getattr(ctx.command, "commands", ()))
        return UsageError(f"no such command: {typed}", fix=suggestion(typed, known) or see)
    message = error.format_message().strip().rstrip(".")
    extra = re.fullmatch(r"Got unexpected extra argument\S* \((.*)\)", message, re.DOTALL)
    if extra is not None:
        return UsageError(f"unexpected argument: {extra[1]}", fix=see)
    return UsageError(message[:1].lower() + message[1:], fix=see)


def _no_such_option(option: str, arguments: list[str], ctx: Any, see: str) -> UsageError:
    # Typer names only the first letter of -length.
    words = [each.partition("=")[0] for each in arguments]
    long = option.startswith("--")
    typed = next((w for w in words if w == option or (not long and w.startswith(option))), option)
    params = ctx.command.get_params(ctx) if ctx is not None else []
    names = [name for each in params for name in (*each.opts, *each.secondary_opts)]
    known = [name for name in names if name.startswith("--")]
    # In char-rnn and torch-rnn options have one dash and underscores: -rnn_size.
    wanted = "--" + typed.lstrip("-").replace("_", "-")
    foreign = FOREIGN_NAMES.get(wanted)
    if foreign is not None and foreign.split()[0] in known:
        fix = f"did you mean {foreign}?"
    else:
        fix = suggestion(wanted, known) or see
    return UsageError(f"no such option: {typed}", fix=fix)


def exit_quietly() -> None:
    """Write what is buffered, or discard it, so that nothing fails when Python shuts down."""
    try:
        if sys.stdout is not None:
            console.finish_output()
    except (OSError, ResourceError, ValueError):
        console.abandon_output()
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.stderr = None


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Records the first SIGINT or SIGTERM, so that training can save and stop.

    Until ``arm`` is called there is nothing to save, and the first signal ends the command. A
    second signal ends it in any case, except in one of several processes: there the second one
    comes from torchrun, which forwards the signal that all processes received.

    Args:
        on_request: Called once with the signal, inside the signal handler: it must not write.
        among: Whether this is one of several processes. Until ``arm`` their signals have the
            default handlers, since they may be waiting for each other.
    """

    def __init__(
        self, on_request: Callable[[int], None] | None = None, *, among: bool = False
    ) -> None:
        self.signum: int | None = None
        self._armed = False
        self._on_request, self.among = on_request, among

    def __call__(self) -> int | None:
        return self.signum

    def arm(self) -> None:
        if self.among and not self._armed:
            for signum in _SIGNALS:
                signal.signal(signum, self.handle)
        self._armed = True

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and self.among:
            return
        if self.signum is not None or not self._armed:
            raise SystemExit(exit_code(signum))
        self.signum = signum
        if self._on_request is not None:
            self._on_request(signum)


def exit_code(signum: int) -> int:
    """The exit code of a program ended by this signal: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + signum


@contextlib.contextmanager
def listening(request: StopRequest) -> Iterator[None]:
    """Handle both signals by ``request``, and restore the handlers afterwards."""
    previous: dict[signal.Signals, Any] = {}
    try:
        for signum in _SIGNALS:
            handler = signal.SIG_DFL if request.among else request.handle
            previous[signum] = signal.signal(signum, handler)
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
