"""The loss on held-out text: of a model in training, and of n-grams to compare it with."""

import numpy as np
import torch

from textgen.config import ModelConfig
from textgen.inference.likelihood import Document
from textgen.models import Model, build
from textgen.models.base import IdArray
from textgen.results import NgramBaseline, Validation
from textgen.tokenizers.base import EOS, UNK

_BLOCK_TOKENS = 2**20


def validate(
    model: Model, ids: IdArray, *, characters: int, step: int = 0, seconds: float = 0.0
) -> Validation:
    """Read a text once in document context, in float32; every token is scored once.

    The loss equals that of ``score --context document`` on the same text.
    """
    document = Document(model, first=EOS)
    log_prob = 0.0
    for begin in range(0, len(ids), _BLOCK_TOKENS):
        log_prob += float(document.read(ids[begin : begin + _BLOCK_TOKENS]).sum())
    return Validation(
        loss=-log_prob / len(ids),
        tokens=len(ids),
        characters=characters,
        unknown=int(np.count_nonzero(ids == UNK)),
        pseudo=not model.is_causal,
        step=step,
        seconds=seconds,
    )


TRAIN_TOKENS, VALID_TOKENS = 2_000_000, 200_000
"""The baseline reads the last tokens of the training part and the first of the validation part."""

_CHARACTER_ORDER, _OTHER_ORDER = 6, 3


def ngram_baseline(
    train_ids: IdArray, valid_ids: IdArray, level: str, vocabulary_size: int
) -> NgramBaseline:
    """The loss of 6-grams of characters, or 3-grams of other tokens, in document context."""
    train_ids, valid_ids = train_ids[-TRAIN_TOKENS:], valid_ids[:VALID_TOKENS]
    order = min(_CHARACTER_ORDER if level == "char" else _OTHER_ORDER, len(train_ids))
    config = ModelConfig.from_options({"model": "ngram", "order": order})
    model = build(config.resolved(vocabulary_size))
    model.initialize_from_text(train_ids)
    return NgramBaseline(
        order=order,
        loss=_loss(model, valid_ids),
        train_tokens=len(train_ids),
        valid_tokens=len(valid_ids),
    )


@torch.inference_mode()
def _loss(model: Model, ids: IdArray) -> float:
    """Nats per token, in one batch: n-grams read no further back than their order."""
    targets = torch.from_numpy(ids.astype(np.int64))
    inputs = torch.cat([torch.tensor([EOS]), targets[:-1]])
    hidden, _ = model.hidden_states(inputs.unsqueeze(1), model.start(1))
    return -float(model.log_probs(hidden[:, 0], targets).double().mean())
