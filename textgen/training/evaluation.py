"""The validation loss: the figure that ``score --context document`` gives for the same text."""

import numpy as np

from textgen.batching import IdArray
from textgen.models import Model
from textgen.models.likelihood import Document
from textgen.results import Validation
from textgen.tokenizers.base import EOS, UNK

_PART_TOKENS = 2**20


def validate(
    model: Model, ids: IdArray, *, characters: int, step: int = 0, seconds: float = 0.0
) -> Validation:
    """One pass over a text in document context, every token scored once, in float32."""
    document = Document(model, first=EOS)
    log_prob = 0.0
    for begin in range(0, len(ids), _PART_TOKENS):
        log_prob += float(document.read(ids[begin : begin + _PART_TOKENS]).sum())
    return Validation(
        loss=-log_prob / len(ids),
        tokens=len(ids),
        characters=characters,
        unknown=int(np.count_nonzero(ids == UNK)),
        pseudo=not model.generates,
        step=step,
        seconds=seconds,
    )
