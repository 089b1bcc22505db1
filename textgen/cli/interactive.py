"""``textgen sample --interactive``: a person and a model write by turns."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textgen.cli.parsing import typed_text, whole_number
from textgen.config import closest
from textgen.errors import TextgenError, UsageError

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel
    from textgen.studies.session import Session

_PROMPT = "› "
_MOST_CHOICES = 8

HELP = """\
Write something and the model goes on from it; an empty line lets it go on by itself.
  /temperature X   below 1 keeps to the likely, above 1 strays
  /length N        how many tokens it writes at a time
  /back            take back the last piece, yours or the model's
  /again           take back what the model wrote, and let it try again
  /choose [N]      choose among the N likeliest next words
  /text            the text so far
  /new             begin a new text
  /quit            leave; so does Ctrl-D. Ctrl-C stops the model, and not the program
"""


def converse(model: "LanguageModel", prompt: str, options: dict[str, Any]) -> None:
    """Take turns until the person leaves."""
    from textgen.presentation import console
    from textgen.studies.session import Session

    session = Session(model, **options)
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives input() its history, where there is one
    console.note("a line to go on from, or /help")
    if prompt:
        session.add(prompt)
        console.emit(console.shown(prompt, keep="\n\t"))
        _write(session)
    while (line := _read()) is not None:
        try:
            if not _obey(session, line):
                return
        except TextgenError as error:
            console.say_error(str(error))


def _read(prompt: str = _PROMPT) -> str | None:
    """A line that the person typed; None where there are no more."""
    from textgen.presentation import console

    console.finish_output()
    try:
        return typed_text("input", input(prompt))
    except EOFError:
        console.emit("\n")
        return None
    except KeyboardInterrupt:
        console.emit("\n")
        return ""


def _obey(session: "Session", line: str) -> bool:
    """Do what a line says; False: leave."""
    if not line.startswith("/"):
        session.add(line)
        _write(session)
        return True
    name, _, value = line[1:].partition(" ")
    if name in ("quit", "q"):
        return False
    command = _COMMANDS.get(name) or _COMMANDS.get(_ALIASES.get(name, ""))
    if command is None:
        known = [*_COMMANDS, "quit"]
        meant = closest(name, known)
        fix = f"did you mean /{meant}?" if meant else "see /help"
        raise UsageError(f"no such command: /{name}", fix=fix)
    command(session, value.strip())
    return True


def _write(session: "Session") -> None:
    from textgen.presentation import console

    with contextlib.suppress(KeyboardInterrupt):  # what it wrote until then stays
        session.write(lambda piece: console.emit(console.shown(piece, keep="\n\t")))
    console.emit("\n")


def _temperature(session: "Session", value: str) -> None:
    session.set(temperature=value or None)


def _length(session: "Session", value: str) -> None:
    try:
        session.set(length=int(value))
    except ValueError:
        raise UsageError(f"/length needs a whole number, got {value!r}") from None


def _back(session: "Session", value: str) -> None:
    from textgen.presentation import console

    taken = session.take_back()
    if taken is None:
        raise UsageError("there is nothing to take back")
    console.note(f"took back {console.shown(taken.text[:60])!r}")


def _again(session: "Session", value: str) -> None:
    if session.turns and session.turns[-1].sample is not None:
        session.take_back()
    _write(session)


def _choose(session: "Session", value: str) -> None:
    from textgen.presentation import console
    from textgen.presentation.predictions import numbered_choices

    most = whole_number("/choose", least=1)(value) if value else _MOST_CHOICES
    while True:
        predicted = session.predict(most)
        console.emit(numbered_choices(predicted))
        line = _read(f"1 to {len(predicted.choices)}, or nothing › ")
        if not line or not line.isdigit() or not 1 <= int(line) <= len(predicted.choices):
            return
        session.choose(predicted.choices[int(line) - 1])
        _text(session, "")


def _text(session: "Session", value: str) -> None:
    from textgen.presentation import console

    console.emit(console.shown(session.text, keep="\n\t") + "\n")


def _new(session: "Session", value: str) -> None:
    session.turns.clear()


def _help(session: "Session", value: str) -> None:
    from textgen.presentation import console

    console.emit(HELP)


_COMMANDS: dict[str, Callable[["Session", str], None]] = {
    "temperature": _temperature,
    "length": _length,
    "back": _back,
    "again": _again,
    "choose": _choose,
    "text": _text,
    "new": _new,
    "help": _help,
}
_ALIASES = {"t": "temperature", "b": "back", "a": "again", "c": "choose", "h": "help"}
