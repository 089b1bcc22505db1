"""Distributions of the next token, of the next word, and of the token in a blank."""

import heapq
import itertools
import math
import re
from collections import defaultdict
from itertools import accumulate

import torch
from torch import Tensor

from textgen.errors import UsageError
from textgen.inference.likelihood import target_log_probs
from textgen.models import Model, State
from textgen.results import Choice, Prediction
from textgen.sampling.decoding import in_float64
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, UNK, Decoder, Tokenizer

_WORD = re.compile(r"\s*(?:\w+(?:['’-]\w+)*|[^\w\s])")
_UNDECIDED = ("", "'", "’", "-")  # after which a word may yet go on
_MOST_READ = 4000  # beginnings of words, each a step of the model
_TOGETHER = 64
_LEAST = 1e-7  # what is less probable is not looked into


@torch.inference_mode()
def next_tokens(model: Model, tokenizer: Tokenizer, prompt: str) -> Prediction:
    """Every token with its probability, the likeliest first."""
    start = tokenizer.continuation(prompt)
    logits, _ = model.after([EOS, *start.ids.tolist()])
    log_probs = in_float64(logits)[0].log_softmax(-1)
    ordered, ids = log_probs.sort(descending=True, stable=True)
    entropy = float(torch.special.entr(log_probs.exp()).sum()) / math.log(2)
    pairs = zip(ids.tolist(), ordered.tolist(), strict=True)
    choices = (Choice(tokenizer.token(id), log_prob, id) for id, log_prob in pairs)
    return Prediction(prompt, "token", tuple(choices), entropy)


@torch.inference_mode()
def next_words(model: Model, tokenizer: Tokenizer, prompt: str, most: int) -> Prediction:
    """The likeliest next words, at most so many, however many tokens each has.

    A word is settled by the token after it, so its probability is that of all texts that go on
    with just this word; where the prompt ends within a word, that of all that end it so. The
    likeliest beginnings are read on, until none is as likely as the last word that is given: what
    was not read, and the words that are not given, make up the rest.
    """
    start = tokenizer.continuation(prompt)
    logits, state = model.after([EOS, *start.ids.tolist()])
    search = _Search(model, tokenizer, most)
    search.expand([(0.0, "", start.decoder)], logits, state)
    while search.goes_on():
        search.step()
    ranked = sorted(search.words.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    choices = (
        Choice(word or SPECIAL_TOKENS[EOS], math.log(share), None if word else EOS)
        for word, share in ranked
    )
    return Prediction(prompt, "word", tuple(choices), None)


class _Search:
    """Beginnings of words, the likeliest first, and the words that are settled.

    words: the probability of each; of the empty one, that the sentence ends.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, most: int) -> None:
        self.words: dict[str, float] = defaultdict(float)
        self._model, self._tokenizer, self._most = model, tokenizer, most
        self._stepper = model.stepper()
        self._numbers, self._read = itertools.count(), 0
        self._begun: list[tuple[float, int, str, Decoder, int, State]] = []

    def goes_on(self) -> bool:
        if not self._begun or self._read >= _MOST_READ:
            return False
        ranked = heapq.nlargest(self._most, self.words.values())
        return len(ranked) < self._most or math.exp(-self._begun[0][0]) > ranked[-1]

    def step(self) -> None:
        """Read the likeliest beginnings on, by a token each."""
        some = [heapq.heappop(self._begun) for _ in range(min(_TOGETHER, len(self._begun)))]
        self._read += len(some)
        ids = torch.tensor([each[4] for each in some], device=self._model.device)
        state = self._model.start(len(some))
        for row, each in enumerate(some):
            state = state.replace(torch.tensor([row], device=self._model.device), each[5])
        self._stepper.state = state
        logits = self._stepper.step(ids)
        beginnings = [(-each[0], each[2], each[3]) for each in some]
        self.expand(beginnings, logits, self._stepper.state)

    def expand(
        self, beginnings: list[tuple[float, str, Decoder]], logits: torch.Tensor, state: State
    ) -> None:
        """Share each beginning's probability among what its next token makes of it."""
        log_probs = in_float64(logits).log_softmax(-1)
        least = math.log(_LEAST)
        for row, (log_prob, text, decoder) in enumerate(beginnings):
            likely = (log_probs[row] + log_prob > least).nonzero().flatten().tolist()
            its_state = state.select(torch.tensor([row], device=self._model.device))
            for id in likely:
                joint = log_prob + float(log_probs[row, id])
                following = decoder.copy()
                longer = text + following.feed(id)
                word = self._settled(text, longer, id)
                if word is None:
                    entry = (-joint, next(self._numbers), longer, following, id, its_state)
                    heapq.heappush(self._begun, entry)
                else:
                    self.words[word] += math.exp(joint)

    def _settled(self, text: str, longer: str, id: int) -> str | None:
        """The word that a token settles, if it does."""
        if id == EOS:
            return text if text.strip() else ""
        if self._tokenizer.level == "word":
            return longer
        found = _WORD.match(longer)
        if found is None or longer[found.end() :] in _UNDECIDED:
            return None
        return found.group()


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
    weigh = _weighed if model.is_causal else _read_around
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


def _read_around(model: Model, before: list[int], after: list[int]) -> Tensor:
    """ln p of each token (vocabulary,) by a model that reads both ways."""
    inputs = torch.tensor([EOS, *before], device=model.device).unsqueeze(1)
    targets = torch.tensor([*before, UNK, *after], device=model.device).unsqueeze(1)
    hidden, _ = model.hidden_states_in_context(inputs, targets, model.start(1))
    return in_float64(model.logits(hidden[-1]))[0].log_softmax(-1)


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
        hidden, _ = model.hidden_states(inputs, state.select(torch.zeros_like(ids)))
        right = target_log_probs(model, hidden, targets).to(by_left).sum(0)
        joint.append(by_left[ids] + right)
    none = torch.full_like(by_left, -torch.inf)
    return none.index_copy(0, likely, torch.cat(joint).log_softmax(0))
