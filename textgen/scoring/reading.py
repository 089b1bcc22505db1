"""Ids to what a model says of them: sentences by themselves, or one after another."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from textgen.batching import IdArray, bucket_by_length
from textgen.models import Model
from textgen.models.gauges import Gauge
from textgen.models.likelihood import Document, Readings, batch_readings
from textgen.tokenizers.base import EOS

_BATCH_TOKENS = 2**14
_LONG = 4096


class Reader(ABC):
    """Reads sentences, each ids with their ``<EOS>``, a group after another."""

    @abstractmethod
    def read(self, sentences: Sequence[IdArray]) -> list[Readings]:
        """What is read off each place (tokens, columns) of those sentences that are settled:
        of all that were given and not yet settled, the first ones, in their order."""

    def finish(self) -> list[Readings]:
        """Of those that were not settled, when no more come."""
        return []


MakeReader = Callable[[Model, Sequence[Gauge]], Reader]


class SentenceReader(Reader):
    """Each sentence from the start state. Those of like length are read side by side."""

    def __init__(self, model: Model, gauges: Sequence[Gauge] = ()) -> None:
        self._model, self._gauges = model, gauges

    def read(self, sentences: Sequence[IdArray]) -> list[Readings]:
        results: list[Readings | None] = [None] * len(sentences)
        short = [index for index, ids in enumerate(sentences) if len(ids) <= _LONG]
        for batch in bucket_by_length((sentences[i] for i in short), batch_tokens=_BATCH_TOKENS):
            read = batch_readings(self._model, batch.inputs, batch.targets, self._gauges)
            for column, (place, length) in enumerate(
                zip(batch.indices, batch.lengths, strict=True)
            ):
                results[short[place]] = read[:length, column].copy()
        return [
            result if result is not None else self._read_alone(ids)
            for ids, result in zip(sentences, results, strict=True)
        ]

    def _read_alone(self, ids: IdArray) -> Readings:
        return Document(self._model, first=EOS, gauges=self._gauges).readings(ids)


class DocumentReader(Reader):
    """The state is carried from sentence to sentence."""

    def __init__(self, model: Model, gauges: Sequence[Gauge] = ()) -> None:
        self._document = Document(model, first=EOS, gauges=gauges)

    def read(self, sentences: Sequence[IdArray]) -> list[Readings]:
        read = self._document.readings(np.concatenate(sentences))
        return np.split(read, np.cumsum([len(ids) for ids in sentences])[:-1])
