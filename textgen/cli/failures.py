"""How a command ends if something goes wrong: one line on stderr, an exit code, and signals."""

import contextlib
import difflib
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import typer

from textgen.config import closest, suggestion
from textgen.errors import OtherProcessError, ResourceError, TextgenError, UsageError
from textgen.presentation import console

_SIGPIPE = 13  # which Windows does not define
_ALIKE, _CLEARLY = 0.75, 0.1  # an option of another command: how similar, by how much more

FOREIGN_NAMES = {
    "-b": "--batch-size",
    "-e": "--epochs",
    "-f": "--format",
    "-l": "--length",
    "-m": "--model",
    "-n": "--length or --count",
    "-o": "--out",
    "-p": "--prompt",
    "-s": "--seed",
    "-t": "--temperature",
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
    "--output": "--out or --format",
    "--n-layers": "--hidden-size N,N",
    "--json": "--format json",
    "--tsv": "--format tsv",
    "--max-length": "--length",
    "--max-tokens": "--length",
    "--max-epochs": "--epochs",
    "--grad-clip": "--clip",
    "--rnn-size": "--hidden-size",
    "--val-frac": "--valid-fraction",
    "--primetext": "--prompt",
}
"""Names of options in other tools, and ours, where the spelling does not lead to them."""

FOREIGN_COMMANDS = {
    "chat": "sample CHECKPOINT --interactive",
    "eval": "score",
    "evaluate": "score",
    "finetune": "train --init-from CHECKPOINT",
    "fit": "train",
    "generate": "sample",
    "perplexity": "score",
    "resume": "train --out DIR --resume",
    "version": "--version",
}
"""What people type in other tools, and the command of ours."""

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


def report(error: BaseException, arguments: list[str], command: Any = None) -> int:
    """Write one line on what went wrong; with ``--debug`` also the traceback. The exit code.

    Args:
        command: The group of all commands; advice on options that the called one lacks is left
            out.
    """
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
        options = _options(command, arguments) if known.alternatives else ()
        console.say_error(known.for_command(options) if known.alternatives else str(known))
    return known.exit_code


def _options(command: Any, arguments: list[str]) -> set[str]:
    """The options of the command that was called."""
    for word in arguments:
        if hasattr(command, "get_command") and not word.startswith("-"):
            command = command.get_command(None, word)
    return {name for each in getattr(command, "params", ()) for name in each.opts}


def _as_textgen_error(error: BaseException, arguments: list[str]) -> TextgenError:
    if isinstance(error, TextgenError):
        return error
    if isinstance(error, _ClickError):
        return _usage_error(error, arguments)
    if _is_out_of_memory(error):
        return ResourceError(
            "out of memory",
            fix=(
                *(f"lower --{name}" for name in ("batch-size", "hidden-size", "sequence-length")),
                *(f"lower --{name}" for name in ("count", "beams", "jobs")),
                "give shorter texts",
            ),
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
        foreign = FOREIGN_COMMANDS.get(typed) if ctx.parent is None else None
        fix = f"did you mean textgen {foreign}?" if foreign else suggestion(typed, known)
        listed = see if ctx.parent is None else f"there are {', '.join(known)}"
        return UsageError(f"no such command: {typed}", fix=fix or listed)
    message = error.format_message().strip().rstrip(".")
    extra = re.fullmatch(r"Got unexpected extra argument\S* \((.*)\)", message, re.DOTALL)
    if extra is not None:
        fix = f"quote a text that has spaces, or see {see.removeprefix('see ')}"
        if ctx is not None and "--prompt" in _option_names(ctx.command, ctx):
            fix = "did you mean --prompt?"
        return UsageError(f"unexpected argument: {extra[1]}", fix=fix)
    return UsageError(message[:1].lower() + message[1:], fix=see)


def _no_such_option(option: str, arguments: list[str], ctx: Any, see: str) -> UsageError:
    # Typer names only the first letter that it does not know of -length, or of -quiet.
    words = [each.partition("=")[0] for each in arguments]
    if not option.startswith("--"):
        one_dash = [each for each in words if re.match("-[^-]", each) and option[1:] in each]
        option = option if option in words else next(iter(one_dash), option)
    # In char-rnn and torch-rnn options have one dash and underscores: -rnn_size.
    wanted = option if len(option) == 2 else "--" + option.lstrip("-").replace("_", "-")
    known = _option_names(ctx.command, ctx) if ctx is not None else []
    elsewhere = _options_of_other_commands(ctx) if ctx is not None else {}
    foreign = FOREIGN_NAMES.get(wanted, "").split(" or ")
    here = " or ".join(each for each in foreign if each.split(" ")[0] in known)
    there = next((each for each in foreign if each in elsewhere), None)
    if not (here or there):
        found = closest(wanted, known), closest(wanted, list(elsewhere))
        here, there = _closer(wanted, *found)
    if here or not there:
        return UsageError(f"no such option: {option}", fix=f"did you mean {here}?" if here else see)
    has = "has" if len(elsewhere[there]) == 1 else "have"
    return UsageError(
        f"no such option: {option}", fix=f"{', '.join(elsewhere[there][:3])} {has} {there}"
    )


def _closer(typed: str, here: str | None, there: str | None) -> tuple[str, str | None]:
    """The option of the command, or that of another one if it is clearly more similar."""
    here = here or ""
    if there is None or here.startswith(typed):
        return here, None
    ours, theirs = (difflib.SequenceMatcher(None, typed, name).ratio() for name in (here, there))
    alike = there.startswith(typed) or theirs > _ALIKE
    return ("", there) if alike and theirs > ours + _CLEARLY else (here, None)


def _option_names(command: Any, ctx: Any) -> list[str]:
    params = [each for each in command.get_params(ctx) if not getattr(each, "hidden", False)]
    return [name for each in params for name in (*each.opts, *each.secondary_opts)]


def _options_of_other_commands(ctx: Any) -> dict[str, list[str]]:
    """The commands that have an option, by its name, those of a group among them."""
    found: dict[str, list[str]] = {}

    def add(command: Any, path: str) -> None:
        for name in _option_names(command, ctx):
            if path != ctx.command_path:
                found.setdefault(name, []).append(path)
        for name in getattr(command, "commands", ()):
            add(command.get_command(ctx, name), f"{path} {name}")

    add(ctx.find_root().command, "textgen")
    return found


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

    def disarm(self) -> None:
        """Nothing is left to save: the next signal ends the command."""
        self._armed = False

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
def cleaning_up() -> Iterator[None]:
    """End the block on SIGTERM or SIGHUP by SystemExit, so that temporary files are removed.

    A second one ends the process at once. A signal that is ignored stays so, as with nohup.
    """
    names = ("SIGTERM", "SIGHUP")  # Windows has one of them
    wanted = [getattr(signal, name) for name in names if hasattr(signal, name)]
    in_main = threading.current_thread() is threading.main_thread()
    ours = [each for each in wanted if in_main and signal.getsignal(each) is signal.SIG_DFL]

    def end(signum: int, frame: FrameType | None) -> None:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)
        raise SystemExit(exit_code(signum))

    try:
        for each in ours:
            signal.signal(each, end)
        yield
    finally:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)


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
