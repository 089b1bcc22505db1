"""What stands in a blank: the distribution of one token, given all before it and after it."""

import math
import re
from itertools import accumulate

import torch
from torch import Tensor

from textgen.errors import UsageError
from textgen.models import Model
from textgen.models.likelihood import target_log_probs
from textgen.results import Choice, Prediction
from textgen.sampling.decoding import in_float64
from textgen.tokenizers.base import EOS, UNK, Tokenizer

_BLANK = re.compile("_{3,}")
_IN_PLACE = "x"  # a word, a letter and a part of a word
_MOST_WEIGHED, _TOGETHER_TOKENS = 1024, 2**12


def has_blank(text: str) -> bool:
    """Whether there is a blank to fill: three underscores or more."""
    return _BLANK.search(text) is not None


@torch.inference_mode()
def fill(model: Model, tokenizer: Tokenizer, text: str) -> Prediction:
    """Every token that may stand in the blank of a sentence, the likeliest first.

    A blank is one token, however many underscores there are. A model that reads both ways says
    what stands there. Of one that tells what comes next, p(token | before, after) is in
    proportion to p(token | before) p(after | before, token): exact where all tokens are weighed,
    which are the likeliest 1024 by what is before; the others are taken for impossible.

    Raises UsageError where there is no blank, or more than one, or where it is part of a word.
    """
    parts = _BLANK.split(text)
    if len(parts) != 2:
        raise UsageError(
            f"the text has {len(parts) - 1} blanks",
            why="one is filled, given all the rest",
            fix='mark it with ____, as in "The ____ sat on the mat"',
        )
    before, after = _around(tokenizer, *parts)
    weigh = _weighed if model.generates else _read_around
    log_probs = weigh(model, before, after)
    ordered, ids = log_probs.sort(descending=True, stable=True)
    entropy = float(torch.special.entr(log_probs.exp()).sum()) / math.log(2)
    pairs = zip(ids.tolist(), ordered.tolist(), strict=True)
    choices = (
        Choice(tokenizer.token(id), log_prob, id)
        for id, log_prob in pairs
        if math.isfinite(log_prob)
    )
    return Prediction(text, "token", tuple(choices), entropy)


def _around(tokenizer: Tokenizer, left: str, right: str) -> tuple[list[int], list[int]]:
    """The ids before a blank, and those after it with the end of the sentence.

    They are those of the sentence with a word in the blank, less its own: the space before a
    word is the word's, and so is what tells that there is none.
    """
    whole, end = left + _IN_PLACE + right, len(left) + len(_IN_PLACE)
    ids, surfaces = tokenizer.encode(whole).tolist(), tokenizer.surfaces(whole)
    ends = list(accumulate(map(len, surfaces)))
    first = next(place for place, reached in enumerate(ends) if reached > len(left))
    last = next(place for place, reached in enumerate(ends) if reached >= end)
    if "".join(surfaces[first : last + 1]).strip() != _IN_PLACE:
        raise UsageError(
            "the blank is part of a word",
            why="it is filled by one token",
            fix="put a space, or a sign such as a comma, on either side of it",
        )
    return ids[:first], [*ids[last + 1 :], EOS]


def _read_around(model: Model, before: list[int], after: list[int]) -> Tensor:
    """ln p of each token (vocabulary,) by a model that reads both ways."""
    inputs = torch.tensor([EOS, *before], device=model.device).unsqueeze(1)
    targets = torch.tensor([*before, UNK, *after], device=model.device).unsqueeze(1)
    features, _ = model.features_around(inputs, targets, model.start(1))
    return in_float64(model.logits(features[-1]))[0].log_softmax(-1)


def _weighed(model: Model, before: list[int], after: list[int]) -> Tensor:
    """The same (vocabulary,) by a model that tells what comes next."""
    logits, state = model.after([EOS, *before])
    by_left = in_float64(logits)[0].log_softmax(-1)
    likely = by_left.topk(min(_MOST_WEIGHED, len(by_left))).indices
    comes = torch.tensor(after, device=model.device).unsqueeze(1)
    joint = []
    for ids in torch.split(likely, max(1, _TOGETHER_TOKENS // len(after))):
        targets = comes.expand(-1, len(ids))
        inputs = torch.cat([ids.unsqueeze(0), targets[:-1]])
        features, _ = model.features(inputs, state.select(torch.zeros_like(ids)))
        right = target_log_probs(model, features, targets).to(by_left).sum(0)
        joint.append(by_left[ids] + right)
    none = torch.full_like(by_left, -torch.inf)
    return none.index_copy(0, likely, torch.cat(joint).log_softmax(0))
