"""Distributions of the next token, of the next word, and of the token in a blank."""

import dataclasses
import heapq
import itertools
import math
import re
from collections import defaultdict
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from textgen.errors import UsageError
from textgen.inference.likelihood import target_log_probs
from textgen.inference.steppers import make_stepper, read_prompt
from textgen.models import Model, State
from textgen.results import Choice, Prediction
from textgen.sampling.decoding import check_finite, in_float64
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, UNK, Decoder, Tokenizer

_WORD = re.compile(r"\s*(?:\w+(?:['’-]\w+)*|[^\w\s])")
_MAY_CONTINUE = ("", "'", "’", "-")  # a word may continue after these
_MOST_PREFIXES = 4000  # of words, each a step of the model
_TOGETHER = 64
_LEAST = 1e-7  # less probable prefixes are not read

_BLANK = re.compile("_{3,}")
_IN_PLACE = "x"  # a word, a character, and a part of a word
_MOST_WEIGHED, _TOGETHER_TOKENS = 1024, 2**12


@torch.inference_mode()
def next_tokens(model: Model, tokenizer: Tokenizer, prompt: str) -> Prediction:
    """Every token with its probability, the most probable first."""
    start = tokenizer.continuation(prompt)
    logits, _ = read_prompt(model, [EOS, *start.ids.tolist()])
    return _token_prediction(tokenizer, prompt, in_float64(logits)[0].log_softmax(-1))


def _token_prediction(tokenizer: Tokenizer, prompt: str, log_probs: Tensor) -> Prediction:
    """All tokens in order, from the ln p (vocabulary,) of each."""
    check_finite(log_probs)
    ordered, ids = log_probs.sort(descending=True, stable=True)
    entropy = float(torch.special.entr(log_probs.exp()).sum()) / math.log(2)
    pairs = zip(ids.tolist(), ordered.tolist(), strict=True)
    choices = (
        Choice(tokenizer.text_of(id), log_prob, id, tokenizer.token(id)) for id, log_prob in pairs
    )
    return Prediction(prompt, "token", tuple(choices), entropy)


class _WordPrefix(NamedTuple):
    """The beginning of a word, ordered by cost, -ln p. state: The model's before the last token."""

    cost: float
    number: int
    text: str
    decoder: Decoder
    last: int
    state: State


