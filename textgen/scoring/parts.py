"""The score of a sentence by token, word or character; the parts always sum to the sentence.

A word is delimited by white space and includes the space before it. Where tokens include the space
before them, only the next token shows that a word has ended. Therefore the probability of ending
is moved from the next word to the word itself (Pimentel and Meister 2024; Oh and Schuler 2024).
With b(t) the probability that token t starts a word or ends the sentence,

    ln p(word) = sum of its tokens' ln p - ln b(its start) + ln b(the start of the next word)

The first and the last scored word have no such neighbour and are not corrected on that side.

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

from textgen.config import ScoringConfig
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

_AFTER = b"\xff"  # in no UTF-8, and so after all that begins alike


class Spellings:
    """The spellings of a vocabulary. way: (vocabulary,) which of them holds after each id."""

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
        """(ways, vocabulary): what starts with white space, and ``<EOS>``."""
        rows = [[_text(written)[:1].isspace() for written in way] for way in self._ways]
        starts = np.array(rows)
        starts[:, EOS] = True
        return starts

    def prefixes(self) -> tuple[Prefixes, ...]:
        """For each way, which ids begin alike."""
        return tuple(map(_prefixes, self._ways))


def _prefixes(way: Sequence[bytes]) -> Prefixes:
    # What has no spelling of its own is after all that has.
    order = sorted(range(len(way)), key=lambda id: (id in (UNK, EOS), way[id]))
    spelt = [way[id] for id in order[:-2]]
    widest = max(len(_text(written)) for written in way)
    begin = np.zeros((len(way), max(1, widest)), np.int64)
    end = np.zeros_like(begin)

    @cache
    def stretch(prefix: bytes) -> tuple[int, int]:
        return bisect_left(spelt, prefix), bisect_left(spelt, prefix + _AFTER)

    for id, written in zip(order, spelt, strict=False):
        for column, stop in enumerate(_character_ends(written)):
            begin[id, column], end[id, column] = stretch(written[:stop])
    return Prefixes(*map(torch.as_tensor, (order, begin, end)))


def _character_ends(written: bytes) -> Iterator[int]:
    """Where the characters of a token end, in bytes, if it is whole characters."""
    return accumulate(len(character.encode()) for character in _text(written))


def _text(written: bytes) -> str:
    """The text of whole characters; nothing of what is not."""
    try:
        return written.decode()
    except UnicodeDecodeError:
        return ""


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measures:
    """What was read off each token (tokens,), as far as it was asked.

    log_probs: natural. entropies: of the distribution, in nats. ranks: 1 is the likeliest.
    boundaries: ln of the probability that a word begins there, or the sentence ends.
    prefixes: (tokens, characters) the probability of its first character, its first two, ...
    alternatives: (tokens, 2 count) ids of the likeliest, then the ln p of each.
    """

    log_probs: Floats
    entropies: Floats | None = None
    ranks: Floats | None = None
    boundaries: Floats | None = None
    prefixes: Floats | None = None
    alternatives: Floats | None = None


def statistics_for(tokenizer: Tokenizer, config: ScoringConfig) -> Mapping[str, TokenStatistic]:
    """The statistics that give the measures of these names."""
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


def measures(
    statistics: Mapping[str, TokenStatistic], token_statistics: TokenStatistics
) -> Measures:
    """The token_statistics of some tokens (tokens, columns) by the names of the statistics."""
    ends = np.cumsum([1, *(statistic.columns for statistic in statistics.values())])
    log_probs, *columns = np.split(token_statistics, ends[:-1], axis=1)
    named = {
        name: part[:, 0] if statistic.columns == 1 and name != "prefixes" else part
        for (name, statistic), part in zip(statistics.items(), columns, strict=True)
    }
    return Measures(log_probs[:, 0], **named)


_EOS_NAME = SPECIAL_TOKENS[EOS]


@dataclass(frozen=True)
class Scored:
    """The tokens of a sentence that are scored. token_texts: what each stands for in it."""

    tokenizer: Tokenizer
    ids: IdArray
    token_texts: tuple[str, ...]
    measures: Measures


def token_parts(scored: Scored) -> Iterator[PartScore]:
    """A part a token."""
    before: float | None = None
    for place, (id, span) in enumerate(zip(scored.ids.tolist(), scored.token_texts, strict=True)):
        entropy = _entropy(scored.measures, place)
        yield PartScore(
            scored.tokenizer.token(id),
            span,
            float(scored.measures.log_probs[place]),
            id == UNK,
            ends=id == EOS,
            id=id,
            rank=_rank(scored.measures, place),
            entropy=entropy,
            entropy_reduction=_reduction(entropy, before),
            alternatives=_alternatives(scored, place),
        )
        before = entropy


def word_parts(scored: Scored) -> Iterator[PartScore]:
    """A part a word, and ``<EOS>``, with what white space is before it.

    The first and the last that are scored have no neighbour. So what goes on from a prefix begins
    with a word whose ln p is the sum of its tokens', nothing taken off for the space before it.
    """
    measures = scored.measures
    before: float | None = None
    assert measures.boundaries is not None
    for begin, end in pairwise([*_word_starts(scored), len(scored.ids)]):
        log_prob = float(measures.log_probs[begin:end].sum())
        if begin:
            log_prob -= float(measures.boundaries[begin])
        if end < len(scored.ids):
            log_prob += float(measures.boundaries[end])
        ids, span = scored.ids[begin:end], "".join(scored.token_texts[begin:end])
        is_token, ends = end == begin + 1, bool(ids[-1] == EOS)
        entropy = _entropy(measures, begin)
        yield PartScore(
            span.strip() or (_EOS_NAME if ends else span),
            span,
            log_prob,
            bool((ids == UNK).any()),
            tokens=end - begin,
            ends=ends,
            id=EOS if ends else int(ids[0]),
            rank=_rank(measures, begin) if is_token else None,
            entropy=entropy,
            entropy_reduction=_reduction(entropy, before),
            alternatives=_alternatives(scored, begin),
        )
        before = entropy


def character_parts(scored: Scored) -> Iterator[PartScore]:
    """A part a character, and ``<EOS>``; what is unknown stays whole.

    A character inside a token has the probability that a token comes which begins so, given
    that one comes which begins as the token does before it; the last has the rest. The first
    also has what comes before it without a place in the text.
    """
    waiting, held = 0.0, 0  # of tokens that have no character of their own, such as single bytes
    for place, (id, span) in enumerate(zip(scored.ids.tolist(), scored.token_texts, strict=True)):
        if id in (EOS, UNK):
            log_prob = waiting + float(scored.measures.log_probs[place])
            name, ends = _EOS_NAME if id == EOS else span, id == EOS
            yield PartScore(name, span, log_prob, id == UNK, tokens=1 + held, ends=ends, id=id)
        elif not span:
            waiting, held = waiting + float(scored.measures.log_probs[place]), held + 1
            continue
        else:
            steps = np.diff(_log_masses(scored.measures, place, span), prepend=0.0)
            steps[0] += waiting
            for character, step in zip(span, steps.tolist(), strict=True):
                yield PartScore(character, character, step, id=id if len(span) == 1 else None)
        waiting, held = 0.0, 0
    assert not held, "a character's last byte is where its span is"


def _log_masses(measures: Measures, place: int, span: str) -> npt.NDArray[np.float64]:
    """ln p that a token comes which begins as this one, up to each character of its span.

    The two may differ in the white space around them. Where only the spelling has a space, the
    first character has that of both. Of more white space than is spelt, the first character has
    all that it costs: the rest is no news to the model.
    """
    log_prob = measures.log_probs[place]
    if measures.prefixes is None or len(span) == 1:
        return np.full(len(span), log_prob)
    spelt = measures.prefixes[place][~np.isnan(measures.prefixes[place])]
    with np.errstate(divide="ignore"):
        # Sums of many small numbers: a prefix is never less likely than what goes on from it.
        masses = np.minimum.accumulate(np.clip(np.log(spelt), log_prob, 0.0))
    masses[-1] = log_prob
    # Their common tail is aligned; what comes before the spelling has its first space, or nothing.
    length = len(spelt)
    tail = span if len(span) == length else span.rstrip() or span
    least = 0 if length > len(span.strip()) else -1
    columns = np.arange(len(span)) + length - len(tail)
    aligned: npt.NDArray[np.float64] = np.append(masses, 0.0)[np.clip(columns, least, length - 1)]
    return aligned


def _word_starts(scored: Scored) -> Iterator[int]:
    """The places at which words begin: where white space does after a word; ``<EOS>``."""
    blank = True
    for place, (id, span) in enumerate(zip(scored.ids.tolist(), scored.token_texts, strict=True)):
        starts = id == EOS or span[:1].isspace()
        if place == 0 or (starts and not blank):
            yield place
            blank = True
        blank = blank and not span.strip()


def _entropy(measures: Measures, place: int) -> float | None:
    return None if measures.entropies is None else float(measures.entropies[place]) / LOG_2


def _reduction(entropy: float | None, before: float | None) -> float | None:
    """0 at the first part, which has none before it."""
    if entropy is None:
        return None
    return 0.0 if before is None else max(0.0, before - entropy)


def _rank(measures: Measures, place: int) -> int | None:
    return None if measures.ranks is None else int(measures.ranks[place])


def _alternatives(scored: Scored, place: int) -> tuple[Choice, ...]:
    if scored.measures.alternatives is None:
        return ()
    ids, log_probs = np.split(scored.measures.alternatives[place], 2)
    return tuple(
        Choice(scored.tokenizer.token(int(id)), float(log_prob), int(id))
        for id, log_prob in zip(ids, log_probs, strict=True)
        if math.isfinite(log_prob)
    )
