"""Sentences of ids to the log-probability of each of their tokens."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from textgen.batching import IdArray, bucket_by_length
from textgen.models import Model
from textgen.models.likelihood import Document, LogProbs, batch_log_probs
from textgen.tokenizers.base import EOS

_READ_AHEAD = 2048
_BATCH_TOKENS = 2**14
_LONG = 4096
_PART_TOKENS = 2**18


def sentence_log_probs(model: Model, sentences: Iterable[IdArray]) -> Iterator[LogProbs]:
    """ln p of every token of each sentence, each from the start state; in the order given.

    sentences: ids with their ``<EOS>``. Sentences of like length are read side by side, a
    couple of thousand at a time, so that neither order nor number costs memory.
    """
    waiting = iter(sentences)
    while group := list(islice(waiting, _READ_AHEAD)):
        results: list[LogProbs | None] = [None] * len(group)
        short = [index for index, ids in enumerate(group) if len(ids) <= _LONG]
        batches = bucket_by_length((group[index] for index in short), batch_tokens=_BATCH_TOKENS)
        for batch in batches:
            log_probs = batch_log_probs(model, batch.inputs, batch.targets)
            for column, (place, length) in enumerate(
                zip(batch.indices, batch.lengths, strict=True)
            ):
                results[short[place]] = log_probs[:length, column].copy()
        for ids, result in zip(group, results, strict=True):
            yield result if result is not None else Document(model, first=EOS).read(ids)


def document_log_probs(model: Model, sentences: Iterable[IdArray]) -> Iterator[LogProbs]:
    """As ``sentence_log_probs``, but with the state carried from sentence to sentence."""
    document = Document(model, first=EOS)
    waiting = iter(sentences)
    while group := _next_part(waiting):
        log_probs = document.read(np.concatenate(group))
        yield from np.split(log_probs, np.cumsum([len(ids) for ids in group])[:-1])


def _next_part(sentences: Iterator[IdArray]) -> list[IdArray]:
    """The next sentences, some hundred thousand tokens of them."""
    group, tokens = [], 0
    for ids in sentences:
        group.append(ids)
        tokens += len(ids)
        if tokens >= _PART_TOKENS:
            break
    return group
