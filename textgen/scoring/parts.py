"""A sentence's readings to its parts: tokens, words, characters, which add up to it.

A word is what stands between white space; the space before it is its own. Where a token brings
the space before it along, that a word has ended is told only by the token after it. So of the
word the probability that it ends there is taken from the word after it and given to it (Pimentel
and Meister 2024; Oh and Schuler 2024): with b(t) the probability that the token at place t starts
a word or ends the sentence,

    ln p(word) = sum of its tokens' ln p - ln b(where it begins) + ln b(where the next begins)

The first and the last that is scored have no such neighbour and stay as they are; the sum is the
sentence's whichever way it is cut.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from textgen.batching import IdArray
from textgen.metrics import LOG_2
from textgen.results import Choice, PartScore
from textgen.scoring.measures import Measures
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, UNK, Tokenizer

_EOS_NAME = SPECIAL_TOKENS[EOS]


@dataclass(frozen=True)
class Scored:
    """The tokens of a sentence that are scored. surfaces: what each stands for in it."""

    tokenizer: Tokenizer
    ids: IdArray
    surfaces: tuple[str, ...]
    measures: Measures


def token_parts(scored: Scored) -> Iterator[PartScore]:
    """A part a token."""
    before: float | None = None
    for place, (id, surface) in enumerate(zip(scored.ids.tolist(), scored.surfaces, strict=True)):
        entropy = _entropy(scored.measures, place)
        yield PartScore(
            scored.tokenizer.token(id),
            surface,
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
        ids, surface = scored.ids[begin:end], "".join(scored.surfaces[begin:end])
        is_token, ends = end == begin + 1, bool(ids[-1] == EOS)
        entropy = _entropy(measures, begin)
        yield PartScore(
            surface.strip() or (_EOS_NAME if ends else surface),
            surface,
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
    for place, (id, surface) in enumerate(zip(scored.ids.tolist(), scored.surfaces, strict=True)):
        if id in (EOS, UNK):
            log_prob = waiting + float(scored.measures.log_probs[place])
            name, ends = _EOS_NAME if id == EOS else surface, id == EOS
            yield PartScore(name, surface, log_prob, id == UNK, tokens=1 + held, ends=ends, id=id)
        elif not surface:
            waiting, held = waiting + float(scored.measures.log_probs[place]), held + 1
            continue
        else:
            steps = np.diff(_log_masses(scored.measures, place, surface), prepend=0.0)
            steps[0] += waiting
            for character, step in zip(surface, steps.tolist(), strict=True):
                yield PartScore(character, character, step, id=id if len(surface) == 1 else None)
        waiting, held = 0.0, 0
    assert not held, "a character's last byte is where its surface is"


def _log_masses(measures: Measures, place: int, surface: str) -> npt.NDArray[np.float64]:
    """ln p that a token comes which begins as this one, up to each character of its surface.

    The two may differ in the white space around them. Where only the spelling has a space, the
    first character has that of both. Of more white space than is spelt, the first character has
    all that it costs: the rest is no news to the model.
    """
    log_prob = measures.log_probs[place]
    if measures.prefixes is None or len(surface) == 1:
        return np.full(len(surface), log_prob)
    spelt = measures.prefixes[place][~np.isnan(measures.prefixes[place])]
    with np.errstate(divide="ignore"):
        # Sums of many small numbers: a prefix is never less likely than what goes on from it.
        masses = np.minimum.accumulate(np.clip(np.log(spelt), log_prob, 0.0))
    masses[-1] = log_prob
    # Their common tail is aligned; what comes before the spelling has its first space, or nothing.
    length = len(spelt)
    tail = surface if len(surface) == length else surface.rstrip() or surface
    least = 0 if length > len(surface.strip()) else -1
    columns = np.arange(len(surface)) + length - len(tail)
    aligned: npt.NDArray[np.float64] = np.append(masses, 0.0)[np.clip(columns, least, length - 1)]
    return aligned


def _word_starts(scored: Scored) -> Iterator[int]:
    """The places at which words begin: where white space does after a word; ``<EOS>``."""
    blank = True
    for place, (id, surface) in enumerate(zip(scored.ids.tolist(), scored.surfaces, strict=True)):
        starts = id == EOS or surface[:1].isspace()
        if place == 0 or (starts and not blank):
            yield place
            blank = True
        blank = blank and not surface.strip()


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
