"""The score of a sentence by token, word or character; the parts always sum to the sentence.

A word is delimited by white space and includes the space before it. Where tokens include the space
before them, only the next token shows that a word has ended. Therefore the probability of ending
is moved from the next word to the word itself (Pimentel and Meister 2024; Oh and Schuler 2024).
With b(t) the probability that token t starts a word or ends the sentence,

    ln p(word) = sum of its tokens' ln p - ln b(its start) + ln b(the start of the next word)

The first and the last scored word have no such neighbour and are not corrected on that side. So the
text after a prefix begins with a word from which nothing is subtracted for the space before it.

A token can be spelled in several ways: after an opening bracket a word has no space before it. The
spelling depends on the previous id.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.config import ScoreLevel, ScoringConfig
from textgen.data.batching import IdArray
from textgen.inference.likelihood import (
    Alternatives,
    Entropy,
    LogMass,
    Prefixes,
    PrefixMasses,
    Rank,
    TokenStatistic,
    TokenStatistics,
)
from textgen.metrics import LOG_2
from textgen.results import Choice, PartScore
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, UNK, Tokenizer

_AFTER = b"\xff"  # no byte of UTF-8: greater than every continuation of a prefix

Floats = npt.NDArray[np.float64]


class Spellings:
    """The spellings of a vocabulary. way: (vocabulary,), which spelling is used after each id."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        decoder = tokenizer.decoder()
        ways: dict[bool, tuple[int, Sequence[bytes]]] = {}
        way_after = []
        for id in range(tokenizer.vocabulary_size):
            after = decoder.copy()
            after.feed(id)
            if after.joined not in ways:
                ways[after.joined] = (len(ways), after.next_bytes())
            way_after.append(ways[after.joined][0])
        self._ways = [next_bytes for _, next_bytes in ways.values()]
        self.way: Tensor = torch.tensor(way_after)

    def starts_word(self) -> npt.NDArray[np.bool_]:
        """(ways, vocabulary): ids that start with white space, and ``<EOS>``."""
        rows = [[_text(spelling)[:1].isspace() for spelling in way] for way in self._ways]
        starts = np.array(rows)
        starts[:, EOS] = True
        return starts

    def prefixes(self) -> tuple[Prefixes, ...]:
        """The ids with equal prefixes, for each way."""
        return tuple(map(_prefixes, self._ways))


def _prefixes(way: Sequence[bytes]) -> Prefixes:
    # The ids without a spelling come last.
    order = sorted(range(len(way)), key=lambda id: (id in (UNK, EOS), way[id]))
    spellings = [way[id] for id in order[:-2]]
    widest = max(len(_text(spelling)) for spelling in way)
    begin = np.zeros((len(way), max(1, widest)), np.int64)
    end = np.zeros_like(begin)

    @cache
    def stretch(prefix: bytes) -> tuple[int, int]:
        return bisect_left(spellings, prefix), bisect_left(spellings, prefix + _AFTER)

    for id, spelling in zip(order, spellings, strict=False):
        ends = accumulate(len(character.encode()) for character in _text(spelling))
        for column, stop in enumerate(ends):
            begin[id, column], end[id, column] = stretch(spelling[:stop])
    return Prefixes(*map(torch.as_tensor, (order, begin, end)))


def _text(spelling: bytes) -> str:
    """The text of a spelling; empty if it has an incomplete character."""
    try:
        return spelling.decode()
    except UnicodeDecodeError:
        return ""


@dataclass(frozen=True)
class NamedStatistics:
    """The statistics of some tokens (tokens,), those that a level needs.

    Attributes:
        log_probs: Natural.
        entropies: Of the distribution at the token, in nats.
        ranks: 1 for the most probable token.
        boundaries: ln of the probability that a word begins there, or the sentence ends.
        prefixes: (tokens, characters), the probability of the first character, the first two, ...
        alternatives: (tokens, 2 count), the most probable ids, then the ln p of each.
    """

    log_probs: Floats
    entropies: Floats | None = None
    ranks: Floats | None = None
    boundaries: Floats | None = None
    prefixes: Floats | None = None
    alternatives: Floats | None = None


def statistics_for(tokenizer: Tokenizer, config: ScoringConfig) -> dict[str, TokenStatistic]:
    """The statistics that a configuration needs, by their names in ``NamedStatistics``."""
    statistics: dict[str, TokenStatistic] = {}
    if config.level in ("token", "word"):
        statistics |= {"entropies": Entropy(), "ranks": Rank()}
    if config.level == "word":
        spellings = Spellings(tokenizer)
        statistics["boundaries"] = LogMass(torch.from_numpy(spellings.starts_word()), spellings.way)
    if config.level == "character" and tokenizer.level != "char":
        spellings = Spellings(tokenizer)
        statistics["prefixes"] = PrefixMasses(spellings.prefixes(), spellings.way)
    if config.alternatives:
        count = min(config.alternatives, tokenizer.vocabulary_size)
        statistics["alternatives"] = Alternatives(count)
    return statistics


def named(statistics: Mapping[str, TokenStatistic], values: TokenStatistics) -> NamedStatistics:
    """The values (tokens, columns) of these statistics by their names."""
    ends = np.cumsum([1, *(statistic.columns for statistic in statistics.values())])
    log_probs, *columns = np.split(values, ends[:-1], axis=1)
    by_name = {
        name: part[:, 0] if statistic.columns == 1 and name != "prefixes" else part
        for (name, statistic), part in zip(statistics.items(), columns, strict=True)
    }
    return NamedStatistics(log_probs[:, 0], **by_name)


