"""What comes next: the distribution of the next token, and of the next word."""

import heapq
import itertools
import math
import re
from collections import defaultdict

import torch

from textgen.models import Model, State
from textgen.results import Choice, Prediction
from textgen.sampling.decoding import in_float64
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, Decoder, Tokenizer

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
