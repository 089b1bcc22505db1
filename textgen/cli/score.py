"""``textgen score``: the probability of sentences."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textgen.cli.options import (
    Checkpoint,
    DeviceOption,
    EncodingOption,
    ErrorsOption,
    JobsOption,
    LogBaseOption,
    PrecisionOption,
    TextFiles,
    ThreadsOption,
    choice_option,
    command_options,
    optional,
    refuse_pseudo,
    typed_text,
)
from textgen.config import (
    AdaptationConfig,
    LogBase,
    ScoreLevel,
    ScoringConfig,
    Unit,
    option_names,
)
from textgen.errors import TextgenError, UsageError
from textgen.presentation.formats import FORMATS

if TYPE_CHECKING:
    from textgen.data.lines import Item
    from textgen.language_model import LanguageModel
    from textgen.presentation.formats.base import ScoreWriter, Shown
    from textgen.presentation.html import PageScores
    from textgen.results import SentenceScore
    from textgen.scoring.scorer import Skipped


FileArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[FILE]",
        help="Sentences to score; - or nothing reads stdin.",
        show_default=False,
    ),
]
TextOption = Annotated[
    list[str] | None,
    optional(
        "--text", "TEXT", "Score this sentence instead of a file; give it twice to compare two."
    ),
]
ContinuationsOption = Annotated[
    str | None,
    optional(
        "--continuations",
        "FILE",
        "Score what goes on from what: a TSV with the columns prefix and continuation.",
    ),
]
HtmlOption = Annotated[
    str | None,
    optional(
        "--html",
        "FILE",
        "Write the text as a heat map of surprisal into one HTML page, too.",
    ),
]
NbestOption = Annotated[str | None, typer.Option("--nbest", hidden=True)]
PairsOption = Annotated[str | None, typer.Option("--pairs", hidden=True)]
FormatOption = Annotated[str, choice_option("--format", FORMATS, "How to show the scores.")]


@dataclass(frozen=True)
class Texts:
    """Where the texts are: in a file, on the command line, or in columns after a prefix each.

    read: gives the sentences of a file.
    """

    file: str | None
    typed: tuple[str, ...]
    continuations: str | None
    read: Callable[..., Iterator[str]]

    def sentences(self, unit: Unit) -> "Iterable[Item]":
        """The texts, as they come."""
        from textgen.data.lines import Arriving, continuations

        if self.typed:
            return [typed_text("--text", each) for each in self.typed]
        if self.continuations is not None:
            return Arriving(continuations(self.read(self.continuations), self.continuations))
        return Arriving(self.read(self.file or "-", unit=unit))

    @property
    def name(self) -> str:
        """What a person calls them."""
        path = self.continuations or self.file or "-"
        return "typed text" if self.typed else "standard input" if path == "-" else Path(path).name

    @property
    def are_waited_for(self) -> bool:
        """Whether someone, or some program, may wait for each score before the next text."""
        return self.name == "standard input"


def adaptation(config: AdaptationConfig, options: dict[str, Any], texts: Texts) -> dict[str, Any]:
    """The options of scoring with a model that learns as it goes, where that was asked for."""
    if not config.adapt:
        return {}
    whole = texts.continuations is None and options.get("prefix") is None
    if not whole or options.get("context") == "sentence" or options["jobs"] > 1:
        raise UsageError(
            "--adapt reads a text from its beginning to its end",
            fix="leave out --context sentence, --jobs, --prefix and --continuations",
        )
    from textgen.scoring.adaptation import AdaptingReader

    return {"context": "document", "reader": partial(AdaptingReader, rate=config.adapt_rate)}


def score_texts(
    load: "Callable[[], LanguageModel]",
    texts: Texts,
    output: str,
    base: LogBase,
    page: "Page | None",
    options: dict[str, Any],
) -> "LanguageModel":
    """Write the scores of some texts; the model that gave them.

    load: gives it, once it is known that the page can be written. options: of scoring.
    """
    from textgen.presentation import console
    from textgen.presentation.formats import score_writer
    from textgen.presentation.formats.base import ADAPTED, Shown, comparison
    from textgen.presentation.tables import UnknownReport

    layout = score_writer(output)
    level = _level(output, options.get("level"), layout.levels)
    whole = texts.continuations is None and options.get("prefix") is None
    eos, adapted = options.get("eos", whole), "reader" in options
    shown = Shown(base, level, eos, prefixed=not whole, adapted=adapted)
    unknown = UnknownReport()

    def on_skip(skipped: "Skipped") -> None:
        unknown.skipped(skipped.given.line, skipped.unknown)

    with contextlib.ExitStack() as stack:
        writers: list[ScoreWriter] = []
        options = {**options, "level": level}
        if page is not None:
            # Whole before anything that may fail on stdout.
            writers.append(stack.enter_context(page.opened(shown, texts.name, options)))
            options |= {"level": writers[0].shown.level, "alternatives": page.alternatives}
        model = load()
        if page is not None or adapted or not layout.shows_pseudo:
            named = "--html" if page else "--adapt" if adapted else f"--format {output}"
            refuse_pseudo(model, named)
        writers.append(layout(dataclasses.replace(shown, pseudo=not model.is_causal)))
        scores = model.scores(
            texts.sentences(model.tokenizer.config.unit), on_skip=on_skip, **options
        )
        compared = _write(unknown.counted(scores), writers, at_once=texts.are_waited_for)
    unknown.say()
    if shown.adapted:
        console.note(ADAPTED)
    if output == "table" and len(texts.typed) == len(compared) == 2:
        console.show("", comparison(compared[0], compared[1], base))
    return model


@dataclass(frozen=True)
class Page:
    """The page that is to be written, too. checkpoint: what it says of where scores are from."""

    path: Path
    checkpoint: str

    def opened(self, shown: "Shown", name: str, options: dict[str, Any]) -> "PageScores":
        """What writes it. It is made of parts, whatever else is shown."""
        from textgen.presentation.html import PageScores

        level = "word" if shown.level == "sentence" else shown.level
        config = ScoringConfig.from_options(options)
        shown = dataclasses.replace(shown, level=level)
        return PageScores(self.path, shown, name=name, checkpoint=self.checkpoint, config=config)

    @property
    def alternatives(self) -> int:
        from textgen.presentation.html import ALTERNATIVES

        return ALTERNATIVES


def _level(output: str, asked: ScoreLevel | None, levels: tuple[ScoreLevel, ...]) -> ScoreLevel:
    """What a format is to show: what was asked for, where it can."""
    if asked is not None and asked not in levels:
        raise UsageError(
            f"--format {output} has no --level {asked}", fix=f"it has {', '.join(levels)}"
        )
    return asked or levels[0]


def _write(
    scores: "Iterable[SentenceScore]",
    writers: "list[ScoreWriter]",
    *,
    at_once: bool,
) -> "list[SentenceScore]":
    """Write the scores as they come, then their totals; the first two of them."""
    from textgen.presentation import console
    from textgen.results import ScoreSum

    total, number, line = ScoreSum(), 0, 0
    first: list[SentenceScore] = []
    try:
        for each in scores:
            for writer in writers:
                if number == 0:
                    writer.begin()
                whole = writer.shown.level == "sentence" and each.parts is not None
                writer.sentence(dataclasses.replace(each, parts=None) if whole else each)
            total, number, line = total + each, number + 1, each.line
            if number <= 2:
                first.append(each)
            if at_once:
                console.finish_output()
    except TextgenError:
        if number:
            console.note(f"the scores end after line {line}")
        raise
    for writer in writers:
        if number == 0:
            writer.begin()
        writer.end(total, number)
    return first


EXAMPLES = """
    Which of two sentences is likelier, and by how much?
    textgen score checkpoints/mine --text "the dogs are" --text "the dogs is"
    How well does the model predict a text it has not seen?
    textgen score checkpoints/mine heldout.txt --context document
    The surprisal of every token, as a table for R or pandas:
    textgen score checkpoints/mine my.txt --level token --format tsv > my.tsv
    The text in colours, by how surprising each word is:
    textgen score checkpoints/mine my.txt --format heatmap
