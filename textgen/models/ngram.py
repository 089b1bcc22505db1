"""The n-gram language model: counts, and interpolated modified Kneser-Ney smoothing.

Kneser and Ney 1995; Chen and Goodman 1999, "An empirical study of smoothing techniques for
language modeling"; Heafield et al. 2013, "Scalable modified Kneser-Ney language model estimation"
(KenLM), whose terms are used here. The probability of an n-gram is its discounted probability,
(count - discount) / total count of its context, plus the back-off weight of the context times the
probability of the n-gram without its first token. Unigrams are interpolated with the uniform
distribution.

The n-grams of an order are sorted by (id of the context, last token), and the place in this order
is the id of an n-gram. So the n-grams after a context are adjacent, and the n-gram that ends at a
position is found from the next shorter one that ends at the position before.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from textgen.config import NgramConfig
from textgen.errors import DataError
from textgen.models.base import Dropout, HiddenStates, IdArray, Model, State, check_ids
from textgen.tokenizers.base import EOS

IntArray = npt.NDArray[np.integer[Any]]
BoolArray = npt.NDArray[np.bool_]

_DENSE_FACTOR = 4
"""Keys below this many times their number are counted in a dense table; others are sorted."""


@dataclass(frozen=True)
class Counts:
    """The n-grams of one order; after those of the text, the ones that begin with ``<s>``.

    offsets: (contexts + 1,), where the n-grams after each context begin. tokens: (entries,), the
    last token of each. counts: (entries,), adjusted counts. counts_of_counts: (4,), how many
    n-grams have an adjusted count of 1, 2, 3 and 4.
    """

    offsets: IntArray
    tokens: IntArray
    counts: IntArray
    counts_of_counts: IntArray


@dataclass(frozen=True)
class _Occurrences:
    """The n-grams of one order as they occur in the text.

    offsets, tokens: as in Counts. counts: (entries,), of occurrences. starts_sentence: whether
    the first token is ``<EOS>``. crosses_sentences: whether ``<EOS>`` is within the n-gram.
    """

    offsets: IntArray
    tokens: IntArray
    counts: IntArray
    starts_sentence: BoolArray
    crosses_sentences: BoolArray

    def adjusted(self, counts: IntArray, starts: IntArray) -> Counts:
        """Append the n-grams after ``<s>``, and count counts.

        counts: (entries,), of occurrences or continuations. starts: the contexts that begin with
        ``<EOS>``.
        """
        first, lengths = self.starts_sentence, np.diff(self.offsets)
        within = np.where(first, np.maximum(counts, 1), counts)
        in_sentences = np.where(first, self.counts, within)[~self.crosses_sentences]
        return Counts(
            np.append(self.offsets, self.offsets[-1] + np.cumsum(lengths[starts])),
            np.append(self.tokens, self.tokens[first]),
            np.append(within, self.counts[first]),
            np.bincount(np.minimum(in_sentences, 5), minlength=6)[1:5],
        )


def count(ids: IdArray, order: int, vocabulary_size: int) -> list[Counts]:
    """Count the n-grams of each order from 1 to ``order`` in a text that follows ``<EOS>``.

    The adjusted count of an n-gram is the number of its occurrences in the highest order, and in
    lower orders the number of different tokens before it (its continuation count).

    N-grams that begin with ``<EOS>`` are stored twice: like all others, for sentences within a
    text; and for the start of a text with ``<s>`` as in KenLM, whose id is the vocabulary size.
    Nothing precedes ``<s>``, so the adjusted count of the latter is the number of occurrences.
    Thus a sentence on its own has the probability that KenLM gives it. As there, the counts of
    counts are those of n-grams within a sentence.
    """
    text: IntArray = np.concatenate([[EOS], ids]).astype(np.int32)
    tokens: IntArray = np.arange(vocabulary_size, dtype=np.int32)
    none = np.zeros(vocabulary_size, np.bool_)
    unigram_counts = np.bincount(text[1:], minlength=vocabulary_size)
    ngrams = _Occurrences(np.array([0, vocabulary_size]), tokens, unigram_counts, none, none)
    ngram_ids: IntArray = text  # of the n-gram that ends at each position
    frequencies: IntArray = np.bincount(text, minlength=vocabulary_size)  # with the first <EOS>
    starts = np.zeros(0, np.int64)  # contexts that begin with <EOS>, to be repeated with <s>
    counts: list[Counts] = []
    for length in range(2, order + 1):
        longer_ids, offsets, tokens, frequencies = _extended(
            ngram_ids[:-1], text[length - 1 :], frequencies, vocabulary_size
        )
        contexts = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
        suffixes = np.empty(len(tokens), np.int32)
        suffixes[longer_ids] = ngram_ids[1:]  # the same at all occurrences of an n-gram
        continuations = np.bincount(suffixes, minlength=len(ngrams.tokens))
        counts.append(ngrams.adjusted(continuations, starts))
        if length == 2:
            starts = np.array([EOS])
            starts_sentence, crosses = contexts == EOS, np.zeros(len(contexts), np.bool_)
        else:
            starts = np.flatnonzero(ngrams.starts_sentence)
            starts_sentence = ngrams.starts_sentence[contexts]
            crosses = ngrams.crosses_sentences[contexts] | (ngrams.tokens[contexts] == EOS)
        ngrams = _Occurrences(offsets, tokens, frequencies, starts_sentence, crosses)
        ngram_ids = longer_ids
    return [*counts, ngrams.adjusted(ngrams.counts, starts)]


def _extended(
    contexts: IntArray, tokens: IntArray, frequencies: IntArray, vocabulary_size: int
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Find the n-grams that are longer by one token.

    contexts: (positions,), id of the n-gram that ends at the position before. tokens:
    (positions,), the token there. frequencies: (contexts,), at how many positions each ends.

    Returns the id of the longer n-gram at each position; their offsets, tokens and counts.
    """
    # What occurs once is followed once, and is not sorted: most long n-grams occur once.
    once = frequencies[contexts] == 1
    repeated = ~once
    size = len(frequencies)
    keys = contexts[repeated].astype(np.int64) * vocabulary_size + tokens[repeated]
    unique, ranks, repeated_counts = _ranked(keys, size * vocabulary_size)
    branches = np.bincount(unique // vocabulary_size, minlength=size)
    singles = contexts[once]
    offsets = np.zeros(size + 1, np.int64)
    np.cumsum(branches + np.bincount(singles, minlength=size), out=offsets[1:])
    # The place of a sorted n-gram, moved by the unsorted n-grams of earlier contexts.
    shift = offsets[:-1] - (np.cumsum(branches) - branches)
    places = np.arange(len(unique)) + shift[unique // vocabulary_size]
    longer = np.empty(len(contexts), np.int32)
    last_tokens, counts = np.empty(offsets[-1], np.int32), np.ones(offsets[-1], np.int32)
    last_tokens[places], counts[places] = unique % vocabulary_size, repeated_counts
    longer[repeated] = places[ranks]
    longer[once] = offsets[singles]
    last_tokens[offsets[singles]] = tokens[once]
    return longer, offsets, last_tokens, counts


def _ranked(keys: IntArray, size: int) -> tuple[IntArray, IntArray, IntArray]:
    """The distinct keys in ascending order, the rank of each key below ``size``, their counts."""
    if size <= _DENSE_FACTOR * len(keys):
        table = np.bincount(keys, minlength=size)
        unique = np.flatnonzero(table)
        ranks = np.empty(size, np.int32)
        ranks[unique] = np.arange(len(unique))
        return unique, ranks[keys], table[unique]
    ordered, order = (part.numpy() for part in torch.sort(torch.from_numpy(keys)))  # radix sort
    new = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    ranks = np.empty(len(ordered), np.int32)
    ranks[order] = np.cumsum(new) - 1
    firsts = np.flatnonzero(new)
    return ordered[firsts], ranks, np.diff(firsts, append=len(ordered))


UNSEEN = -1
"""The id of an n-gram that does not occur, or that reaches back before the text."""

GATE_INPUTS_PER_ORDER = 2

_FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # those of lmplz --discount_fallback


@dataclass(frozen=True)
class NgramOrder:
    """The smoothed n-grams of one order; int64, and float64 (float32 on MPS).

    offsets, tokens: as in Counts. probability: (entries,), discounted. backoff: (contexts,), the
    back-off weight, 1 where nothing follows. log_total: (contexts,), ln(1 + total count). keys:
    (entries,), id of the context times vocabulary size plus last token, ascending.
    """

    offsets: Tensor
    tokens: Tensor
    probability: Tensor
    backoff: Tensor
    log_total: Tensor
    keys: Tensor


class NgramTables(nn.Module):
    """N-gram counts as buffers, and the smoothed probabilities computed from them.

    The context of a prediction is (..., order - 1) ids: of the unigram, the bigram and so on that
    end at the last token. That of the first ``<EOS>`` of a text is ``<s>``, the vocabulary size.
    """

    counts_of_counts: Tensor
    counts_1: Tensor

    def __init__(self, order: int, vocabulary_size: int, entries: tuple[int, ...] = ()) -> None:
        """entries: how many n-grams there are of each order from 2; empty before counting."""
        super().__init__()
        self.order, self.vocabulary_size = order, vocabulary_size
        self.register_buffer("counts_of_counts", torch.zeros(order, 4, dtype=torch.int64))
        self.register_buffer("counts_1", torch.zeros(vocabulary_size, dtype=torch.int32))
        contexts = vocabulary_size + 1  # the last is <s>
        for length, size in enumerate(entries or (0,) * (order - 1), start=2):
            for name, shape in (("offsets", contexts + 1), ("tokens", size), ("counts", size)):
                self.register_buffer(f"{name}_{length}", torch.zeros(shape, dtype=torch.int32))
            contexts = size

    def check_text(self, ids: IdArray) -> None:
        """Raises DataError where the text has no n-gram of the highest order."""
        if self.order > len(ids):
            raise DataError(
                f"--order {self.order} exceeds the length of the text",
                why=f"there are {len(ids)} tokens to train on",
                fix="lower --order or give more text",
            )

    def count(self, ids: IdArray) -> tuple[int, ...]:
        """Count a text; returns the number of n-grams of each order from 2."""
        device = self.counts_1.device
        unigrams, *longer = counts = count(ids, self.order, self.vocabulary_size)
        self.counts_of_counts = torch.from_numpy(np.stack([c.counts_of_counts for c in counts]))
        self.counts_1 = torch.from_numpy(unigrams.counts).int()
        for length, each in enumerate(longer, start=2):
            setattr(self, f"offsets_{length}", torch.from_numpy(each.offsets).int())
            setattr(self, f"tokens_{length}", torch.from_numpy(each.tokens))
            setattr(self, f"counts_{length}", torch.from_numpy(each.counts).int())
        self.to(device)  # and drops what was computed from earlier counts
        return tuple(len(each.tokens) for each in longer)

    def check(self) -> None:
        """Raises ValueError if the buffers cannot be counts of a text."""
        for length in range(1, self.order + 1):
            offsets, tokens, counts = self._counts(length)
            size = len(tokens)
            if int(offsets[0]) or int(offsets[-1]) != size or bool((offsets.diff() < 0).any()):
                raise ValueError(f"{length}-grams are not sorted by context")
            same_context = torch.ones(max(size - 1, 0), dtype=torch.bool)
            same_context[offsets[(offsets > 0) & (offsets < size)] - 1] = False
            if bool((tokens.diff()[same_context] <= 0).any()):
                raise ValueError(f"{length}-grams are not sorted by token")
            if size and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocabulary_size:
                raise ValueError(f"{length}-grams have tokens outside the vocabulary")
            if size and int(counts.min()) < (length > 1):
                raise ValueError(f"counts of {length}-grams are too small")
        if int(self.counts_of_counts.min()) < 0:
            raise ValueError("counts of counts are negative")

    def _counts(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets, tokens and counts of an order, int64, as in Counts."""
        counts: Tensor = getattr(self, f"counts_{length}")
        if length == 1:
            tokens = torch.arange(self.vocabulary_size, device=counts.device)
            return tokens.new_tensor([0, self.vocabulary_size]), tokens, counts.long()
        offsets, tokens = getattr(self, f"offsets_{length}"), getattr(self, f"tokens_{length}")
        return offsets.long(), tokens.long(), counts.long()

    def _apply(self, *arguments: Any, **named: Any) -> Any:
        # Computed from buffers that are about to be replaced.
        for name in ("orders", "unigrams", "cpu_orders"):
            self.__dict__.pop(name, None)
        return super()._apply(*arguments, **named)  # type: ignore[no-untyped-call]

    def discounts(self, length: int) -> tuple[float, ...] | None:
        """D1, D2 and D3+ of an order (Chen and Goodman 1999, equation 26).

        None where there are too few n-grams to estimate them, as in KenLM; or where a discount
        would be 0, which could leave no probability to unseen n-grams.
        """
        n1, n2, n3, n4 = (int(number) for number in self.counts_of_counts[length - 1])
        if not (n1 and n2 and n3):
            return None
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        possible = all(0 < each <= most for most, each in enumerate(found, start=1))
        return found if possible else None

    def remarks(self) -> tuple[str, ...]:
        """A warning where discounts could not be estimated."""
        # Not of unigrams: of characters there are always few, and all are known.
        without = [str(n) for n in range(2, self.order + 1) if self.discounts(n) is None]
        if not without:
            return ()
        fallback = ", ".join(f"{each:g}" for each in _FALLBACK_DISCOUNTS)
        return (
            "too few counts to estimate Kneser-Ney discounts of order "
            f"{', '.join(without)}; using {fallback}",
        )

    @cached_property
    def orders(self) -> list[NgramOrder]:
        """From unigrams up; float64 whatever the model computes in, since counts are integers."""
        return [self._smoothed(length) for length in range(1, self.order + 1)]

    @cached_property
    def cpu_orders(self) -> list[NgramOrder]:
        """``orders`` in the memory of the CPU."""
        return [
            NgramOrder(*(getattr(order, each.name).cpu() for each in dataclasses.fields(order)))
            for order in self.orders
        ]

    @cached_property
    def unigrams(self) -> Tensor:
        """Probabilities of unigrams, interpolated with the uniform distribution (vocabulary,)."""
        return self.orders[0].probability + self.orders[0].backoff / self.vocabulary_size

    def _smoothed(self, length: int) -> NgramOrder:
        offsets, tokens, integers = self._counts(length)
        counts, classes = _floating(integers), integers.clamp(max=3)  # 1, 2 and 3+
        contexts = torch.arange(len(offsets) - 1, device=counts.device)
        context_of = contexts.repeat_interleave(offsets.diff())
        discounts = (0.0, *(self.discounts(length) or _FALLBACK_DISCOUNTS))

        def sum_by_context(values: Tensor) -> Tensor:
            # Sums of integers, which do not depend on the order in which a device adds.
            return counts.new_zeros(len(contexts)).index_add_(0, context_of, values)

        totals, discounted = sum_by_context(counts), counts.new_zeros(len(contexts))
        for each in (1, 2, 3):
            discounted += discounts[each] * sum_by_context(_floating(classes == each))
        return NgramOrder(
            offsets=offsets,
            tokens=tokens,
            probability=(counts - counts.new_tensor(discounts)[classes])
            / totals[context_of].clamp(min=1),
            backoff=torch.where(totals == 0, 1.0, discounted / totals.clamp(min=1)),
            log_total=totals.log1p(),
            keys=context_of * self.vocabulary_size + tokens,
        )

    def ngram_ids(self, ids: Tensor, before: Tensor) -> Tensor:
        """The context after each of ids (time, batch): (time, batch, order - 1).

        before: (batch, order - 1), the context before the first id.
        """
        if self.order == 1:
            return ids.new_empty(*ids.shape, 0)
        starts_text = (before[:, 0] == UNSEEN) & (ids[0] == EOS)
        first = torch.where(starts_text, self.vocabulary_size, ids[0])
        found = [torch.cat([first.unsqueeze(0), ids[1:]])]
        for length in range(2, self.order):
            shorter = torch.cat([before[None, :, length - 2], found[-1][:-1]])
            found.append(self._find(length, shorter, ids))
        return torch.stack(found, -1)

    def probabilities(self, contexts: Tensor, targets: Tensor) -> Tensor:
        """p of targets (tokens,) after contexts (tokens, order - 1), float64."""
        result = self.unigrams[targets]
        for length, context in enumerate(contexts.unbind(-1), start=2):
            order = self.orders[length - 1]
            seen = _looked_up(order.probability, self._find(length, context, targets), 0.0)
            result = seen + _looked_up(order.backoff, context, 1.0) * result
        return result

    def distributions(self, contexts: Tensor) -> Tensor:
        """p of each token after contexts (tokens, order - 1): (tokens, vocabulary), float64."""
        result = self.unigrams.expand(len(contexts), -1)
        for order, context in zip(self.orders[1:], contexts.unbind(-1), strict=True):
            result = _looked_up(order.backoff, context, 1.0).unsqueeze(1) * result
            known = (context >= 0).nonzero().flatten()
            begin = order.offsets[context[known]]
            sizes = order.offsets[context[known] + 1] - begin
            rows = known.repeat_interleave(sizes)
            # N-grams after a context are adjacent: count up from the first of each.
            within = torch.arange(len(rows), device=rows.device)
            within -= (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
            entries = begin.repeat_interleave(sizes) + within
            result = result.index_put(
                (rows, order.tokens[entries]), order.probability[entries], True
            )
        return result

    def gate_inputs(self, contexts: Tensor) -> Tensor:
        """How reliable the n-grams after contexts (tokens, order - 1) are.

        ln(1 + total count) and back-off weight of each order from 2; 0 and 1 after unseen
        contexts: (tokens, GATE_INPUTS_PER_ORDER (order - 1)).
        """
        columns = []
        for order, context in zip(self.orders[1:], contexts.unbind(-1), strict=True):
            columns.append(_looked_up(order.log_total, context, 0.0))
            columns.append(_looked_up(order.backoff, context, 1.0))
        return torch.stack(columns, -1) if columns else _floating(contexts)

    def _find(self, length: int, contexts: Tensor, ids: Tensor) -> Tensor:
        """The id of the n-gram of a context and the token after it, or UNSEEN."""
        keys = self.orders[length - 1].keys
        if not len(keys):
            return torch.full_like(ids, UNSEEN)
        wanted = contexts * self.vocabulary_size + ids
        place = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        return torch.where((contexts >= 0) & (keys[place] == wanted), place, UNSEEN)


def _looked_up(values: Tensor, ngram_ids: Tensor, unseen: float) -> Tensor:
    """The values (entries,) of n-grams, and ``unseen`` for UNSEEN."""
    if not len(values):
        return torch.full_like(ngram_ids, unseen, dtype=values.dtype)
    return torch.where(ngram_ids >= 0, values[ngram_ids.clamp(min=0)], unseen)


def _floating(numbers: Tensor) -> Tensor:
    return numbers.float() if numbers.device.type == "mps" else numbers.double()


def ngram_tables(model: Model) -> list[NgramTables]:
    """The tables of a model that counts n-grams; none of another."""
    return [module for module in model.modules() if isinstance(module, NgramTables)]


class NgramState(State):
    """ngram_ids: (batch, order - 1) int64, the context; in a mixture also the LSTM's state."""

    initial: ClassVar[Mapping[str, float]] = {"ngram_ids": UNSEEN}


class NgramModel(Model):
    """Its hidden states are contexts of ``NgramTables``, (time, batch, order - 1) int64."""

    config: NgramConfig

    def __init__(self, config: NgramConfig) -> None:
        super().__init__(config)
        self.tables = NgramTables(config.order, config.vocabulary_size, config.entries)
        # The tables are integers: device and dtype of the model are those of this buffer.
        self.register_buffer("_zero", torch.zeros(()), persistent=False)

    def initialize(self, generator: torch.Generator) -> None:
        """There are no weights to draw."""

    def initialize_from_text(self, ids: IdArray) -> None:
        self.config = dataclasses.replace(self.config, entries=self.tables.count(ids))

    def start(self, batch: int) -> NgramState:
        shape = (batch, self.tables.order - 1)
        return NgramState({"ngram_ids": torch.full(shape, UNSEEN, device=self.device)})

    def restore(self, tensors: Mapping[str, Tensor]) -> State:
        sizes = [self.config.vocabulary_size + 1, *self.config.entries]  # with that of <s>
        check_ids(tensors["ngram_ids"], UNSEEN, sizes[: self.tables.order - 1])
        return super().restore(tensors)

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, NgramState]:
        contexts = self.tables.ngram_ids(ids, state.named["ngram_ids"])
        return contexts, NgramState({"ngram_ids": contexts[-1]})

    def logits(self, hidden: HiddenStates) -> Tensor:
        contexts = cast(Tensor, hidden)
        probabilities = self.tables.distributions(contexts.flatten(0, -2))
        return self.log(probabilities).view(*contexts.shape[:-1], -1)

    def log_probs(self, hidden: HiddenStates, targets: Tensor) -> Tensor:
        return self.log(self.tables.probabilities(cast(Tensor, hidden), targets))

    def log(self, probabilities: Tensor) -> Tensor:
        """In the dtype of the model, or in float32 where that is wider."""
        return probabilities.log().to(torch.promote_types(self.dtype, torch.float32))
