"""Steps of datatrove's pipelines: the figures of a checkpoint for documents, or their tokens."""

from collections import deque
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path

from textgen import checkpoint, storage
from textgen.config import Device, ScoringConfig, ScoringPrecision
from textgen.errors import ResourceError, UsageError, missing_package
from textgen.language_model import LanguageModel
from textgen.tokenizers.base import EOS, Tokenizer, with_eos
from textgen.tokenizers.registry import load_tokenizer_from

try:
    from datatrove.data import Document
    from datatrove.pipeline.base import PipelineStep
    from datatrove.utils.logging import logger
except ImportError as error:
    name = error.name or "datatrove"
    raise missing_package("a pipeline of datatrove", name, "cluster") from error

FILE = "file_path"
"""The key of the metadata in which the readers of datatrove put the file of a document."""


class TextgenScorer(PipelineStep):  # type: ignore[misc]
    """Adds to the metadata of each document how probable it is.

    A document is read from the start state to its end, with its lines one after another, and
    ``<EOS>`` after it. ``log_prob`` is in nats, and ``unknown_rate`` the share of ``<UNK>`` among
    its tokens. Documents of similar length are read side by side, those of one file alone: so the
    figures of a document do not depend on the number of tasks. A process loads the model once.

    Args:
        path: A checkpoint, as of ``LanguageModel.load``; the workers read it from there.
        open_vocabulary: Give unknown words the probability of their spelling.
        threads: Of each worker.

    Raises:
        ResourceError: There is no checkpoint; in a worker, it is no longer the same.
        UsageError: In a worker, the model is not causal.
    """

    type, name = "textgen", "scorer"
    columns = ("log_prob", "perplexity", "bits_per_byte", "unknown_rate")

    def __init__(
        self,
        path: str | Path,
        *,
        open_vocabulary: bool = False,
        device: Device = "auto",
        threads: int = 1,
        precision: ScoringPrecision = "float32",
    ) -> None:
        super().__init__()
        _, folder = checkpoint.find(Path(path))
        self.path = folder.absolute()
        self.fingerprint = storage.sha256_of(self.path / storage.MANIFEST)
        self.open_vocabulary, self.device = open_vocabulary, device
        self.threads, self.precision = threads, precision

    def run(
        self, data: Iterator[Document] | None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """The documents in order, each with its figures."""
        model = _load(self.path, self.fingerprint, self.device, self.threads, self.precision)
        config = ScoringConfig(documents=True, open_vocabulary=self.open_vocabulary)
        for _, documents in groupby(data or (), key=lambda document: document.metadata.get(FILE)):
            waiting: deque[Document] = deque()
            for score in model.scores(_texts(documents, waiting), config):
                document = waiting.popleft()
                document.metadata |= {
                    "log_prob": score.log_prob,
                    "perplexity": score.perplexity,
                    "bits_per_byte": score.bits_per_byte,
                    "unknown_rate": score.unknown / score.tokens,
                }
                self.stat_update("documents")
                self.stat_update("tokens", value=score.tokens)
                yield document


def _texts(documents: Iterator[Document], waiting: deque[Document]) -> Iterator[str]:
    """The texts of documents, which wait until they are scored."""
    for document in documents:
        waiting.append(document)
        yield document.text


@cache
def _load(
    path: Path, fingerprint: str, device: Device, threads: int, precision: ScoringPrecision
) -> LanguageModel:
    """The model of this process. Raises ResourceError if it is another one by now."""
    logger.info(f"loading the model {path}")
    model = LanguageModel.load(path, device=device, threads=threads, precision=precision)
    if storage.sha256_of(model.path / storage.MANIFEST) != fingerprint:
        fix = "choose another --out, or put back the checkpoint that the run began with"
        raise ResourceError("the checkpoint has changed", where=path, fix=fix)
    if not model.is_causal:
        raise UsageError(
            "documents need probabilities",
            where=path,
            why="a bidirectional model gives pseudo-log-probabilities",
            fix="use a causal model",
        )
    return model


class TextgenTokenizer(PipelineStep):  # type: ignore[misc]
    """Adds to the metadata of each document its ``ids``, the last of which is ``<EOS>``.

    Args:
        path: A folder of a tokenizer, an encoded corpus or a checkpoint.

    Raises:
        ResourceError: There is no such folder.
    """

    type, name = "textgen", "tokenizer"
    columns = ("ids",)

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path).absolute()
        self.fingerprint = _load_tokenizer(self.path).fingerprint

    def run(
        self, data: Iterator[Document] | None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """The documents in order, each with its ids."""
        tokenizer = _load_tokenizer(self.path)
        if tokenizer.fingerprint != self.fingerprint:
            fix = "choose another --out, or put back the tokenizer that the run began with"
            raise ResourceError("the tokenizer has changed", where=self.path, fix=fix)
        for document in data or ():
            ids = tokenizer.encode(document.text)
            if not len(ids) or ids[-1] != EOS:
                ids = with_eos(ids)
            document.metadata["ids"] = ids.tolist()
            self.stat_update("documents")
            self.stat_update("tokens", value=len(ids))
            yield document


@cache
def _load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of this process."""
    return load_tokenizer_from(path)


Step = TextgenScorer | TextgenTokenizer
