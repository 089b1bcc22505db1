"""The words that were most probable in the place of each word of a sentence.

A word may be of any number of tokens, so its alternatives are searched: the most probable prefixes
of words are read first, until none is as probable as the last of the words found. A word is
delimited as in ``parts``, and so its probability is comparable with those of its alternatives.
"""

import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from textgen.config import MOST_SEARCHED_WORDS, ScoringConfig
from textgen.inference.steppers import make_stepper
from textgen.models import Model, State
from textgen.results import Choice, PartScore, SentenceScore
from textgen.scoring.parts import spellings, starts_word
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, Decoder, Tokenizer

_MOST_PREFIXES = 512  # of one word
_TOGETHER, _EXTENSIONS = 64, 128  # prefixes read at once, and kept of their extensions
_LEAST = 1e-6  # less probable prefixes are not read


class _Prefix(NamedTuple):
    """The beginning of a word, ordered by cost, -ln p.

    row: That of the state before its last token. decoder: Has read all but that token.
    """

    cost: float
    number: int
    text: str
    last: int
    decoder: Decoder
    state: State
    row: int


class WordSearch:
    """Finds the alternatives of the words of sentences that come in order."""

    def __init__(self, model: Model, tokenizer: Tokenizer, config: ScoringConfig) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._most, self._in_document = config.alternatives, config.context == "document"
        ways, self._way_after = spellings(tokenizer)
        self._starts = starts_word(ways)
        self._stepper = make_stepper(model)
        self._state, self._left = model.start(1), MOST_SEARCHED_WORDS

    def scores(self, scores: Iterable[SentenceScore]) -> Iterator[SentenceScore]:
        """The scores with alternatives of the first words, and none of the others."""
        for score in scores:
            yield replace(score, parts=tuple(self._with_alternatives(score)))

    @torch.inference_mode()
    def _with_alternatives(self, score: SentenceScore) -> Iterator[PartScore]:
        parts = score.parts or ()
        ids = [*self._tokenizer.encode((score.prefix or "") + score.text).tolist(), EOS]
        ends_too = bool(parts) and parts[-1].ends
        begin = len(ids) - (not ends_too) - sum(part.tokens for part in parts)
        state, previous, read = self._state, EOS, 0
        for place, part in enumerate(parts):
            if not self._left:
                yield replace(part, alternatives=())
                continue
            self._left -= 1
            logits, state = self._read([previous, *ids[read:begin]], state)
            previous, read = ids[begin], begin + 1
            before = ids[begin - 1] if begin else EOS
            found = self._search(logits, state, before, is_first=place == 0)
            yield replace(part, alternatives=tuple(found))
            begin += part.tokens
        if self._in_document and self._left:
            if read < len(ids):
                _, state = self._read([previous, *ids[read:-1]], state)
            self._state = state

    def _read(self, ids: Sequence[int], state: State) -> tuple[Tensor, State]:
        """Logits (1, vocabulary) and state after these ids."""
        inputs = torch.tensor(ids, device=self._model.device).unsqueeze(1)
        hidden, state = self._model.hidden_states(inputs, state)
        return self._model.logits(hidden[-1]), state

    def _search(
        self, logits: Tensor, state: State, before: int, *, is_first: bool
    ) -> Iterator[Choice]:
        """The most probable words. is_first: of the scored text; the others begin with a space."""
        log_probs = _log_probs(logits)
        if not is_first:
            starts = self._starts[self._way_after[before]]
            log_probs = log_probs.masked_fill(~starts, -math.inf).log_softmax(-1)
        decoder = self._tokenizer.decoder()
        if before != EOS:
            decoder.feed(before)
        words: dict[str, float] = defaultdict(float)
        words[SPECIAL_TOKENS[EOS]] = float(log_probs[0, EOS].exp())
        log_probs[0, EOS] = -math.inf
        numbers, heap, read = itertools.count(), list[_Prefix](), 0
        parents = [("", decoder)]
        while True:
            best, places = log_probs.flatten().topk(min(_EXTENSIONS, log_probs.numel()))
            for log_prob, place in zip(best.tolist(), places.tolist(), strict=True):
                row, id = divmod(place, log_probs.shape[1])
                if log_prob > math.log(_LEAST):
                    text, decoder = parents[row]
                    rest = id, decoder, state, row
                    heapq.heappush(heap, _Prefix(-log_prob, next(numbers), text, *rest))
            found = heapq.nlargest(self._most, words.values())
            least = found[-1] if len(found) == self._most else 0.0
            if not heap or read >= _MOST_PREFIXES or math.exp(-heap[0].cost) <= least:
                break
            some = [heapq.heappop(heap) for _ in range(min(_TOGETHER, len(heap)))]
            read += len(some)
            state = self._stepper.state = self._states(some)
            ids = torch.tensor([each.last for each in some], device=self._model.device)
            log_probs = _log_probs(self._stepper.step(ids))
            state = self._stepper.state
            parents = []
            starts = self._starts[self._way_after[ids.cpu()]].clone()
            for row, prefix in enumerate(some):
                decoder = prefix.decoder.copy()
                text = prefix.text + decoder.feed(prefix.last)
                parents.append((text, decoder))
                if not text.strip():  # more white space is of the same word
                    starts[row] = False
                    starts[row, EOS] = True
            log_probs += torch.tensor([-each.cost for each in some]).double().unsqueeze(1)
            ended = log_probs.masked_fill(~starts, -math.inf).logsumexp(-1).exp().tolist()
            for (text, decoder), share in zip(parents, ended, strict=True):
                if text.strip() and not decoder.mid_character:
                    words[text.strip()] += share
            log_probs = log_probs.masked_fill(starts, -math.inf)
        ranked = sorted(words.items(), key=lambda pair: (-pair[1], pair[0]))[: self._most]
        for word, share in ranked:
            if share > 0:
                yield Choice(word, math.log(share), EOS if word == SPECIAL_TOKENS[EOS] else None)

    def _states(self, prefixes: Sequence[_Prefix]) -> State:
        """The states of some prefixes, in their order."""
        states = {id(each.state): each.state for each in prefixes}
        result = self._model.start(len(prefixes))
        for key, state in states.items():
            places = [place for place, each in enumerate(prefixes) if id(each.state) == key]
            rows = [prefixes[place].row for place in places]
            to, of = (torch.tensor(each, device=self._model.device) for each in (places, rows))
            result = result.replace(to, state.select(of))
        return result


def _log_probs(logits: Tensor) -> Tensor:
    return logits.cpu().double().log_softmax(-1)
