"""How often n-grams are seen: all lengths, each in one pass, and no n-gram is ever an object.

The n-grams of a length are numbered in the order of (the number of the same without its newest
token, its newest token). So those that follow one context are neighbours, and what ends at a
place of a text is found from what ends, shorter by one, at the place before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from textgen.models.base import IdArray
from textgen.tokenizers.base import EOS

Whole = npt.NDArray[np.integer[Any]]

_TABLE_OF_PLACES = 4
"""Keys up to so many times the places are counted in a table of all; larger ones are sorted."""


@dataclass(frozen=True)
class Counts:
    """The n-grams of one length, and after them those that begin a text.

    begins: (contexts + 1,), where the n-grams after each context begin. words: (entries,), the
    newest token of each. seen: (entries,), what counts of it. census: (4,), how many n-grams
    have a count of one, of two, of three and of four, for discounts to be estimated from.
    """

    begins: Whole
    words: Whole
    seen: Whole
    census: Whole


@dataclass(frozen=True)
class _Entries:
    """The n-grams of one length, as they are found.

    begins, words: as in Counts. begins_sentence: whether the oldest token is <EOS>; crosses:
    whether a sentence ends within it. seen: how often it was.
    """

    begins: Whole
    words: Whole
    begins_sentence: npt.NDArray[np.bool_]
    crosses: npt.NDArray[np.bool_]
    seen: Whole


def count(ids: IdArray, order: int, vocabulary_size: int) -> list[Counts]:
    """The n-grams of each length from one to ``order`` of a text, which begins after ``<EOS>``.

    Of the longest it counts how often they are seen; of shorter ones, after how many different
    tokens (Kneser and Ney 1995). Those that begin with ``<EOS>`` are there twice: within a text, as
    all others; and for where a text begins, before which there is nothing. There they count as
    often as they are seen, and in the place of ``<EOS>`` stands a number of its own, the size of
    the vocabulary: KenLM's ``<s>`` (Heafield et al. 2013). So a sentence alone has the probability
    that KenLM gives it. The census is of the n-grams within a sentence, as there.
    """
    counted: list[Counts] = []
    before: _Entries | None = None
    contexts = np.zeros(0, np.int64)
    for entries, suffixes in _lengths(ids, order, vocabulary_size):
        if before is not None:
            after_how_many = np.bincount(suffixes, minlength=len(before.words))
            counted.append(_counts(before, after_how_many, contexts))
            contexts = np.flatnonzero(before.begins_sentence) if counted[1:] else np.array([EOS])
        before = entries
    assert before is not None
    return [*counted, _counts(before, before.seen, contexts)]


def _counts(entries: _Entries, after_how_many: Whole, contexts: Whole) -> Counts:
    """contexts: those that begin a text, by their numbers where they begin a sentence."""
    first, following = entries.begins_sentence, np.diff(entries.begins)
    within = np.where(first, np.maximum(after_how_many, 1), after_how_many)
    census = np.where(first, entries.seen, within)[~entries.crosses]
    return Counts(
        np.append(entries.begins, entries.begins[-1] + np.cumsum(following[contexts])),
        np.append(entries.words, entries.words[first]),
        np.append(within, entries.seen[first]),
        np.bincount(np.minimum(census, 5), minlength=6)[1:5],
    )


def _lengths(ids: IdArray, order: int, vocabulary_size: int) -> Iterator[tuple[_Entries, Whole]]:
    """The n-grams of each length, and the number of each without its oldest token."""
    text: Whole = np.concatenate([[EOS], ids]).astype(np.int32)
    words: Whole = np.arange(vocabulary_size, dtype=np.int32)
    never = np.zeros(vocabulary_size, np.bool_)
    seen = np.bincount(text[1:], minlength=vocabulary_size)
    entries = _Entries(np.array([0, vocabulary_size]), words, never, never, seen)
    yield entries, words[:0]
    numbers: Whole = text  # of what ends at each place
    ended: Whole = np.bincount(text, minlength=vocabulary_size)  # what stands before it included
    for length in range(2, order + 1):
        follows, (begins, words, counted) = _extended(
            numbers[:-1], text[length - 1 :], ended, vocabulary_size
        )
        parents = np.repeat(np.arange(len(begins) - 1, dtype=np.int32), np.diff(begins))
        if length == 2:
            begins_sentence, crosses = parents == EOS, np.zeros(len(parents), np.bool_)
        else:
            begins_sentence = entries.begins_sentence[parents]
            crosses = entries.crosses[parents] | (entries.words[parents] == EOS)
        entries = _Entries(begins, words, begins_sentence, crosses, counted)
        suffixes = np.empty(len(words), np.int32)
        suffixes[follows] = numbers[1:]  # wherever one is seen, it ends alike
        yield entries, suffixes
        numbers, ended = follows, counted


def _extended(
    parents: Whole, words: Whole, ended: Whole, vocabulary_size: int
) -> tuple[Whole, tuple[Whole, Whole, Whole]]:
    """What is longer by one token: the number of that at each place; begins, words and seen.

    parents, words: (places,), what ends at the place before, and the token here. ended: at how
    many places each that can be a parent ends.
    """
    # What is seen once is followed once, and needs no sorting: of long n-grams most are.
    once = ended[parents] == 1
    again = ~once
    count = len(ended)
    keys = parents[again].astype(np.int64) * vocabulary_size + words[again]
    unique, ranks, seen_again = _numbered(keys, count * vocabulary_size)
    branches = np.bincount(unique // vocabulary_size, minlength=count)
    lone = parents[once]
    begins = np.zeros(count + 1, np.int64)
    np.cumsum(branches + np.bincount(lone, minlength=count), out=begins[1:])
    # Among those that were sorted, what comes before a parent's first is that of earlier parents.
    shift = begins[:-1] - (np.cumsum(branches) - branches)
    places = np.arange(len(unique)) + shift[unique // vocabulary_size]
    numbers = np.empty(len(parents), np.int32)
    longer, seen = np.empty(begins[-1], np.int32), np.ones(begins[-1], np.int32)
    longer[places], seen[places] = unique % vocabulary_size, seen_again
    numbers[again] = places[ranks]
    numbers[once] = begins[lone]
    longer[begins[lone]] = words[once]
    return numbers, (begins, longer, seen)


def _numbered(keys: Whole, size: int) -> tuple[Whole, Whole, Whole]:
    """The different keys ascending, the number of each key among them, how often each is there.

    keys: (places,), below ``size``.
    """
    if size <= _TABLE_OF_PLACES * len(keys):
        table = np.bincount(keys, minlength=size)
        unique = np.flatnonzero(table)
        ranks = np.empty(size, np.int32)
        ranks[unique] = np.arange(len(unique))
        return unique, ranks[keys], table[unique]
    ordered, order = (part.numpy() for part in torch.sort(torch.from_numpy(keys)))  # by radix
    new = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    ranks = np.empty(len(ordered), np.int32)
    ranks[order] = np.cumsum(new) - 1
    firsts = np.flatnonzero(new)
    return ordered[firsts], ranks, np.diff(firsts, append=len(ordered))
