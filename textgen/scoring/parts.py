"""The score of a sentence by token, word or character; the parts always sum to the sentence.

A word is delimited by white space and includes the space before it. Where tokens include the space
before them, only the next token shows that a word has ended. Therefore the probability of ending
is moved from the next word to the word itself (Pimentel and Meister 2024; Oh and Schuler 2024).
With b(t) the probability that token t starts a word or ends the sentence,

    ln p(word) = sum of its tokens' ln p - ln b(its start) + ln b(the start of the next word)

The first and the last scored word have no such neighbour and are not corrected on that side. So the
text after a prefix begins with a word from which nothing is subtracted for the space before it.

A text may come in words of its own, which end anywhere. Those that end at white space, or at the
end of a sentence that is counted, are scored in the same way; a token that goes on after such an
end is divided as it is into characters.

A token can be spelled in several ways: after an opening bracket a word has no space before it. The
spelling depends on the previous id.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate, pairwise
from typing import NamedTuple

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

    @cache  # a text has few of the ids, and a long one has many prefixes
    def ranges(id: int) -> Tensor:
        text = "" if id in (UNK, EOS) else _text(way[id])
        prefixes = [way[id][:end] for end in accumulate(len(each.encode()) for each in text)]
        places = [
            (bisect_left(spellings, each), bisect_left(spellings, each + _AFTER))
            for each in prefixes
        ]
        return torch.tensor(places, dtype=torch.int64).reshape(-1, 2)

    longest = max(len(_text(spelling)) for spelling in way)
    return Prefixes(torch.tensor(order), ranges, longest)


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
        if (config.level == "character" or config.own_words) and tokenizer.level != "char":
            ways, way = spellings(tokenizer)
            self.statistics["prefixes"] = PrefixMasses(tuple(map(_prefixes, ways)), way)
        if config.alternatives:
            count = min(config.alternatives, tokenizer.vocabulary_size)
            self.statistics["alternatives"] = Alternatives(count)

    def of(
        self,
        ids: Sequence[int],
        texts: Sequence[str],
        values: TokenStatistics,
        word_ends: Sequence[int] | None = None,
    ) -> tuple[PartScore, ...]:
        """The parts of a sentence: its tokens, words or characters, and ``<EOS>``.

        Args:
            ids: Of the tokens that are scored.
            texts: What each stands for in the sentence.
            values: (tokens, columns), ln p of each, then its statistics.
            word_ends: Where its own words end, in characters of the sentence; they need the
                configuration's ``own_words``.
        """
        ends = np.cumsum([statistic.columns for statistic in self.statistics.values()], dtype=int)
        columns = np.split(values[:, 1:], ends[:-1], axis=1)
        named = dict(zip(self.statistics, columns, strict=False))
        if word_ends is not None:
            return tuple(_own_words(ids, texts, word_ends, values[:, 0], named))
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
                text = self._tokenizer.text_of(ids[begin])
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
                    self._choice(int(id), float(log_prob))
                    for id, log_prob in zip(*np.split(alternatives, 2), strict=True)
                    if math.isfinite(log_prob)
                ),
                token=self._tokenizer.token(ids[begin]) if self._level == "token" else None,
            )
            before = entropy

    def _choice(self, id: int, log_prob: float) -> Choice:
        return Choice(self._tokenizer.text_of(id), log_prob, id, self._tokenizer.token(id))


def _word_starts(ids: Sequence[int], texts: Sequence[str]) -> Iterator[int]:
    """The places where words start: at white space after a word, and at ``<EOS>``."""
    blank = True
    for place, (id, span) in enumerate(zip(ids, texts, strict=True)):
        starts = id == EOS or span[:1].isspace()
        if place == 0 or (starts and not blank):
            yield place
            blank = True
        blank = blank and not span.strip()


class _Edge(NamedTuple):
    """Where a word of a text's own ends.

    Attributes:
        place: How many tokens are complete there.
        inside: Whether the next token has begun.
        log_prob: Of the beginning of the next token, or that it begins with white space.
    """

    place: int
    inside: bool
    log_prob: float


def _own_words(
    ids: Sequence[int],
    texts: Sequence[str],
    word_ends: Sequence[int],
    log_probs: Floats,
    named: Mapping[str, Floats],
) -> Iterator[PartScore]:
    """The words between these ends, the last of which is that of the text; then ``<EOS>``, if any.

    A token that belongs to several is counted in each. If it is ``<UNK>``, the first has all of
    its probability. An empty word has probability 1.
    """
    text, token_ends = "".join(texts), list(accumulate(map(len, texts)))
    eos = len(ids) - (bool(ids) and ids[-1] == EOS)  # its place, or the end

    def edge(end: int) -> _Edge:
        if end >= len(text):
            ends_word = eos < len(ids) and text and not text[-1].isspace()
            boundary = float(named["boundaries"][eos, 0]) if ends_word else 0.0
            return _Edge(eos, False, boundary)
        place = bisect_right(token_ends, end)
        offset = end - (token_ends[place - 1] if place else 0)
        if offset and ids[place] == UNK:
            return _Edge(place, True, float(log_probs[place]))
        if offset:
            prefixes = named["prefixes"][place]
            masses = _prefix_log_probs(float(log_probs[place]), prefixes, texts[place])
            return _Edge(place, True, float(masses[offset - 1]))
        if text[end].isspace() and end and not text[end - 1].isspace():
            return _Edge(place, False, float(named["boundaries"][place, 0]))
        # The first bytes of the next character have no text.
        return _Edge(bisect_left(token_ends, end) + 1 if end else 0, False, 0.0)

    # The first token may begin before the sentence, in its prefix.
    before = max(0, len(text) - word_ends[-1]) if word_ends else 0
    begin, first = 0, _Edge(0, False, 0.0)
    for start, end in pairwise((0, *word_ends)):
        if start == end:
            yield PartScore("", "", 0.0, tokens=0)
            continue
        last = edge(before + end)
        tokens = ids[first.place : last.place + last.inside]
        log_prob = float(log_probs[first.place : last.place].sum())
        span = text[begin : before + end]
        yield PartScore(
            span.strip() or span,
            span,
            log_prob - first.log_prob + last.log_prob,
            UNK in tokens,
            tokens=len(tokens),
        )
        begin, first = before + end, last
    if eos < len(ids):
        rest = float(log_probs[first.place :].sum()) - first.log_prob
        yield PartScore(SPECIAL_TOKENS[EOS], "", rest, ends=True, id=EOS)


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
