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
from functools import cache
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.config import ScoringConfig
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


def spellings(tokenizer: Tokenizer) -> tuple[list[Sequence[bytes]], Tensor]:
    """The ways to spell a vocabulary, and (vocabulary,) which of them is used after each id."""
    decoder = tokenizer.decoder()
    ways: dict[bool, tuple[int, Sequence[bytes]]] = {}
    way_after = []
    for id in range(tokenizer.vocabulary_size):
        after = decoder.copy()
        after.feed(id)
        if after.joined not in ways:
            ways[after.joined] = (len(ways), after.next_bytes())
        way_after.append(ways[after.joined][0])
    return [next_bytes for _, next_bytes in ways.values()], torch.tensor(way_after)


def starts_word(ways: Sequence[Sequence[bytes]]) -> Tensor:
    """(ways, vocabulary): ids that start with white space, and ``<EOS>``."""
    starts = torch.tensor([[_text(each)[:1].isspace() for each in way] for way in ways])
    starts[:, EOS] = True
    return starts


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


class Parts:
    """Divides sentences into their parts at a level.

    Attributes:
        statistics: Those that the level needs, by name: entropies in nats and ranks; boundaries,
            ln of the probability that a word begins there or the sentence ends; prefixes, the
            probability of the first character, the first two, ...; alternatives, the most
            probable ids, then the ln p of each.
    """

    def __init__(self, tokenizer: Tokenizer, config: ScoringConfig) -> None:
        self._tokenizer, self._level = tokenizer, config.level
        self.statistics: dict[str, TokenStatistic] = {}
        if config.level in ("token", "word"):
            self.statistics |= {"entropies": Entropy(), "ranks": Rank()}
        if config.level == "word":
            ways, way = spellings(tokenizer)
            self.statistics["boundaries"] = LogMass(starts_word(ways), way)
        if config.level == "character" and tokenizer.level != "char":
            ways, way = spellings(tokenizer)
            self.statistics["prefixes"] = PrefixMasses(tuple(map(_prefixes, ways)), way)
        if config.alternatives:
            count = min(config.alternatives, tokenizer.vocabulary_size)
            self.statistics["alternatives"] = Alternatives(count)

    def of(
        self, ids: Sequence[int], texts: Sequence[str], values: TokenStatistics
    ) -> tuple[PartScore, ...]:
        """The parts of a sentence: its tokens, words or characters, and ``<EOS>``.

        Args:
            ids: Of the tokens that are scored.
            texts: What each stands for in the sentence.
            values: (tokens, columns), ln p of each, then its statistics.
        """
        ends = np.cumsum([statistic.columns for statistic in self.statistics.values()], dtype=int)
        columns = np.split(values[:, 1:], ends[:-1], axis=1)
        named = dict(zip(self.statistics, columns, strict=False))
        if self._level == "character":
            return tuple(_characters(ids, texts, values[:, 0], named.get("prefixes")))
        starts = _word_starts(ids, texts) if self._level == "word" else range(len(ids))
        return tuple(self._spans(ids, texts, [*starts, len(ids)], values[:, 0], named))

    def _spans(
        self,
        ids: Sequence[int],
        texts: Sequence[str],
        edges: Sequence[int],
        log_probs: Floats,
        named: Mapping[str, Floats],
    ) -> Iterator[PartScore]:
        """The parts between edges: words or tokens."""
        entropies, ranks = named["entropies"][:, 0] / LOG_2, named["ranks"][:, 0]
        before = None
        for begin, end in pairwise(edges):
            is_token, ends = end == begin + 1, ids[end - 1] == EOS
            span = "".join(texts[begin:end])
            if self._level == "token":
                text = self._tokenizer.token(ids[begin])
                log_prob = float(log_probs[begin])
            else:
                boundaries = named["boundaries"][:, 0]
                text = span.strip() or (SPECIAL_TOKENS[EOS] if ends else span)
                log_prob = float(log_probs[begin:end].sum())
                if begin:
                    log_prob -= float(boundaries[begin])
                if end < len(ids):
                    log_prob += float(boundaries[end])
            entropy = float(entropies[begin])
            alternatives = named["alternatives"][begin] if "alternatives" in named else np.empty(0)
            yield PartScore(
                text,
                span,
                log_prob,
                UNK in ids[begin:end],
                tokens=end - begin,
                ends=ends,
                id=EOS if ends else ids[begin],
                rank=int(ranks[begin]) if is_token else None,
                entropy=entropy,
                entropy_reduction=0.0 if before is None else max(0.0, before - entropy),
                alternatives=tuple(
                    Choice(self._tokenizer.token(int(id)), float(log_prob), int(id))
                    for id, log_prob in zip(*np.split(alternatives, 2), strict=True)
                    if math.isfinite(log_prob)
                ),
            )
            before = entropy


def _word_starts(ids: Sequence[int], texts: Sequence[str]) -> Iterator[int]:
    """The places where words start: at white space after a word, and at ``<EOS>``."""
    blank = True
    for place, (id, span) in enumerate(zip(ids, texts, strict=True)):
        starts = id == EOS or span[:1].isspace()
        if place == 0 or (starts and not blank):
            yield place
            blank = True
        blank = blank and not span.strip()


def _characters(
    ids: Sequence[int], texts: Sequence[str], log_probs: Floats, prefixes: Floats | None
) -> Iterator[PartScore]:
    """The characters, and ``<EOS>``; ``<UNK>`` is one part.

    A character inside a token has the probability that a token with this prefix comes, given that
    one with the prefix before it comes; the last has the rest. The first also has the tokens
    before it that have no text.
    """
    waiting, count = 0.0, 0  # of tokens that complete no character, such as single bytes
    tokens = zip(ids, texts, log_probs.tolist(), strict=True)
    for place, (id, span, log_prob) in enumerate(tokens):
        if not span and id not in (EOS, UNK):
            waiting, count = waiting + log_prob, count + 1
            continue
        if id in (EOS, UNK):
            ends, total = id == EOS, waiting + log_prob
            name = SPECIAL_TOKENS[EOS] if ends else span
            yield PartScore(name, span, total, id == UNK, tokens=1 + count, ends=ends, id=id)
        else:
            known = None if prefixes is None else prefixes[place]
            steps = np.diff(_prefix_log_probs(log_prob, known, span), prepend=0.0)
            steps[0] += waiting
            for character, step in zip(span, steps.tolist(), strict=True):
                yield PartScore(character, character, step, id=id if len(span) == 1 else None)
        waiting, count = 0.0, 0
    assert not count, "a character's text is at its last byte"


def _prefix_log_probs(log_prob: float, prefixes: Floats | None, span: str) -> Floats:
    """ln p that a token with the same prefix comes, for each prefix of a span (characters,).

    The span and the spelling of the token may differ in the white space around them. Where only
    the spelling has a space, the first character has the probability of both. Where the span has
    more white space, its first character has the cost of all of it.
    """
    if prefixes is None or len(span) == 1:
        return np.full(len(span), log_prob)
    known = prefixes[~np.isnan(prefixes)]
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
