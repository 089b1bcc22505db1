"""Texts to scores: encoded, read by the model, and summed; in the order in which they came."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from textgen.config import UNIT_TERMINATORS, ScoringConfig, Unit
from textgen.data.batching import IdArray, bucket_by_length
from textgen.data.lines import Text
from textgen.errors import DataError, UsageError, named
from textgen.inference.likelihood import (
    Document,
    LogProbs,
    TokenStatistic,
    TokenStatistics,
    batch_token_statistics,
)
from textgen.models import Model
from textgen.results import PartScore, SentenceScore
from textgen.scoring import parts
from textgen.scoring.parts import Measures, measures, statistics_for
from textgen.tokenizers.base import EOS, UNK, Tokenizer

_LONGEST_NAMED = 2**20
"""Characters of a text of which it is told what is unknown; of more that would take gigabytes."""


@dataclass(frozen=True)
class Prepared:
    """A text as it is read.

    ids: all that is read, ``<EOS>`` at the end. scored: those that are scored. token_texts: what
    each of these stands for in the text; none where all is known, or the text is very long, and
    nobody asked. A token that reaches over the end of a prefix is scored whole.
    """

    given: Text
    ids: IdArray
    scored: slice
    token_texts: tuple[str, ...] = ()

    @property
    def scored_ids(self) -> IdArray:
        return self.ids[self.scored]

    @property
    def unknown(self) -> int:
        return int(np.count_nonzero(self.scored_ids == UNK))

    @property
    def unknown_surfaces(self) -> tuple[str, ...]:
        """What in the text is unknown, in its order."""
        if not self.token_texts:
            return ()
        places = np.flatnonzero(self.scored_ids == UNK).tolist()
        return tuple(self.token_texts[place].strip(" ") for place in places)

    def unknown_names(self, tokenizer: Tokenizer) -> list[str]:
        """The symbols of which it has the spelling, where they are unknown."""
        if not self.unknown:
            return []
        names = tokenizer.unknown_names((self.given.prefix or "") + self.given.text)
        return names[len(names) - self.unknown :]


def prepare(tokenizer: Tokenizer, given: Text, *, eos: bool, token_texts: bool) -> Prepared:
    """eos: whether ``<EOS>`` is scored. token_texts: wanted where all is known, too."""
    if tokenizer.terminator and tokenizer.terminator in given.text:
        raise UsageError(
            f"not one sentence: {given.text[:40]!r}",
            why=f"with --unit {tokenizer.config.unit} it ends at the newline in it",
            fix="give its parts one by one, or in a file",
        )
    prefix = given.prefix or ""
    whole = prefix + given.text
    ids = np.append(tokenizer.encode(whole), np.uint32(EOS))
    scored = slice(0, len(ids) - (not eos))
    names_unknown = len(whole) <= _LONGEST_NAMED and (ids == UNK).any()
    if not (prefix or token_texts or names_unknown):
        return Prepared(given, ids, scored)
    named = (*tokenizer.token_texts(whole), "")
    if prefix:
        scored = slice(_first_after(named, len(prefix)), scored.stop)
    return Prepared(given, ids, scored, named[scored])


def _first_after(token_texts: Sequence[str], characters: int) -> int:
    """The first token that reaches over so many characters, with the parts of its character."""
    ends = accumulate(map(len, token_texts))
    last = len(token_texts) - 1  # the end of the sentence
    first = next((place for place, end in enumerate(ends) if end > characters), last)
    while 0 < first < last and not token_texts[first - 1]:
        first -= 1
    return first


_BATCH_TOKENS = 2**14
_LONG = 4096


class Reader(ABC):
    """Reads sentences, each ids with their ``<EOS>``, a group after another."""

    @abstractmethod
    def read(self, sentences: Sequence[IdArray]) -> list[TokenStatistics]:
        """What is read off each place (tokens, columns) of those sentences that are settled:
        of all that were given and not yet settled, the first ones, in their order."""

    def finish(self) -> list[TokenStatistics]:
        """Of those that were not settled, when no more come."""
        return []


MakeReader = Callable[[Model, Sequence[TokenStatistic]], Reader]


class SentenceReader(Reader):
    """Each sentence from the start state. Those of like length are read side by side."""

    def __init__(self, model: Model, statistics: Sequence[TokenStatistic] = ()) -> None:
        self._model, self._gauges = model, statistics

    def read(self, sentences: Sequence[IdArray]) -> list[TokenStatistics]:
        results: list[TokenStatistics | None] = [None] * len(sentences)
        short = [index for index, ids in enumerate(sentences) if len(ids) <= _LONG]
        for batch in bucket_by_length((sentences[i] for i in short), batch_tokens=_BATCH_TOKENS):
            read = batch_token_statistics(self._model, batch.inputs, batch.targets, self._gauges)
            for column, (place, length) in enumerate(
                zip(batch.indices, batch.lengths, strict=True)
            ):
                results[short[place]] = read[:length, column].copy()
        return [
            result if result is not None else self._read_alone(ids)
            for ids, result in zip(sentences, results, strict=True)
        ]

    def _read_alone(self, ids: IdArray) -> TokenStatistics:
        return Document(self._model, first=EOS, statistics=self._gauges).token_statistics(ids)


class DocumentReader(Reader):
    """The state is carried from sentence to sentence."""

    def __init__(self, model: Model, statistics: Sequence[TokenStatistic] = ()) -> None:
        self._document = Document(model, first=EOS, statistics=statistics)

    def read(self, sentences: Sequence[IdArray]) -> list[TokenStatistics]:
        read = self._document.token_statistics(np.concatenate(sentences))
        return np.split(read, np.cumsum([len(ids) for ids in sentences])[:-1])


def sentence_score(
    prepared: Prepared,
    log_probs: LogProbs,
    unit: Unit,
    *,
    spelled: bool = False,
    pseudo: bool = False,
    parts: tuple[PartScore, ...] | None = None,
) -> SentenceScore:
    """The score of one sentence, its tokens' log-probabilities summed in float64.

    log_probs: of the tokens that are scored. spelled: whether the spelling of what is unknown
    is in them. pseudo: whether each was given what comes after it.
    """
    given, ids = prepared.given, prepared.scored_ids
    unknown = ids == UNK
    terminators = int(len(ids) > 0 and ids[-1] == EOS)
    ends = terminators * len(UNIT_TERMINATORS[unit])
    return SentenceScore(
        log_prob=float(log_probs.sum()),
        tokens=len(ids),
        unknown=int(np.count_nonzero(unknown)),
        unknown_log_prob=float(log_probs[unknown].sum()),
        characters=len(given.text) + ends,
        words=len(given.text.split()) + terminators,
        bytes=len(given.text.encode("utf-8", "surrogatepass")) + ends,
        spelled=spelled,
        pseudo=pseudo,
        line=given.line,
        text=given.text,
        prefix=given.prefix,
        parts=parts,
        unknown_surfaces=prepared.unknown_surfaces,
    )


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
        self._tokenizer, self._config, self._pseudo = tokenizer, config, not model.is_causal
        if self._pseudo:
            _check_pseudo(model, config)
        self._gauges = statistics_for(tokenizer, config)
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
        prepared = prepare(self._tokenizer, given, eos=eos, token_texts=by_parts)
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

    def _settled(self, read: list[TokenStatistics]) -> Iterator[SentenceScore | Skipped]:
        """The scores of the next that were read, and what was left out before and after them."""
        settled = iter(read)
        while self._waiting:
            first, spelt = self._waiting[0]
            if isinstance(first, Prepared):
                if (token_statistics := next(settled, None)) is None:
                    return
                measured = measures(self._gauges, token_statistics[first.scored])
                if len(spelt):
                    measured.log_probs[first.scored_ids == UNK] += spelt
                yield self._score(first, measured)
            else:
                yield first
            self._waiting.popleft()

    def _score(self, prepared: Prepared, measured: Measures) -> SentenceScore:
        in_parts = None
        if self._config.level != "sentence":
            scored = parts.Scored(
                self._tokenizer, prepared.scored_ids, prepared.token_texts, measured
            )
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
