"""What counting reaches: an n-gram model of the same tokens, to hold a trained model against."""

import numpy as np
import torch

from textgen.config import ModelConfig
from textgen.models import Model, build
from textgen.models.base import IdArray
from textgen.results import NgramBaseline
from textgen.tokenizers.base import EOS

TRAIN_TOKENS, VALID_TOKENS = 2_000_000, 200_000
"""Of the training part the last, of the validation part the first so many tokens are read."""

_ORDERS = {"char": 6}
_OTHER_ORDER = 3


def ngram_baseline(
    train_ids: IdArray, valid_ids: IdArray, level: str, vocabulary_size: int
) -> NgramBaseline:
    """Six characters or three words: learned from the end of one part, tried on the other's
    beginning, which is read across sentences as a validation reads it.
    """
    train_ids, valid_ids = train_ids[-TRAIN_TOKENS:], valid_ids[:VALID_TOKENS]
    order = min(_ORDERS.get(level, _OTHER_ORDER), len(train_ids))
    config = ModelConfig.from_options({"model": "ngram", "order": order})
    model = build(config.resolved(vocabulary_size))
    model.read(train_ids)
    return NgramBaseline(
        order=order,
        loss=_loss(model, valid_ids),
        train_tokens=len(train_ids),
        valid_tokens=len(valid_ids),
    )


@torch.inference_mode()
def _loss(model: Model, ids: IdArray) -> float:
    """Nats a token, all at once: to n-grams a text is no longer than they are."""
    targets = torch.from_numpy(ids.astype(np.int64))
    inputs = torch.cat([torch.tensor([EOS]), targets[:-1]])
    features, _ = model.features(inputs.unsqueeze(1), model.start(1))
    return -float(model.log_probs(features[:, 0], targets).double().mean())