"""


@command_options(ScoringConfig, AdaptationConfig)
def score(
    *,
    checkpoint: Checkpoint,
    file: FileArgument = None,
    text: TextOption = None,
    continuations: ContinuationsOption = None,
    output: FormatOption = "table",
    log_base: LogBaseOption = math.e,
    html: HtmlOption = None,
    nbest: NbestOption = None,
    pairs: PairsOption = None,
    given: dict[str, Any],
    encoding: EncodingOption = "utf-8",
    errors: ErrorsOption = "strict",
    precision: PrecisionOption = "float32",
    jobs: JobsOption = 1,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Say how probable sentences are.

    For each sentence: its log-probability, <EOS> included; perplexity a token, with and
    without the unknown ones; and bits a character, the figure in which models of different
    tokens compare. The totals come last.

    In JSON log_prob is natural, whatever --log-base says. TSV names the base in its header:
    log_prob, log2_prob, log10_prob; surprisal is always in bits. kenlm, lm-zoo,
    neural-complexity and theanolm are the layouts of those tools.
    """
    for option, value, command in (("--nbest", nbest, "rerank"), ("--pairs", pairs, "pairs")):
        if value is not None:
            raise UsageError(
                f"{option} is the command {command} now", fix=f"textgen {command} CHECKPOINT FILE"
            )
    _check_one_source({"FILE": file, "--text": text, "--continuations": continuations})
    from textgen.language_model import LanguageModel

    files = TextFiles(encoding, errors)
    load = partial(LanguageModel.load, device=device, threads=threads, precision=precision)
    options = {name: given[name] for name in given if name in option_names(ScoringConfig)}
    options["jobs"] = jobs
    texts = Texts(file, tuple(text or ()), continuations, files.read)
    page = None if html is None else Page(Path(html), checkpoint)
    options |= adaptation(AdaptationConfig.from_options(given), options, texts)
    model = score_texts(partial(load, checkpoint), texts, output, log_base, page, options)
    files.say_notes(model)


def _check_one_source(sources: Mapping[str, object]) -> None:
    """Refuse texts from two places. Without any they come from stdin."""
    names = [name for name, value in sources.items() if value]
    if len(names) > 1:
        raise UsageError(
            f"{names[0]} and {names[1]} cannot both be given", fix="give the texts one way"
        )
