"""Beam search: the most probable texts after a prompt, among those that a beam reaches."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.inference.steppers import make_stepper, read_prompt
from textgen.models import Model
from textgen.results import FinishReason
from textgen.sampling import decoding
from textgen.sampling.sequence import Constraint, LogitMasks, TokenSequence
from textgen.tokenizers.base import EOS


@dataclass(frozen=True)
class Hypothesis:
    """One text of a search. log_prob: natural. finished: why it ended; None if it has not."""

    sequence: TokenSequence
    ids: tuple[int, ...] = ()
    text: str = ""
    log_prob: float = 0.0
    finished: FinishReason | None = None

    def extended(self, id: int, log_prob: float) -> "Hypothesis":
        sequence = self.sequence.copy()
        text, finished = sequence.append(id, log_prob)
        ids = (*self.ids, id)
        return Hypothesis(sequence, ids, self.text + text, self.log_prob + log_prob, finished)

    def score(self, length_penalty: float, tokens: int | None = None) -> float:
        """ln p / length ** penalty. tokens: the length to assume instead of its own."""
        return self.log_prob / math.pow(tokens or len(self.ids), length_penalty)


@torch.inference_mode()
def search(
    model: Model, config: SamplingConfig, prompt: Sequence[int], constraint: Constraint
) -> list[Hypothesis]:
    """The best finished texts, best first, at most ``config.beams`` (Graves 2012; Wu et al. 2016).

    Each step extends every unfinished hypothesis by every token and keeps the most probable
    ones. The search ends when no unfinished hypothesis can become better than those that are
    kept; so with enough beams it finds the very best text.
    """
    assert config.beams is not None
    stepper = make_stepper(model, fast=config.fast)
    logits, state = read_prompt(model, [EOS, *prompt])
    size = model.config.vocabulary_size
    live = [Hypothesis(TokenSequence(prompt, config, constraint, size))]
    ended: list[Hypothesis] = []
    masks = LogitMasks(decoding.in_float64(logits).device)
    while True:
        rows: list[int] = []
        unfinished: list[Hypothesis] = []
        for row, id, log_prob in _extensions(live, logits, masks):
            extended = live[row].extended(id, log_prob)
            if extended.finished is not None:
                ended.append(extended)
            else:
                unfinished.append(extended)
                rows.append(row)
                if len(unfinished) == config.beams:
                    break
        ended.sort(key=lambda each: (-each.score(config.length_penalty), each.ids))
        del ended[config.beams :]
        # ln p only falls, and the length penalty raises the score most at the greatest length.
        bounds = [each.score(config.length_penalty, config.length) for each in unfinished]
        is_full = len(ended) == config.beams
        if not bounds or (is_full and max(bounds) <= ended[-1].score(config.length_penalty)):
            return ended
        live = unfinished
        stepper.state = state.select(torch.tensor(rows, device=model.device))
        ids = torch.tensor([each.ids[-1] for each in live], device=model.device)
        logits, state = stepper.step(ids), stepper.state


def _extensions(
    live: Sequence[Hypothesis], logits: Tensor, masks: LogitMasks
) -> Iterator[tuple[int, int, float]]:
    """(row, id, ln p) of the tokens that may follow; the most probable text first."""
    decoding.check_finite(logits)
    raw = decoding.in_float64(logits).log_softmax(-1)
    allowed = raw + masks.mask([each.sequence for each in live])
    before = torch.tensor([each.log_prob for each in live], dtype=torch.float64).to(raw.device)
    totals = (allowed + before.unsqueeze(1)).flatten()
    taken, size = 0, allowed.shape[1]
    while taken < len(totals):
        most = min(len(totals), max(64, 4 * taken))
        values, places = totals.topk(most)
        columns = torch.stack([values, places.double(), raw.flatten()[places]])
        for value, place, log_prob in columns[:, taken:].T.tolist():
            if value == -torch.inf:
                return
            row, id = divmod(int(place), size)
            yield row, id, log_prob
        taken = most