@torch.inference_mode()
def next_words(model: Model, tokenizer: Tokenizer, prompt: str, most: int) -> Prediction:
    """The most probable next words, however many tokens each has.

    The token after a word shows that it has ended; so the probability of a word is that of all
    texts that continue with just this word, or complete that of the prompt so. The most probable
    prefixes of words are read first, until none is as probable as the last of the ``most`` words.
    What was not read is part of ``rest``.
    """
    start = tokenizer.continuation(prompt)
    logits, state = read_prompt(model, [EOS, *start.ids.tolist()])
    stepper = make_stepper(model)
    words: dict[str, float] = defaultdict(float)  # "" for the end of the sentence
    prefixes: list[_WordPrefix] = []  # a heap
    numbers, read = itertools.count(), 0

    stepper.state, beginnings = state, [(0.0, "", start.decoder)]
    while True:
        check_finite(logits)
        log_probs = in_float64(logits).log_softmax(-1).cpu()  # where each is looked at
        for row, (log_prob, text, decoder) in enumerate(beginnings):
            probable = log_probs[row] + log_prob > math.log(_LEAST)
            its_state = stepper.state.select(torch.tensor([row], device=model.device))
            for id in probable.nonzero().flatten().tolist():
                joint = log_prob + float(log_probs[row, id])
                extended = decoder.copy()
                longer = text + extended.feed(id)
                word = _ended_word(tokenizer, text, longer, id)
                if word is None:
                    prefix = _WordPrefix(-joint, next(numbers), longer, extended, id, its_state)
                    heapq.heappush(prefixes, prefix)
                else:
                    words[word] += math.exp(joint)
        if not prefixes or read >= _MOST_PREFIXES:
            break
        best = heapq.nlargest(most, words.values())
        if len(best) == most and math.exp(-prefixes[0].cost) <= best[-1]:
            break
        some = [heapq.heappop(prefixes) for _ in range(min(_TOGETHER, len(prefixes)))]
        read += len(some)
        state = model.start(len(some))
        for row, prefix in enumerate(some):
            state = state.replace(torch.tensor([row], device=model.device), prefix.state)
        stepper.state = state
        logits = stepper.step(torch.tensor([each.last for each in some], device=model.device))
        beginnings = [(-each.cost, each.text, each.decoder) for each in some]
    ranked = sorted(words.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    choices = (
        Choice(word or SPECIAL_TOKENS[EOS], math.log(share), None if word else EOS)
        for word, share in ranked
    )
    return Prediction(prompt, "word", tuple(choices), None)


def _ended_word(tokenizer: Tokenizer, text: str, longer: str, id: int) -> str | None:
    """The word that ends before or with a token, if one does; "" for the end of the sentence."""
    if id == EOS:
        return text if text.strip() else ""
    if tokenizer.level == "word":
        return longer
    found = _WORD.match(longer)
    if found is None or longer[found.end() :] in _MAY_CONTINUE:
        return None
    return found.group()


def has_blank(text: str) -> bool:
    """Whether there are three underscores or more."""
    return _BLANK.search(text) is not None


@torch.inference_mode()
def fill(model: Model, tokenizer: Tokenizer, text: str) -> Prediction:
    """The tokens for the blank of a sentence, the most probable first.

    A blank is one token, however many underscores it has. A bidirectional model predicts it. For a
    causal model, p(token | before, after) is proportional to p(token | before) p(after | before,
    token); this is exact if all tokens are tried. Those that are most probable after the text
    before the blank are tried, at most 1024; the others are taken to be impossible.

    Raises:
        UsageError: There is not just one blank, or it is part of a word.
    """
    parts = _BLANK.split(text)
    if len(parts) != 2:
        raise UsageError(
            f"the text has {len(parts) - 1} blanks",
            why="one blank is filled, given the rest of the text",
            fix='mark it with ____, as in "The ____ sat on the mat"',
        )
    before, after = _around(tokenizer, *parts)
    if model.is_causal:
        log_probs = _weighed(model, before, after)
    else:
        inputs = torch.tensor([EOS, *before], device=model.device).unsqueeze(1)
        targets = torch.tensor([*before, UNK, *after], device=model.device).unsqueeze(1)
        hidden, _ = model.hidden_states_in_context(inputs, targets, model.start(1))
        log_probs = in_float64(model.logits(hidden[-1]))[0].log_softmax(-1)
    prediction = _token_prediction(tokenizer, text, log_probs)
    possible = (choice for choice in prediction.choices if math.isfinite(choice.log_prob))
    return dataclasses.replace(prediction, choices=tuple(possible))


def _around(tokenizer: Tokenizer, left: str, right: str) -> tuple[list[int], list[int]]:
    """The ids before a blank, and those after it up to ``<EOS>``.

    A space before the word in the blank, or a mark that there is none, is part of that word.
    """
    whole, end = left + _IN_PLACE + right, len(left) + len(_IN_PLACE)
    ids, token_texts = tokenizer.encode(whole).tolist(), tokenizer.token_texts(whole)
    ends = list(accumulate(map(len, token_texts)))
    first = next(place for place, reached in enumerate(ends) if reached > len(left))
    last = next(place for place, reached in enumerate(ends) if reached >= end)
    if "".join(token_texts[first : last + 1]).strip() != _IN_PLACE:
        raise UsageError(
            "the blank is part of a word",
            why="it is filled by one token",
            fix="put a space, or a sign such as a comma, on either side of it",
        )
    return ids[:first], [*ids[last + 1 :], EOS]


def _weighed(model: Model, before: list[int], after: list[int]) -> Tensor:
    """ln p of each token (vocabulary,) in a blank, by a causal model."""
    logits, state = read_prompt(model, [EOS, *before])
    by_left = in_float64(logits)[0].log_softmax(-1)
    tried = by_left.topk(min(_MOST_WEIGHED, len(by_left))).indices
    right = torch.tensor(after, device=model.device).unsqueeze(1)
    joint = []
    for ids in torch.split(tried, max(1, _TOGETHER_TOKENS // len(after))):
        targets = right.expand(-1, len(ids))
        inputs = torch.cat([ids.unsqueeze(0), targets[:-1]])
        hidden, _ = model.hidden_states(inputs, state.select(torch.zeros_like(ids)))
        log_probs = target_log_probs(model, hidden, targets).to(by_left).sum(0)
        joint.append(by_left[ids] + log_probs)
    impossible = torch.full_like(by_left, -torch.inf)
    return impossible.index_copy(0, tried, torch.cat(joint).log_softmax(0))
