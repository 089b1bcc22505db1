"""``textgen sample``: generate text, also interactively, in turns with the user."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from textgen.cli import options
from textgen.cli.options import (
    choice_option,
    command_options,
    typed_text,
    value_option,
    whole_number,
)
from textgen.config import NoveltyConfig, SamplingConfig, flag, suggestion
from textgen.data.lines import joined_word
from textgen.errors import TextgenError, TextgenWarning, UsageError, not_both, quoted
from textgen.presentation import console, records
from textgen.presentation.samples import RUNNING, SampleWriter, numbered_choices
from textgen.results import Choice, Sample

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel

Format = Literal["text", "json"]

EXAMPLES = """
    Generate five hundred tokens:
    textgen sample checkpoints/mine
    Continue a prompt, preferring likely tokens:
    textgen sample checkpoints/mine --prompt "Once upon" --temperature 0.7
    Generate a hundred single sentences, for a script:
    textgen sample checkpoints/mine --count 100 --sentences 1 --format json
"""

PromptOption = Annotated[
    str | None,
    value_option(
        "--prompt",
        "TEXT",
        "The text to continue; - reads prompts from stdin, one per line.",
        panel="Text",
    ),
]
PromptFileOption = Annotated[
    str | None,
    value_option("--prompt-file", "FILE", "A file whose content is the prompt.", panel="Text"),
]
InteractiveOption = Annotated[
    bool,
    typer.Option(
        "--interactive",
        "-i",
        help="Write in turns: you type a line, the model continues.",
        rich_help_panel="Text",
    ),
]
CorpusOption = Annotated[
    list[str] | None,
    value_option(
        "--corpus",
        "PATH",
        "Where the training text is, if it was moved; may be repeated.",
        panel="Novelty",
    ),
]
FormatOption = Annotated[
    Format, choice_option("--format", Format, "Text, or a JSON object per sample.")
]


@command_options
def sample(
    *,
    checkpoint: options.Checkpoint,
    prompt: PromptOption = None,
    prompt_file: PromptFileOption = None,
    interactive: InteractiveOption = False,
    config: SamplingConfig,
    novelty: NoveltyConfig,
    typed: frozenset[str],
    corpus: CorpusOption = None,
    output: FormatOption = "text",
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
) -> None:
    """Generate text with a trained model.

    The text appears as it is generated, after the prompt, which is bold on a terminal. A line of
    dashes separates samples. With --format json each sample is one object, written as soon as it
    is finished: its text (without the prompt), its log-probability under the model, and why it
    ended.

    The same seed gives the same text. A sample depends only on the seed and its own number, so a
    larger --count adds samples and changes none.
    """
    from textgen.inference.native import kernels
    from textgen.language_model import LanguageModel

    measures_novelty = novelty != NoveltyConfig() or bool(corpus)
    if interactive:
        own = typed & (NoveltyConfig.fields().keys() | {"count", "beams"})
        excluded = {
            "--prompt -": prompt == "-",
            "--format json": output == "json",
            "--corpus": bool(corpus),
            **dict.fromkeys(map(flag, sorted(own)), True),
        }
        for option, is_given in excluded.items():
            if is_given:
                raise not_both("--interactive", option, "it generates one text as it is typed")
    prompts = _prompts(prompt, prompt_file)
    model = LanguageModel.load(checkpoint, device=device, threads=threads)
    options.say_notes(model)
    if interactive:
        converse(Session(model, config), prompts[0])
        return
    writer = SampleWriter(len(prompts) * config.count)
    if measures_novelty:
        from textgen.sampling.novelty import is_indexed, novel_samples, open_index

        if not is_indexed(model.path):
            console.note("indexing the training text, this once")
        index = open_index(model.path, model.header, corpus or [])
        samples = novel_samples(
            lambda accept: model.samples(prompts, config, accept=accept), index, novelty
        )
    else:
        on_text = writer.piece if writer.streams and output == "text" else None
        samples = model.samples(prompts, config, on_text=on_text)
    warned, continued, cut = set[str](), None, 0
    for each in samples:
        continued = continued or joined_word(each.prompt, each.text)
        cut += each.finish_reason == "length"
        if each.prompt_unknown and each.prompt not in warned:
            warned.add(each.prompt)
            console.note(f"the model does not know {quoted(each.prompt_unknown)} in the prompt")
        if output == "json":
            # With 8-bit weights it is not that of the same model.
            scored = None if config.fast else model.score_sample(each)
            records.emit_record(records.sample_record(each, scored))
        else:
            writer.sample(each)
    writer.end()
    if continued is not None:
        console.note(
            f"the text continues the last word of the prompt, as in {continued!r}; end the prompt"
            " with a space to begin a new word"
        )
    if cut and config.sentences is not None and "length" not in typed:
        console.note(_cut_note(cut, len(prompts) * config.count, config))
    if (of_compiled := kernels.note()) is not None:
        console.note(of_compiled)


def _cut_note(cut: int, samples: int, config: SamplingConfig) -> str:
    """What to say of samples that ended before ``--sentences`` at a length that nobody typed."""
    which = "the sample ends" if samples == 1 else f"{cut:,} of {samples:,} samples end"
    sentences = f"{config.sentences:,} sentence{'s' * (config.sentences != 1)}"
    return f"{which} after {config.length} tokens, before {sentences}; --length N allows more"


def _prompts(prompt: str | None, file: str | None) -> list[str]:
    """The prompts. Files are read by the rules for a corpus."""
    from textgen.data.text import sentences

    if prompt is not None and file is not None:
        raise not_both("--prompt", "--prompt-file", fix="leave one out")
    if file is not None:
        return ["\n".join(sentences(file))]
    if prompt == "-":
        return list(sentences("-"))
    return [typed_text("--prompt", prompt or "")]


@dataclass(frozen=True)
class Turn:
    """A piece of the text. generated: by the model, not typed."""

    text: str
    generated: bool = False


class Session:
    """The text so far, as the turns that made it.

    Args:
        config: ``length`` is that of each turn.
    """

    def __init__(self, model: "LanguageModel", config: SamplingConfig) -> None:
        from textgen.sampling.text import check_is_causal

        check_is_causal(model.model)
        self.model, self.config = model, config
        self.turns: list[Turn] = []
        self._generated = 0  # the model's turns, those taken back included: each has its own seed

    @property
    def text(self) -> str:
        return "".join(turn.text for turn in self.turns)

    def set(self, **options: Any) -> None:
        """Change the configuration of the turns to come. After a UsageError it is unchanged."""
        self.config = dataclasses.replace(self.config, **options, count=1)

    def add(self, text: str) -> None:
        """Add a turn of the user's."""
        if text:
            self.turns.append(Turn(text))

    def choose(self, choice: Choice) -> None:
        """Add a predicted token or word as a turn of the user's."""
        from textgen.tokenizers.base import EOS

        self.add(self.model.tokenizer.terminator if choice.id == EOS else choice.text)

    def generate(self, on_text: Callable[[str], None]) -> Sample:
        """Add a turn of the model's; after an interrupt, the text generated until then."""
        pieces: list[str] = []

        def on_piece(index: int, prompt: str, piece: str) -> None:
            pieces.append(piece)
            on_text(piece)

        seed = (self.config.seed + self._generated) % 2**63
        config = dataclasses.replace(self.config, seed=seed)
        self._generated += 1
        try:
            (sample,) = self.model.samples(self.text, config, on_text=on_piece)
        except KeyboardInterrupt:
            self.add("".join(pieces))
            raise
        # The <EOS> or the stop string that ended it is part of the text.
        ended = sample.finish_reason == "eos"
        end = self.model.tokenizer.terminator if ended else sample.stop or ""
        self.turns.append(Turn(sample.text + end, generated=True))
        return sample


