"""How often each token stands in a text, and a model that begins with it."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.models.base import IdArray
from textgen.process_memory import let_go

_SAMPLES, _COUNTED = 64, 2**15


def frequencies(ids: IdArray, vocabulary_size: int) -> npt.NDArray[np.int64]:
    """How often each id stands in the text (vocabulary,), by a sample from all over it."""
    places = np.linspace(0, max(0, len(ids) - _COUNTED), _SAMPLES).astype(np.int64)
    parts = [ids[place : place + _COUNTED] for place in np.unique(places)]
    counts = np.bincount(np.concatenate(parts), minlength=vocabulary_size)
    let_go(ids)
    return counts


@torch.no_grad()
def begin_with_frequencies(bias: Tensor, ids: IdArray) -> None:
    """Begin with the frequencies of the tokens, which Adam else takes long to arrive at.

    A bias (vocabulary,) of the output moves by no more than the rate in an update, and that of
    a rare token has to fall by ten. What has been learned already is left as it is.
    """
    if not bias.any():
        smoothed = torch.from_numpy(frequencies(ids, len(bias))).to(bias) + 0.5
        bias.copy_((smoothed / smoothed.sum()).log())