@dataclass(frozen=True)
class ScoredTokens:
    """The tokens of a sentence that are scored. texts: what each stands for in the sentence."""

    tokenizer: Tokenizer
    ids: IdArray
    texts: tuple[str, ...]
    statistics: NamedStatistics


def parts(scored: ScoredTokens, level: ScoreLevel) -> tuple[PartScore, ...]:
    """The parts of a sentence: its tokens, words or characters, and ``<EOS>``."""
    if level == "character":
        return tuple(_characters(scored))
    starts = _word_starts(scored) if level == "word" else range(len(scored.ids))
    return tuple(_spans(scored, [*starts, len(scored.ids)]))


def _spans(scored: ScoredTokens, edges: Sequence[int]) -> Iterator[PartScore]:
    """The parts between edges: words if there are boundaries, otherwise tokens."""
    ids, statistics, boundaries = (
        scored.ids.tolist(),
        scored.statistics,
        scored.statistics.boundaries,
    )
    assert statistics.entropies is not None and statistics.ranks is not None
    before = None
    for begin, end in pairwise(edges):
        is_token, ends = end == begin + 1, ids[end - 1] == EOS
        span = scored.texts[begin] if is_token else "".join(scored.texts[begin:end])
        if boundaries is None:
            text = scored.tokenizer.token(ids[begin])
            log_prob = float(statistics.log_probs[begin])
        else:
            text = span.strip() or (SPECIAL_TOKENS[EOS] if ends else span)
            log_prob = float(statistics.log_probs[begin:end].sum())
            if begin:
                log_prob -= float(boundaries[begin])
            if end < len(ids):
                log_prob += float(boundaries[end])
        entropy = float(statistics.entropies[begin]) / LOG_2
        yield PartScore(
            text,
            span,
            log_prob,
            UNK in ids[begin:end],
            tokens=end - begin,
            ends=ends,
            id=EOS if ends else ids[begin],
            rank=int(statistics.ranks[begin]) if is_token else None,
            entropy=entropy,
            entropy_reduction=0.0 if before is None else max(0.0, before - entropy),
            alternatives=_alternatives(scored, begin),
        )
        before = entropy


def _word_starts(scored: ScoredTokens) -> Iterator[int]:
    """The places where words start: at white space after a word, and at ``<EOS>``."""
    blank = True
    for place, (id, span) in enumerate(zip(scored.ids.tolist(), scored.texts, strict=True)):
        starts = id == EOS or span[:1].isspace()
        if place == 0 or (starts and not blank):
            yield place
            blank = True
        blank = blank and not span.strip()


def _alternatives(scored: ScoredTokens, place: int) -> tuple[Choice, ...]:
    if scored.statistics.alternatives is None:
        return ()
    ids, log_probs = np.split(scored.statistics.alternatives[place], 2)
    return tuple(
        Choice(scored.tokenizer.token(int(id)), float(log_prob), int(id))
        for id, log_prob in zip(ids, log_probs, strict=True)
        if math.isfinite(log_prob)
    )


def _characters(scored: ScoredTokens) -> Iterator[PartScore]:
    """The characters, and ``<EOS>``; ``<UNK>`` is one part.

    A character inside a token has the probability that a token with this prefix comes, given that
    one with the prefix before it comes; the last has the rest. The first also has the tokens
    before it that have no text.
    """
    log_probs = scored.statistics.log_probs.tolist()
    waiting, count = 0.0, 0  # of tokens that complete no character, such as single bytes
    for place, (id, span) in enumerate(zip(scored.ids.tolist(), scored.texts, strict=True)):
        if id in (EOS, UNK):
            log_prob, ends = waiting + log_probs[place], id == EOS
            name = SPECIAL_TOKENS[EOS] if ends else span
            yield PartScore(name, span, log_prob, id == UNK, tokens=1 + count, ends=ends, id=id)
        elif not span:
            waiting, count = waiting + log_probs[place], count + 1
            continue
        else:
            steps = np.diff(_prefix_log_probs(scored.statistics, place, span), prepend=0.0)
            steps[0] += waiting
            for character, step in zip(span, steps.tolist(), strict=True):
                yield PartScore(character, character, step, id=id if len(span) == 1 else None)
        waiting, count = 0.0, 0
    assert not count, "a character's text is at its last byte"


def _prefix_log_probs(statistics: NamedStatistics, place: int, span: str) -> Floats:
    """ln p that a token with the same prefix comes, for each prefix of a span (characters,).

    The span and the spelling of the token may differ in the white space around them. Where only
    the spelling has a space, the first character has the probability of both. Where the span has
    more white space, its first character has the cost of all of it.
    """
    log_prob = statistics.log_probs[place]
    if statistics.prefixes is None or len(span) == 1:
        return np.full(len(span), log_prob)
    known = statistics.prefixes[place][~np.isnan(statistics.prefixes[place])]
    with np.errstate(divide="ignore"):
        # Rounded sums: a prefix must not be less probable than a longer one.
        masses = np.minimum.accumulate(np.clip(np.log(known), log_prob, 0.0))
    masses[-1] = log_prob
    # The common end is aligned; before the spelling come its first space, or nothing.
    length = len(known)
    tail = span if len(span) == length else span.rstrip() or span
    least = 0 if length > len(span.strip()) else -1
    columns = np.arange(len(span)) + length - len(tail)
    aligned: Floats = np.append(masses, 0.0)[np.clip(columns, least, length - 1)]
    return aligned