_INPUT_PROMPT = "› "
_MOST_CHOICES = 8

HELP = """\
Type some text and the model continues it; an empty line lets it continue by itself.
  /temperature X   below 1 favours likely tokens, above 1 unlikely ones
  /length N        how many tokens it generates per turn
  /back            remove the last turn, yours or the model's
  /again           remove the model's last turn, and generate another
  /choose [N]      choose one of the N likeliest next words
  /text            show the text so far
  /new             start a new text
  /quit            leave; so does Ctrl-D. Ctrl-C stops the model, not the program
"""
_COMMANDS = ("temperature", "length", "back", "again", "choose", "text", "new", "help", "quit")


def converse(session: Session, prompt: str) -> None:
    """Take turns until the user leaves."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives input() line editing and a history
    console.note("type a line for the model to continue, or /help")
    if prompt:
        session.add(prompt)
        console.emit(console.shown(prompt, keep="\n\t"))
        _generate(session)
    while (line := _read()) is not None and line.partition(" ")[0] not in ("/quit", "/q"):
        try:
            if line.startswith("/"):
                name, _, value = line[1:].partition(" ")
                _execute(session, name, value.strip())
            else:
                session.add(line)
                _generate(session)
        except TextgenError as error:
            console.say_error(str(error))


def _read(prompt: str = _INPUT_PROMPT) -> str | None:
    """A line that the user typed; None at the end of the input."""
    console.finish_output()
    try:
        return typed_text("input", input(prompt))
    except (EOFError, KeyboardInterrupt) as end:
        console.emit("\n")
        return None if isinstance(end, EOFError) else ""


def _generate(session: Session) -> None:
    with contextlib.suppress(KeyboardInterrupt):  # what was generated until then stays
        session.generate(
            lambda piece: console.emit(console.Drawn(console.shown(piece, keep=RUNNING)))
        )
    console.emit("\n")


def _execute(session: Session, name: str, value: str) -> None:
    match name:
        case "temperature" | "t":
            session.set(temperature=value or SamplingConfig.temperature)
        case "length":
            try:
                session.set(length=int(value))
            except ValueError:
                raise UsageError(f"/length needs a whole number, got {value!r}") from None
        case "back" | "b":
            if not session.turns:
                raise UsageError("there is nothing to take back")
            console.note(f"took back {console.shown(session.turns.pop().text[:60])!r}")
        case "again" | "a":
            if session.turns and session.turns[-1].generated:
                session.turns.pop()
            _generate(session)
        case "choose" | "c":
            _choose(session, whole_number("/choose", least=1)(value or _MOST_CHOICES))
        case "text":
            _show_text(session)
        case "new":
            session.turns.clear()
        case "help" | "h":
            console.emit(HELP)
        case _:
            fix = suggestion(f"/{name}", [f"/{each}" for each in _COMMANDS]) or "see /help"
            raise UsageError(f"no such command: /{name}", fix=fix)


def _choose(session: Session, most: int) -> None:
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TextgenWarning)  # a choice may end the last word
            predicted = session.model.predict(session.text, words=most)
        console.emit(numbered_choices(predicted))
        line = _read(f"1 to {len(predicted.choices)}, or nothing › ")
        if not line or not line.isdigit() or not 1 <= int(line) <= len(predicted.choices):
            return
        session.choose(predicted.choices[int(line) - 1])
        _show_text(session)


def _show_text(session: Session) -> None:
    console.emit(console.shown(session.text, keep="\n\t") + "\n")
