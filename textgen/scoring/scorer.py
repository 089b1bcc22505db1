"""Texts to scores: encoded, read, measured, summed; in the order in which they came."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from textgen.config import ScoringConfig
from textgen.corpus.arriving import Text
from textgen.errors import DataError, UsageError, named
from textgen.models import Model
from textgen.models.likelihood import LogProbs, Readings
from textgen.results import SentenceScore
from textgen.scoring import parts
from textgen.scoring.measures import Measures, gauges_for, measures
from textgen.scoring.prepared import Prepared, prepare
from textgen.scoring.reading import DocumentReader, MakeReader, SentenceReader
from textgen.scoring.units import sentence_score
from textgen.tokenizers.base import UNK, Tokenizer

_PARTS = {
    "token": parts.token_parts,
    "word": parts.word_parts,
    "character": parts.character_parts,
}


@dataclass(frozen=True)
class Skipped:
    """A text that was left out. unknown: what in it is unknown; nothing, if it is empty."""

    given: Text
    unknown: tuple[str, ...]


def kept(
    scores: Iterable[SentenceScore | Skipped], on_skip: Callable[[Skipped], None] | None
) -> Iterator[SentenceScore]:
    """The scores alone; ``on_skip`` is called with each text that was left out."""
    for each in scores:
        if isinstance(each, SentenceScore):
            yield each
        elif on_skip is not None:
            on_skip(each)


class Scorer:
    """Scores texts with a model, as a configuration says.

    reader: makes what reads the ids; None takes the one of the configuration's context.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        config: ScoringConfig,
        reader: MakeReader | None = None,
    ) -> None:
        self._tokenizer, self._config, self._pseudo = tokenizer, config, not model.generates
        if self._pseudo:
            _check_pseudo(model, config)
        self._gauges = gauges_for(tokenizer, config)
        by_context = DocumentReader if config.context == "document" else SentenceReader
        make: MakeReader = reader or by_context
        self._reader = make(model, tuple(self._gauges.values()))
        self._spelling = tokenizer.spelling if config.open_vocabulary else None
        if config.open_vocabulary and self._spelling is None:
            raise UsageError(
                "--open-vocabulary cannot be had",
                why="what is unknown to this model has no spelling",
                fix="train it on a text that spells its words, without --unk-literal",
            )
        self._waiting: deque[tuple[Prepared | Skipped, LogProbs]] = deque()

    def scores(self, groups: Iterable[list[Text]]) -> Iterator[SentenceScore | Skipped]:
        """The scores of texts that come in groups, each in its place."""
        for group in groups:
            prepared = [self._prepare(given) for given in group]
            self._waiting += zip(prepared, self._spelt(prepared), strict=True)
            ids = [each.ids for each in prepared if isinstance(each, Prepared)]
            yield from self._settled(self._reader.read(ids) if ids else [])
        yield from self._settled(self._reader.finish())

    def _prepare(self, given: Text) -> Prepared | Skipped:
        config = self._config
        if self._pseudo and given.prefix is not None:
            raise UsageError(
                "a model that reads both ways has no probability of what comes after a prefix",
                fix="score whole sentences",
            )
        if config.skip_empty and not given.text:
            return Skipped(given, ())
        eos = config.eos if config.eos is not None else given.prefix is None
        by_parts = config.level != "sentence"
        prepared = prepare(self._tokenizer, given, eos=eos, surfaces=by_parts)
        if config.on_unknown == "unk" or not prepared.unknown:
            return prepared
        unknown = prepared.unknown_surfaces
        if config.on_unknown == "error":
            raise DataError(
                f"unknown to the model: {named(unknown)}",
                where=f"line {given.line}",
                fix="leave --on-unknown error out to score it as <UNK>, or skip such lines",
            )
        return Skipped(given, unknown)

    def _spelt(self, prepared: list[Prepared | Skipped]) -> list[LogProbs]:
        """ln p(spelling | unknown) of what is unknown in each, where it is asked."""
        if self._spelling is None:
            return [np.empty(0)] * len(prepared)
        names = [
            each.unknown_names(self._tokenizer) if isinstance(each, Prepared) else []
            for each in prepared
        ]
        spelt = self._spelling.log_probs([name for each in names for name in each])
        return np.split(spelt, np.cumsum(list(map(len, names)))[:-1])

    def _settled(self, read: list[Readings]) -> Iterator[SentenceScore | Skipped]:
        """The scores of the next that were read, and what was left out before and after them."""
        settled = iter(read)
        while self._waiting:
            first, spelt = self._waiting[0]
            if isinstance(first, Prepared):
                if (readings := next(settled, None)) is None:
                    return
                measured = measures(self._gauges, readings[first.scored])
                if len(spelt):
                    measured.log_probs[first.scored_ids == UNK] += spelt
                yield self._score(first, measured)
            else:
                yield first
            self._waiting.popleft()

    def _score(self, prepared: Prepared, measured: Measures) -> SentenceScore:
        in_parts = None
        if self._config.level != "sentence":
            scored = parts.Scored(self._tokenizer, prepared.scored_ids, prepared.surfaces, measured)
            in_parts = tuple(_PARTS[self._config.level](scored))
        return sentence_score(
            prepared,
            measured.log_probs,
            self._tokenizer.config.unit,
            spelled=self._spelling is not None,
            pseudo=self._pseudo,
            parts=in_parts,
        )


def _check_pseudo(model: Model, config: ScoringConfig) -> None:
    """Refuse what has no meaning where each token is given those after it."""
    refused = {
        "--level word": config.level == "word",
        "--level character": config.level == "character",
        "--open-vocabulary": config.open_vocabulary,
    }
    for name in (name for name, asked in refused.items() if asked):
        raise UsageError(
            f"{name} cannot be had of a {model.config.model} model",
            why="it gives each token a probability given all others, which do not multiply",
            fix="leave it out",
        )
