"""Texts in, scores out: what ``textgen score`` does unless it is given a list of another kind."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen.cli.parsing import typed_text
from textgen.config import AdaptationConfig, LogBase, ScoreLevel, ScoringConfig, Unit
from textgen.errors import TextgenError, UsageError

if TYPE_CHECKING:
    from textgen.corpus.arriving import Item
    from textgen.language_model import LanguageModel
    from textgen.presentation.page import PageScores
    from textgen.presentation.scores import ScoreWriter, Shown
    from textgen.results import SentenceScore
    from textgen.scoring.scorer import Skipped


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
        from textgen.corpus.arriving import Arriving
        from textgen.corpus.continuations import continuations

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
    from textgen.studies.adaptation import AdaptingReader

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
    from textgen.presentation.scores import ADAPTED, FORMATS, Shown, comparison
    from textgen.presentation.unknowns import UnknownReport

    level = _level(output, options.get("level"), FORMATS[output].levels)
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
        if page is not None or adapted or not FORMATS[output].tells_pseudo:
            named = "--html" if page else "--adapt" if adapted else f"--format {output}"
            refuse_pseudo(model, named)
        writers.append(FORMATS[output](dataclasses.replace(shown, pseudo=not model.generates)))
        scores = model.scores(
            texts.sentences(model.tokenizer.config.unit), on_skip=on_skip, **options
        )
        compared = _write(unknown.told(scores), writers, at_once=texts.are_waited_for)
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
        from textgen.presentation.page import PageScores

        level = "word" if shown.level == "sentence" else shown.level
        config = ScoringConfig.from_options(options)
        shown = dataclasses.replace(shown, level=level)
        return PageScores(self.path, shown, name=name, checkpoint=self.checkpoint, config=config)

    @property
    def alternatives(self) -> int:
        from textgen.presentation.page.markup import ALTERNATIVES

        return ALTERNATIVES


def refuse_pseudo(model: "LanguageModel", option: str) -> None:
    """Refuse an option that takes true probabilities, where a model has none."""
    if not model.generates:
        raise UsageError(
            f"{option} needs probabilities",
            where=model.path,
            why="what a model that reads both ways gives are pseudo-log-probabilities",
            fix="use --format table, tsv or json, or --pairs",
        )


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
