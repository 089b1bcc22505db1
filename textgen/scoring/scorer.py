"""Texts to scores: encoded, read by the model, and summed; in the order of the input."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from textgen.config import UNIT_TERMINATORS, ScoringConfig, Unit
from textgen.data.batching import IdArray, bucket_by_length
from textgen.data.lines import Text
from textgen.errors import DataError, UsageError, not_finite, quoted
from textgen.inference.likelihood import (
    Document,
    LogProbs,
    TokenStatistic,
    TokenStatistics,
    batch_token_statistics,
)
from textgen.models import Model
from textgen.models.device import size_on
from textgen.results import PartScore, Sample, SentenceScore
from textgen.scoring.parts import Parts
from textgen.tokenizers.base import EOS, UNK, Tokenizer, with_eos

_LONGEST_NAMED = 2**20
"""Characters of a text whose unknown words are named; the names in more would take gigabytes."""

_BATCH_TOKENS, _BATCH_SENTENCES = 2**14, 256
_LONG = 4096


@dataclass(frozen=True)
class EncodedText:
    """A text as the model reads it.

    Attributes:
        ids: All that is read, ``<EOS>`` last.
        scored: The ids that are scored. A token across the end of a prefix is one of them.
        ended: Whether the last of these is an ``<EOS>`` that is not in the text.
        token_texts: What each of these stands for in the text; empty if they were not needed.
    """

    given: Text
    ids: IdArray
    scored: slice
    ended: bool
    token_texts: tuple[str, ...] = ()

    @property
    def scored_ids(self) -> IdArray:
        return self.ids[self.scored]

    @property
    def unknown(self) -> int:
        return int(np.count_nonzero(self.scored_ids == UNK))

    @property
    def unknown_texts(self) -> tuple[str, ...]:
        """The unknown words or characters of the text, in order."""
        if not self.token_texts:
            return ()
        places = np.flatnonzero(self.scored_ids == UNK).tolist()
        return tuple(self.token_texts[place].strip(" ") for place in places)


def encode(
    tokenizer: Tokenizer, given: Text, *, eos: bool, token_texts: bool, document: bool = False
) -> EncodedText:
    """Encode a text.

    Args:
        eos: Whether the ``<EOS>`` after the text is scored.
        token_texts: Whether token texts are needed even if nothing is unknown.
        document: Whether the text may have several sentences. If the last of them ends with its
            terminator, nothing more is scored after it.
    """
    if not document and tokenizer.terminator and tokenizer.terminator in given.text:
        raise UsageError(
            f"not one sentence: {given.text[:40]!r}",
            where=f"line {given.line}",
            why=f"with --unit {tokenizer.config.unit} it ends at the newline in it",
            fix="give its parts one by one, or in a file",
        )
    prefix = given.prefix or ""
    whole = prefix + given.text
    ids = tokenizer.encode(whole)
    ended = eos and not (document and given.text and len(ids) and ids[-1] == EOS)
    scored = slice(0, len(ids) + ended)
    ids = np.append(ids, np.uint32(EOS))
    names_unknown = len(whole) <= _LONGEST_NAMED and (ids == UNK).any()
    if not (prefix or token_texts or names_unknown):
        return EncodedText(given, ids, scored, ended)
    texts = (*tokenizer.token_texts(whole), "")
    if prefix:
        scored = slice(_first_after(texts, len(prefix)), scored.stop)
    return EncodedText(given, ids, scored, ended, texts[scored])


def _first_after(texts: Sequence[str], characters: int) -> int:
    """The first token that ends after so many characters, or the first of its character."""
    ends, last = accumulate(map(len, texts)), len(texts) - 1
    first = next((place for place, end in enumerate(ends) if end > characters), last)
    while 0 < first < last and not texts[first - 1]:
        first -= 1
    return first


def sample_log_prob(model: Model, tokenizer: Tokenizer, sample: Sample) -> float | None:
    """The ln p that ``score`` gives for a sample as the continuation of its prompt.

    It is that of the sample, unless other tokens were drawn than its text is encoded to. Only then
    the text is read again.

    Returns:
        None if something in it is unknown, or it has no text of whole characters.
    """
    if not sample.ids or sample.prompt_unknown or UNK in sample.ids:
        return None
    start = tokenizer.continuation(sample.prompt)
    whole = sample.prompt + "".join(map(start.decoder.feed, sample.ids))
    if start.decoder.finish():
        return None
    ids = tokenizer.encode(whole)
    if not tokenizer.terminator:  # the ends of documents have no text
        if EOS in sample.ids[:-1]:
            return None
        ids = with_eos(ids) if sample.ids[-1] == EOS else ids
    if ids.tolist() == [*start.ids.tolist(), *sample.ids]:
        return sample.log_prob
    first = _first_after((*tokenizer.token_texts(whole), ""), len(sample.prompt))
    return float(Document(model, first=EOS).read(ids)[first:].sum())


class Reader(ABC):
    """Computes the token statistics of sentences, each ids with ``<EOS>``, in groups."""

    @abstractmethod
    def read(self, sentences: Sequence[IdArray]) -> list[TokenStatistics]:
        """Read more sentences; the statistics (tokens, columns) of those that are complete.

        They come in order: some may be of an earlier group, and those that are missing come later.
        """

    def finish(self) -> list[TokenStatistics]:
        """The statistics of the sentences that are still missing."""
        return []


MakeReader = Callable[[Model, Sequence[TokenStatistic]], Reader]


class SentenceReader(Reader):
    """Reads each sentence from the start state; those of similar length side by side."""

    def __init__(self, model: Model, statistics: Sequence[TokenStatistic] = ()) -> None:
        self._model, self._statistics = model, statistics

    def read(self, sentences: Sequence[IdArray]) -> list[TokenStatistics]:
        results = [np.empty(0)] * len(sentences)
        short = [index for index, ids in enumerate(sentences) if len(ids) <= _LONG]
        device = self._model.device
        for batch in bucket_by_length(
            (sentences[index] for index in short),
            batch_tokens=size_on(device, _BATCH_TOKENS),
            batch_sentences=size_on(device, _BATCH_SENTENCES),
        ):
            read = batch_token_statistics(
                self._model, batch.inputs, batch.targets, self._statistics
            )
            places = zip(batch.indices, batch.lengths, strict=True)
            for column, (place, length) in enumerate(places):
                results[short[place]] = read[:length, column].copy()
        for index, ids in enumerate(sentences):
            if len(ids) > _LONG:
                document = Document(self._model, first=EOS, statistics=self._statistics)
                results[index] = document.token_statistics(ids)
        return results


class DocumentReader(Reader):
    """Reads sentences one after another; the state is carried over."""

    def __init__(self, model: Model, statistics: Sequence[TokenStatistic] = ()) -> None:
        self._document = Document(model, first=EOS, statistics=statistics)

    def read(self, sentences: Sequence[IdArray]) -> list[TokenStatistics]:
        read = self._document.token_statistics(np.concatenate(sentences))
        return np.split(read, np.cumsum([len(ids) for ids in sentences])[:-1])


def sentence_score(
    encoded: EncodedText,
    log_probs: LogProbs,
    unit: Unit,
    *,
    spelled: bool = False,
    pseudo: bool = False,
    parts: tuple[PartScore, ...] | None = None,
) -> SentenceScore:
    """The score of one sentence, summed in float64.

    Args:
        log_probs: Of the tokens that are scored.
        spelled: Whether ``log_probs`` include the spelling of what is unknown.
        pseudo: Whether the model is bidirectional.
    """
    given, ids = encoded.given, encoded.scored_ids
    terminator_length = encoded.ended * len(UNIT_TERMINATORS[unit])
    return SentenceScore(
        log_prob=float(log_probs.sum()),
        tokens=len(ids),
        unknown=encoded.unknown,
        unknown_log_prob=float(log_probs[ids == UNK].sum()),
        characters=len(given.text) + terminator_length,
        words=len(given.text.split()) + encoded.ended,
        bytes=len(given.text.encode("utf-8", "surrogatepass")) + terminator_length,
        spelled=spelled,
        pseudo=pseudo,
        line=given.line,
        text=given.text,
        prefix=given.prefix,
        parts=parts,
        unknown_texts=encoded.unknown_texts,
    )


@dataclass(frozen=True)
class Skipped:
    """A text that was not scored. unknown: its unknown words or characters, if not empty."""

    given: Text
    unknown: tuple[str, ...]


class Scorer:
    """Scores texts with a model according to a configuration.

    Args:
        reader: Makes what reads the ids; None for that of the configuration's context.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        config: ScoringConfig,
        reader: MakeReader | None = None,
    ) -> None:
        self._tokenizer, self._config, self._pseudo = tokenizer, config, not model.is_causal
        needs_products = ["--open-vocabulary"] if config.open_vocabulary else []
        if config.level in ("word", "character"):
            needs_products.insert(0, f"--level {config.level}")
        if self._pseudo and needs_products:
            raise UsageError(
                f"{needs_products[0]} is not possible with a {model.config.model} model",
                why="its token probabilities, each given all others, cannot be multiplied",
                fix="leave it out",
            )
        self._parts = Parts(tokenizer, config)
        by_context = DocumentReader if config.context == "document" else SentenceReader
        self._reader = (reader or by_context)(model, tuple(self._parts.statistics.values()))
        self._spelling = tokenizer.spelling if config.open_vocabulary else None
        if config.open_vocabulary and self._spelling is None:
            raise UsageError(
                "--open-vocabulary is not possible",
                why="this model has no spelling model for unknown words",
                fix="train it on a text that spells its words, without --unk-literal",
            )
        self._waiting: deque[tuple[EncodedText | Skipped, LogProbs]] = deque()

    def scores(self, groups: Iterable[list[Text]]) -> Iterator[SentenceScore | Skipped]:
        """The scores of texts that come in groups, in order."""
        for group in groups:
            encoded = [self._encode(given) for given in group]
            self._waiting += zip(encoded, self._spelling_log_probs(encoded), strict=True)
            ids = [each.ids for each in encoded if isinstance(each, EncodedText)]
            yield from self._complete(self._reader.read(ids) if ids else [])
        yield from self._complete(self._reader.finish())

    def _encode(self, given: Text) -> EncodedText | Skipped:
        config = self._config
        if self._pseudo and given.prefix is not None:
            raise UsageError(
                "a bidirectional model cannot score the continuation of a prefix",
                fix="score whole sentences",
            )
        if config.skip_empty and not given.text:
            return Skipped(given, ())
        eos = config.eos if config.eos is not None else given.prefix is None
        encoded = encode(
            self._tokenizer,
            given,
            eos=eos,
            token_texts=config.level != "sentence",
            document=config.documents,
        )
        if config.on_unknown == "unk" or not encoded.unknown:
            return encoded
        unknown = encoded.unknown_texts
        if config.on_unknown == "error":
            raise DataError(
                f"unknown to the model: {quoted(unknown)}",
                where=f"{'from ' if given.word_ends else ''}line {given.line}",
                fix="leave --on-unknown error out to score it as <UNK>, or skip such lines",
            )
        return Skipped(given, unknown)

    def _spelling_log_probs(self, texts: list[EncodedText | Skipped]) -> list[LogProbs]:
        """ln p(spelling | unknown) of what is unknown in each text; empty if not requested."""
        if self._spelling is None:
            return [np.empty(0)] * len(texts)
        names: list[list[str]] = []
        for each in texts:
            unknown = each.unknown if isinstance(each, EncodedText) else 0
            whole = (each.given.prefix or "") + each.given.text
            found = self._tokenizer.unknown_names(whole) if unknown else []
            names.append(found[len(found) - unknown :])
        log_probs = self._spelling.log_probs([name for each in names for name in each])
        return np.split(log_probs, np.cumsum(list(map(len, names)))[:-1])

    def _complete(self, read: list[TokenStatistics]) -> Iterator[SentenceScore | Skipped]:
        """The scores of the next texts that were read, and the skipped texts around them."""
        values = iter(read)
        while self._waiting:
            first, spelling_log_probs = self._waiting[0]
            if isinstance(first, Skipped):
                yield first
            elif (its_values := next(values, None)) is not None:
                yield self._score(first, its_values[first.scored], spelling_log_probs)
            else:
                return
            self._waiting.popleft()

    def _score(
        self, encoded: EncodedText, values: TokenStatistics, spelling_log_probs: LogProbs
    ) -> SentenceScore:
        if np.isnan(values[:, 0]).any():
            raise not_finite()
        if len(spelling_log_probs):
            values[encoded.scored_ids == UNK, 0] += spelling_log_probs
        parts = None
        if self._config.level != "sentence":
            ends = encoded.given.word_ends if self._config.own_words else None
            parts = self._parts.of(encoded.scored_ids.tolist(), encoded.token_texts, values, ends)
        unit, spelled = self._tokenizer.config.unit, self._spelling is not None
        return sentence_score(
            encoded, values[:, 0], unit, spelled=spelled, pseudo=self._pseudo, parts=parts
        )
