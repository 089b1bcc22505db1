"""``textgen sample``: generate text, also interactively, in turns with the user."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import typer

from textgen.cli.options import (
    Checkpoint,
    DeviceOption,
    ThreadsOption,
    choice_option,
    command_options,
    typed_text,
    whole_number,
)
from textgen.config import NoveltyConfig, SamplingConfig, closest, option_names
from textgen.errors import TextgenError, UsageError, named
from textgen.language_model import LanguageModel
from textgen.results import Choice, Prediction, Sample
from textgen.tokenizers.base import EOS

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

    session = Session(model, **options)
    with contextlib.suppress(ImportError):
        pass
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
    from textgen.presentation.samples import numbered_choices

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


Format = Literal["text", "json"]

EXAMPLES = """
    Let it write five hundred tokens:
    textgen sample checkpoints/mine
    Go on from a beginning, keeping to what is likely:
    textgen sample checkpoints/mine --prompt "Once upon" --temperature 0.7
    A hundred single sentences, for a script:
    textgen sample checkpoints/mine --count 100 --sentences 1 --format json
"""


PromptOption = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help="What to go on from; - reads prompts from stdin, one a line.",
        show_default=False,
        rich_help_panel="Text",
    ),
]
PromptFileOption = Annotated[
    str | None,
    typer.Option(
        "--prompt-file",
        metavar="FILE",
        help="A file whose whole text is the prompt.",
        show_default=False,
        rich_help_panel="Text",
    ),
]
InteractiveOption = Annotated[
    bool,
    typer.Option(
        "--interactive",
        "-i",
        help="Write by turns: you a line, the model the next.",
        rich_help_panel="Text",
    ),
]
CorpusOption = Annotated[
    list[str] | None,
    typer.Option(
        "--corpus",
        metavar="PATH",
        help="Where the training text is, if it was moved; may be given again.",
        show_default=False,
        rich_help_panel="Novelty",
    ),
]
FormatOption = Annotated[
    Format, choice_option("--format", Format, "Text, or a JSON object for each sample.")
]


@command_options(SamplingConfig, NoveltyConfig)
def sample(
    *,
    checkpoint: Checkpoint,
    prompt: PromptOption = None,
    prompt_file: PromptFileOption = None,
    interactive: InteractiveOption = False,
    given: dict[str, Any],
    corpus: CorpusOption = None,
    output: FormatOption = "text",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Let a trained model write text.

    The text appears as it is written. It begins with the prompt, which on a terminal is bold;
    several samples are set apart by a line of dashes. With --format json every sample is one
    object, as soon as it is finished: text (what follows the prompt), its log-probability under
    the model, and why it ended.

    The same seed gives the same text. Each sample depends on the seed and its own number
    alone, so a larger --count only adds to what a smaller one wrote.
    """
    from textgen.language_model import LanguageModel
    from textgen.presentation import console, records
    from textgen.presentation.samples import SampleWriter

    novelty = NoveltyConfig.from_options(given)
    judges = novelty != NoveltyConfig() or bool(corpus)
    if interactive and (prompt == "-" or output == "json" or "count" in given or judges):
        raise UsageError("--interactive writes one text as it comes, and reads stdin itself")
    prompts = _prompts(prompt, prompt_file)
    options = {name: given[name] for name in given if name in option_names(SamplingConfig)}
    model = LanguageModel.load(checkpoint, device=device, threads=threads)
    for message in model.notes:
        console.note(message)
    if interactive:
        converse(model, prompts[0], options)
        return
    writer = SampleWriter(len(prompts) * SamplingConfig.from_options(options).count)
    if judges:
        samples = _novel(model, prompts, options, corpus or [], novelty)
    else:
        on_text = writer.piece if writer.streams and output == "text" else None
        samples = model.samples(prompts, on_text=on_text, **options)
    warned = set[str]()
    for written in samples:
        if written.prompt_unknown and written.prompt not in warned:
            warned.add(written.prompt)
            console.note(f"the model does not know {named(written.prompt_unknown)} of the prompt")
        if output == "json":
            records.emit_record(records.sample_record(written))
        else:
            writer.sample(written)
    writer.end()


def _novel(
    model: "LanguageModel",
    prompts: list[str],
    options: dict[str, Any],
    corpus: list[str],
    asked: NoveltyConfig,
) -> "Iterator[Sample]":
    """Samples with their novelty; says when the index is made, which takes a while."""
    from textgen.presentation import console
    from textgen.sampling import novelty

    if not novelty.is_indexed(model):
        console.note("indexing the training text, this once")
    return novelty.novel_samples(
        model,
        prompts,
        index=novelty.open_index(model, corpus),
        least=asked.copied_length,
        min_novelty=asked.min_novelty or 0.0,
        **options,
    )


def _prompts(prompt: str | None, file: str | None) -> list[str]:
    """What the samples go on from. Files are read by the rules that a corpus is read by."""
    from textgen.data.text import sentences

    if prompt is not None and file is not None:
        raise UsageError("--prompt and --prompt-file cannot both be given", fix="leave one out")
    if file is not None:
        return ["\n".join(sentences(file))]
    if prompt == "-":
        return list(sentences("-"))
    return [typed_text("--prompt", prompt or "")]


@dataclass(frozen=True)
class Turn:
    """A piece of the text. sample: as the model wrote it; None: it is the person's."""

    text: str
    sample: Sample | None = None


class Session:
    """The text so far, as the turns that made it."""

    def __init__(self, model: LanguageModel, **options: Any) -> None:
        """options: the fields of SamplingConfig; ``length`` is that of each turn."""
        from textgen.sampling.writer import check_is_causal

        check_is_causal(model.model)
        self._model, self._terminator = model, model.tokenizer.terminator
        self.config = SamplingConfig.from_options(options)
        if self.config.beams is not None:
            raise UsageError("--beams cannot write as one watches", fix="leave it out")
        self.turns: list[Turn] = []
        self._written = 0  # turns of the model's, those taken back counted: each has its own seed

    @property
    def text(self) -> str:
        return "".join(turn.text for turn in self.turns)

    def set(self, **options: Any) -> None:
        """Change how the model writes from now on. Raises UsageError, and changes nothing."""
        changed = SamplingConfig.from_options({**self.config.to_json(), **options})
        self.config = replace(changed, count=1)

    def add(self, text: str) -> None:
        """A turn of the person's."""
        if text:
            self.turns.append(Turn(text))

    def write(self, on_text: Callable[[str], None]) -> Sample:
        """A turn of the model's; what it has written is kept though it is interrupted."""
        pieces: list[str] = []

        def hear(index: int, prompt: str, piece: str) -> None:
            pieces.append(piece)
            on_text(piece)

        options = self.config.to_json() | {"seed": (self.config.seed + self._written) % 2**63}
        self._written += 1
        try:
            (sample,) = self._model.samples(self.text, on_text=hear, **options)
        except KeyboardInterrupt:
            self.add("".join(pieces))
            raise
        # The <EOS> or the stop string that ended it is part of what was said.
        end = self._terminator if sample.finish_reason == "eos" else sample.stop or ""
        self.turns.append(Turn(sample.text + end, sample))
        return sample

    def take_back(self) -> Turn | None:
        """Forget the last turn; None: there is none."""
        return self.turns.pop() if self.turns else None

    def choose(self, choice: Choice) -> None:
        """A turn of the person's: what was predicted."""
        self.add(self._terminator if choice.id == EOS else choice.text)

    def predict(self, most: int) -> Prediction:
        """The likeliest words to go on with."""
        return self._model.predict(self.text, words=most)
