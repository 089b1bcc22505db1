"""Beam search: the likeliest texts that go on from a prompt, as far as a beam can see."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.models import Model
from textgen.results import FinishReason
from textgen.sampling import decoding
from textgen.sampling.stream import Barrier, Guide, Stream
from textgen.tokenizers.base import EOS


@dataclass(frozen=True)
class Hypothesis:
    """One text of a search.

    log_probs: ln p of each token, the raw model's. finished: why it ended; None: it has not.
    """

    stream: Stream
    ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    log_prob: float = 0.0
    finished: FinishReason | None = None

    def then(self, id: int, log_prob: float) -> "Hypothesis":
        stream = self.stream.copy()
        finished = stream.take(id)
        return Hypothesis(
            stream,
            (*self.ids, id),
            (*self.log_probs, log_prob),
            self.log_prob + log_prob,
            finished,
        )

    def score(self, length_penalty: float, tokens: int | None = None) -> float:
        """ln p over length to the power of the penalty. tokens: as if it were so long."""
        return self.log_prob / math.pow(tokens or len(self.ids), length_penalty)


@torch.inference_mode()
def search(
    model: Model, config: SamplingConfig, prompt: Sequence[int], guide: Guide
) -> list[Hypothesis]:
    """The best texts found, best first, ``config.beams`` at most.

    Each step extends every live hypothesis by every token and keeps the likeliest. A text that
    ends leaves the beam, and the search is over when no live one can become better than all that
    are kept: so with beams enough it finds the very best (Graves 2012; Wu et al. 2016).
    """
    assert config.beams is not None
    stepper = model.stepper(fast=config.fast)
    logits, state = model.after([EOS, *prompt])
    size = model.config.vocabulary_size
    live = [Hypothesis(Stream.begin(config, prompt, size, guide))]
    ended: list[Hypothesis] = []
    barrier = Barrier()
    while True:
        rows: list[int] = []
        following: list[Hypothesis] = []
        for row, id, log_prob in _extensions(live, logits, barrier):
            extended = live[row].then(id, log_prob)
            if extended.finished is not None:
                ended.append(extended)
            else:
                following.append(extended)
                rows.append(row)
                if len(following) == config.beams:
                    break
        ended = _best(ended, config)
        if not following or _settled(following, ended, config):
            return ended
        live = following
        parents = torch.tensor(rows, device=model.device)
        ids = torch.tensor([each.ids[-1] for each in live], device=model.device)
        stepper.state = state.select(parents)
        logits, state = stepper.step(ids), stepper.state


def _extensions(
    live: Sequence[Hypothesis], logits: Tensor, barrier: Barrier
) -> Iterator[tuple[int, int, float]]:
    """(row, id, ln p) of what may follow, the likeliest text first."""
    raw = decoding.in_float64(logits).log_softmax(-1)
    allowed = raw + barrier.before([each.stream for each in live], raw.device)
    before = torch.tensor([each.log_prob for each in live], dtype=torch.float64).to(raw.device)
    totals = (allowed + before.unsqueeze(1)).flatten()
    taken, size = 0, allowed.shape[1]
    while taken < len(totals):
        most = min(len(totals), max(64, 4 * taken))
        values, places = totals.topk(most)
        some = zip(values[taken:].tolist(), places[taken:].tolist(), strict=True)
        for value, place in some:
            if value == -torch.inf:
                return
            row, id = divmod(place, size)
            yield row, id, float(raw[row, id])
        taken = most


def _best(found: list[Hypothesis], config: SamplingConfig) -> list[Hypothesis]:
    ordered = sorted(found, key=lambda each: (-each.score(config.length_penalty), each.ids))
    return ordered[: config.beams]


def _settled(
    live: Sequence[Hypothesis], ended: Sequence[Hypothesis], config: SamplingConfig
) -> bool:
    """Whether no live hypothesis can come before the last of those that are kept.

    Its ln p can only fall, and the penalty forgives most at the greatest length.
    """
    assert config.beams is not None
    if len(ended) < config.beams:
        return False
    hoped = max(each.score(config.length_penalty, config.length) for each in live)
    return hoped <= ended[-1].score(config.length_penalty)
