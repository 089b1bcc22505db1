"""Counts of n-grams, and interpolated Kneser-Ney smoothing with three discounts per order.

All n-grams of an order are counted in one pass, as arrays. They are numbered in the order of (the
id of the n-gram without its newest token, the newest token), so the successors of a context are
adjacent, and the n-gram that ends at a position is found from the next shorter one that ends at
the position before.

Kneser and Ney 1995; Chen and Goodman 1999, "An empirical study of smoothing techniques for
language modeling". The probability of an n-gram is its discounted count over that of its context,
plus the back-off weight times the probability of the n-gram without its oldest token; the lowest
order interpolates with the uniform distribution.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from textgen.inference.native import NgramLevel
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


UNSEEN = -1
"""The number of an n-gram that was never seen, or that reaches back before the text."""

CLUES = 2
"""How many ``clues`` there are of each context."""

# Where there are too few counts to estimate them from: KenLM's --discount_fallback.
_USUAL_DISCOUNTS = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class _Level(NgramLevel):
    """Those of one length, to be looked up in many places at once.

    keys: (entries,) ascending, each the context's number times the vocabulary, and the token.
    """

    keys: Tensor


class NgramTables(nn.Module):
    """The counts of a text, as buffers, and what follows from them.

    A text is read token by token: the numbers of the n-grams that end there, (..., order - 1), of
    one token, of two and so on, are all that is remembered of it. The number of one token is its
    id, and of the ``<EOS>`` that a text begins after the size of the vocabulary.
    """

    census: Tensor
    seen_1: Tensor

    def __init__(self, order: int, vocabulary_size: int, counted: tuple[int, ...]) -> None:
        super().__init__()
        self.order, self.vocabulary_size = order, vocabulary_size
        for name, shape in self.shapes(order, vocabulary_size, counted).items():
            dtype = torch.int64 if name.startswith("census") else torch.int32
            self.register_buffer(name, torch.zeros(shape, dtype=dtype))

    @staticmethod
    def shapes(
        order: int, vocabulary_size: int, counted: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Of each buffer. counted: how many n-grams there are of each length from two."""
        counted = counted or (0,) * (order - 1)
        shapes: dict[str, tuple[int, ...]] = {"census": (order, 4), "seen_1": (vocabulary_size,)}
        contexts = vocabulary_size + 1  # the last is where a text begins
        for length, entries in enumerate(counted, start=2):
            shapes[f"begins_{length}"] = (contexts + 1,)
            shapes[f"words_{length}"] = shapes[f"seen_{length}"] = (entries,)
            contexts = entries
        return shapes

    def read(self, ids: IdArray) -> tuple[int, ...]:
        """Count a text; returns how many n-grams there are of each length from two."""
        device = self.seen_1.device
        counts = count(ids, self.order, self.vocabulary_size)
        self.census = torch.from_numpy(np.stack([each.census for each in counts]))
        self.seen_1 = torch.from_numpy(counts[0].seen).int()
        for length, each in enumerate(counts[1:], start=2):
            setattr(self, f"begins_{length}", torch.from_numpy(each.begins).int())
            setattr(self, f"words_{length}", torch.from_numpy(each.words))
            setattr(self, f"seen_{length}", torch.from_numpy(each.seen).int())
        self.to(device)  # which forgets what followed from the tables before
        return tuple(len(each.words) for each in counts[1:])

    def check(self) -> None:
        """Raises ValueError for tables that no counting leaves."""
        for length in range(2, self.order + 1):
            begins, words = self._buffer("begins", length).long(), self._buffer("words", length)
            if int(begins[0]) or int(begins[-1]) != len(words) or bool((begins.diff() < 0).any()):
                raise ValueError(f"n-grams of {length} tokens are not in the order of contexts")
            inner = torch.ones(max(len(words) - 1, 0), dtype=torch.bool)
            inner[begins[(begins > 0) & (begins < len(words))] - 1] = False
            if bool((words.long().diff()[inner] <= 0).any()):
                raise ValueError(f"n-grams of {length} tokens are not in the order of tokens")
            if len(words) and not 0 <= int(words.min()) <= int(words.max()) < self.vocabulary_size:
                raise ValueError(f"n-grams of {length} tokens are of unknown tokens")
        for length in range(1, self.order + 1):
            seen = self._buffer("seen", length)
            if len(seen) and int(seen.min()) < (length > 1):
                raise ValueError(f"counts of {length} tokens that cannot be")
        if int(self.census.min()) < 0:
            raise ValueError("counts of counts that cannot be")

    def _apply(self, *arguments: Any, **named: Any) -> Any:
        self.__dict__.pop("_levels", None)  # what followed from tables that are elsewhere now
        return super()._apply(*arguments, **named)  # type: ignore[no-untyped-call]

    def discounts(self, length: int) -> tuple[float, ...] | None:
        """What is taken from a count of one, of two, of three and more (equation 26).

        None where there are too few n-grams to estimate it from, as in KenLM; or where one is 0,
        which could leave nothing to what was never seen.
        """
        ones, twos, threes, fours = (int(number) for number in self.census[length - 1])
        if not (ones and twos and threes):
            return None
        part = ones / (ones + 2 * twos)
        of_two, of_more = 2 - 3 * part * threes / twos, 3 - 4 * part * fours / threes
        found = (1 - 2 * part * twos / ones, of_two, of_more)
        possible = all(0 < each <= most for most, each in enumerate(found, start=1))
        return found if possible else None

    def remarks(self) -> tuple[str, ...]:
        """What a person should hear of how it went."""
        # Of single characters there are always few, and all of them are known.
        short = [n for n in range(2, self.order + 1) if self.discounts(n) is None]
        if not short:
            return ()
        usual = ", ".join(f"{each:g}" for each in _USUAL_DISCOUNTS)
        return (
            f"too few counts to estimate the discounts of n-grams of {', '.join(map(str, short))}"
            f" tokens from; they are the usual {usual}",
        )

    def _buffer(self, name: str, length: int) -> Tensor:
        buffer: Tensor = getattr(self, f"{name}_{length}")
        return buffer

    @cached_property
    def _levels(self) -> list[_Level]:
        """In float64, whatever the model computes in: the counts are whole numbers.

        Where a device has no float64 (MPS), in float32.
        """
        return [self._level(length) for length in range(1, self.order + 1)]

    def _level(self, length: int) -> _Level:
        seen = _wide(self._buffer("seen", length))
        if length > 1:
            begins, words = self._buffer("begins", length).long(), self._buffer("words", length)
        else:
            begins = torch.tensor([0, self.vocabulary_size], device=seen.device)
            words = torch.arange(self.vocabulary_size, device=seen.device)
        contexts = torch.arange(len(begins) - 1, device=seen.device)
        parents = contexts.repeat_interleave(begins.diff())
        discounts = (0.0, *(self.discounts(length) or _USUAL_DISCOUNTS))
        kinds = seen.clamp(max=3).long()

        def after_each(numbers: Tensor) -> Tensor:
            # Sums of whole numbers, which are the same in whatever order a device adds.
            return seen.new_zeros(len(contexts)).index_add_(0, parents, numbers)

        totals, freed = after_each(seen), seen.new_zeros(len(contexts))
        for kind in (1, 2, 3):
            freed += discounts[kind] * after_each(_wide(kinds == kind))
        nothing = totals == 0
        return _Level(
            keys=parents * self.vocabulary_size + words,
            begins=begins,
            words=words.long(),
            own=(seen - seen.new_tensor(discounts)[kinds]) / totals[parents].clamp(min=1),
            left=torch.where(nothing, 1.0, freed / totals.clamp(min=1)),
            log_seen=totals.log1p(),
        )

    def follow(self, ids: Tensor, before: Tensor) -> Tensor:
        """The numbers of what ends at each of ids (time, batch): (time, batch, order - 1).

        before: (batch, order - 1), of what ended before the first.
        """
        if self.order == 1:
            return ids.new_empty(*ids.shape, 0)
        begins = (before[:, 0] == UNSEEN) & (ids[0] == EOS)
        first = torch.where(begins, self.vocabulary_size, ids[0])
        numbers = [torch.cat([first.unsqueeze(0), ids[1:]])]
        for length in range(2, self.order):
            shorter = torch.cat([before[None, :, length - 2], numbers[-1][:-1]])
            numbers.append(self._find(length, shorter, ids))
        return torch.stack(numbers, -1)

    def shares(self, contexts: Tensor, targets: Tensor) -> Tensor:
        """p of targets (places,), float64.

        contexts: (places, order - 1), as ``follow`` gives them.
        """
        first = self._levels[0]
        share = first.own[targets] + first.left / self.vocabulary_size
        for length in range(2, self.order + 1):
            level, context = self._levels[length - 1], contexts[:, length - 2]
            own = self._of(level.own, self._find(length, context, targets), 0.0)
            share = own + self._of(level.left, context, 1.0) * share
        return share

    def distributions(self, contexts: Tensor) -> Tensor:
        """What ``shares`` are taken from: (places, vocabulary), float64."""
        first = self._levels[0]
        shares = (first.own + first.left / self.vocabulary_size).expand(len(contexts), -1)
        for length in range(2, self.order + 1):
            level, context = self._levels[length - 1], contexts[:, length - 2]
            shares = self._of(level.left, context, 1.0).unsqueeze(1) * shares
            known = (context >= 0).nonzero().flatten()
            begin = level.begins[context[known]]
            count = level.begins[context[known] + 1] - begin
            rows = known.repeat_interleave(count)
            # Those after each context are neighbours: from its first, one by one.
            within = torch.arange(len(rows), device=rows.device)
            within -= (count.cumsum(0) - count).repeat_interleave(count)
            entries = begin.repeat_interleave(count) + within
            shares = shares.index_put((rows, level.words[entries]), level.own[entries], True)
        return shares

    def step(self, ids: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """ids (rows,), numbers before them (rows, order - 1) -> p of what may follow (rows,
        vocabulary), float64, and the numbers after them."""
        after = self.follow(ids.unsqueeze(0), numbers)[0]
        return self.distributions(after), after

    def compiled(self) -> tuple[Sequence[NgramLevel], Tensor]:
        """For the compiled code: n-grams of two tokens, of three and so on, and p of each token."""
        first, *levels = self._levels
        return levels, first.own + first.left / self.vocabulary_size

    def clues(self, contexts: Tensor) -> Tensor:
        """How much to believe what is said after contexts (places, order - 1).

        Of each length, ln(1 + how much was counted after it), 0 after none, and the share that is
        left to shorter ones: (places, CLUES (order - 1)).
        """
        columns = []
        for level, context in zip(self._levels[1:], contexts.unbind(-1), strict=True):
            columns += [self._of(level.log_seen, context, 0.0), self._of(level.left, context, 1.0)]
        return torch.stack(columns, -1) if columns else _wide(contexts)

    @staticmethod
    def _of(values: Tensor, numbers: Tensor, otherwise: float) -> Tensor:
        """The values (entries,) of numbered things, and something else for UNSEEN."""
        if not len(values):
            return torch.full_like(numbers, otherwise, dtype=values.dtype)
        return torch.where(numbers >= 0, values[numbers.clamp(min=0)], otherwise)

    def _find(self, length: int, contexts: Tensor, ids: Tensor) -> Tensor:
        """The number of a context and an id, as an n-gram of this length, or UNSEEN."""
        keys = self._levels[length - 1].keys
        if not len(keys):
            return torch.full_like(ids, UNSEEN)
        wanted = contexts * self.vocabulary_size + ids
        place = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        return torch.where((contexts >= 0) & (keys[place] == wanted), place, UNSEEN)


def _wide(numbers: Tensor) -> Tensor:
    return numbers.float() if numbers.device.type == "mps" else numbers.double()
