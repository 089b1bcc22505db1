"""How far the predictions of a page are from those of its model, in nats per token."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from textgen.config import SamplingConfig
from textgen.data.batching import IdArray
from textgen.errors import TextgenError, not_finite
from textgen.language_model import LanguageModel
from textgen.models import Model
from textgen.models.base import LARGEST_LOGITS
from textgen.tokenizers.base import EOS

_TEXTS, _LENGTH = 32, 256  # tokens


@dataclass(frozen=True)
class Divergence:
    """A Kullback-Leibler divergence of a page from its model.

    Attributes:
        nats: Per token, the mean over ``tokens``.
        held_out: Whether the text was the held-out part of the corpus; otherwise the model wrote
            it, because its corpus is not there any more.
    """

    nats: float
    tokens: int
    held_out: bool


def measure(model: LanguageModel, page: Model) -> Divergence:
    """The divergence of a page's predictions from those of the exact model.

    Raises:
        DataError: The exact model gives no probabilities.
    """
    ids = _held_out(model)
    parts = _parts(ids) if ids is not None else _own_texts(model)
    total = sum(_divergences(model.model, page, part) for part in parts)
    if not np.isfinite(total):
        raise not_finite()
    tokens = sum(map(len, parts))
    # Where it is zero, rounding errors may make it less.
    return Divergence(max(0.0, total / tokens), tokens, held_out=ids is not None)


def _held_out(model: LanguageModel) -> IdArray | None:
    """The held-out part of the model's corpus; None if it is not there, or is another text now."""
    header = model.header
    valid = header.source.valid
    try:
        named = [*header.source.paths, *([] if valid is None else [Path(valid)])]
        if not all(path.is_file() or path.is_dir() for path in named):
            return None  # also where it came through a pipe
        corpus = header.source.open(model.tokenizer.config.unit, header.training)
    except (TextgenError, OSError):
        return None
    if corpus.fingerprint != header.corpus.fingerprint:
        return None
    ids = np.concatenate(list(model.tokenizer.encode_pieces(corpus.valid())))
    return ids if len(ids) else None


def _parts(ids: IdArray) -> list[IdArray]:
    """Parts of a text, evenly spaced."""
    length = min(_LENGTH, len(ids))
    begins = np.linspace(0, len(ids) - length, min(_TEXTS, len(ids) // length)).astype(np.int64)
    return [ids[begin : begin + length] for begin in begins]


def _own_texts(model: LanguageModel) -> list[IdArray]:
    config = SamplingConfig(length=_LENGTH, count=_TEXTS)
    return [np.array(sample.ids) for sample in model.sample(config=config) if sample.ids]


@torch.inference_mode()
def _divergences(model: Model, page: Model, ids: IdArray) -> float:
    """The sum over the tokens of a text."""
    inputs = torch.from_numpy(np.append(EOS, ids[:-1]).astype(np.int64)).unsqueeze(1)
    exact, _ = model.hidden_states(inputs, model.start(1))
    rounded, _ = page.hidden_states(inputs, page.start(1))
    total, size = 0.0, max(1, LARGEST_LOGITS // model.config.vocabulary_size)
    for one, other in zip(exact.split(size), rounded.split(size), strict=True):
        log_probs = model.logits(one).double().log_softmax(-1)
        difference = log_probs - page.logits(other).double().log_softmax(-1)
        total += float((log_probs.exp() * difference).sum())
    return total
