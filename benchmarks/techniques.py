"""Techniques from the literature on recurrent language models, as additions to textgen's trainer.

Each is a few lines around one update, for ``ablations.py``. Techniques that paid are in the package
and no longer here; the others stay here and in the table.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from networks import ObservedLSTM
from torch import Tensor
from torch.nn import functional

from textgen.config import TrainingConfig
from textgen.data.batching import IdArray, Streams
from textgen.models import Dropout, Model
from textgen.models.candidates import Candidates
from textgen.models.device import choose_precision
from textgen.training.state import GradientState


class Technique:
    """Additions to the updates of a trainer."""

    def begin(self, trial: "Trial") -> None:
        """Once, before the first update."""

    def before(self, trial: "Trial") -> None:
        """Before each update."""

    def after(self, trial: "Trial", progress: float) -> None:
        """After each update; progress: the completed fraction of the run."""

    def end(self, trial: "Trial") -> None:
        """Once, before the validation."""

    def validation_loss(self, trial: "Trial", ids: IdArray) -> float | None:
        """The loss of the validation text, in nats per token, if it is found in another way."""
        return None

    def penalty(self, hidden: Tensor) -> Tensor | float:
        """A term added to the loss. hidden: (time, batch, units), of the last layer."""
        return 0.0


class Trial(GradientState):
    """A trainer with techniques."""

    techniques: tuple[Technique, ...] = ()

    def adopt(self, techniques: tuple[Technique, ...]) -> None:
        self.techniques = techniques
        for technique in techniques:
            technique.begin(self)

    @property
    def optimizer(self) -> Any:
        """That of everything but the tables of which an update uses few rows."""
        return self._optimizers[0]

    def train(self, rate: float, progress: float) -> None:
        for technique in self.techniques:
            technique.before(self)
        self.update(rate)
        for technique in self.techniques:
            technique.after(self, progress)

    def _loss(self, ids: Tensor, carried: Tensor, candidates: Candidates | None) -> Tensor:
        loss = super()._loss(ids, carried, candidates)
        if self.techniques and isinstance(self.model, ObservedLSTM):
            for technique in self.techniques:
                loss = loss + technique.penalty(self.model.last_hidden)
        return loss

    def weights(self) -> list[Tensor]:
        return [parameter.detach() for parameter in self.model.parameters()]


class Average(Technique):
    """Validate an exponential moving average of the weights (Polyak and Juditsky 1992)."""

    def __init__(self, decay: float) -> None:
        self._decay = decay

    def begin(self, trial: Trial) -> None:
        self._mean = [weight.clone() for weight in trial.weights()]
        self._steps = 0

    def after(self, trial: Trial, progress: float) -> None:
        self._steps += 1
        # Early in a run the average covers no more than the last tenth of the steps.
        share = max(1 - self._decay, 10 / (self._steps + 10))
        torch._foreach_lerp_(self._mean, trial.weights(), share)

    def end(self, trial: Trial) -> None:
        for weight, mean in zip(trial.weights(), self._mean, strict=True):
            weight.copy_(mean)


class TailAverage(Technique):
    """Validate the mean of the weights over the end of the run (ASGD; Merity et al. 2018)."""

    def __init__(self, tail: float) -> None:
        self._tail = tail
        self._count = 0

    def after(self, trial: Trial, progress: float) -> None:
        if progress < 1 - self._tail:
            return
        self._count += 1
        if self._count == 1:
            self._mean = [weight.clone() for weight in trial.weights()]
        torch._foreach_lerp_(self._mean, trial.weights(), 1 / self._count)

    def end(self, trial: Trial) -> None:
        for weight, mean in zip(trial.weights(), self._mean, strict=True):
            weight.copy_(mean)


class MaskedWeights(Technique, ABC):
    """Weights that are multiplied by a mask during a window, and restored before the update."""

    @abstractmethod
    def find(self, trial: Trial) -> list[Tensor]:
        """The weights to mask."""

    @abstractmethod
    def mask(self, weight: Tensor) -> Tensor:
        """The mask of a weight for the next window."""

    def begin(self, trial: Trial) -> None:
        self._weights = self.find(trial)
        self._generator = torch.Generator().manual_seed(0)
        trial.optimizer.register_step_pre_hook(self._restore)

    def before(self, trial: Trial) -> None:
        self._masks = [self.mask(weight) for weight in self._weights]
        self._raw = [weight.detach().clone() for weight in self._weights]
        for weight, mask in zip(self._weights, self._masks, strict=True):
            weight.detach().mul_(mask)

    def _restore(self, *_: object) -> None:
        for weight, raw, mask in zip(self._weights, self._raw, self._masks, strict=True):
            weight.detach().copy_(raw)
            cast(Tensor, weight.grad).mul_(mask)


class WeightDrop(MaskedWeights):
    """Drop recurrent weights for a window (Wan et al. 2013; Merity et al. 2018).

    The masks are slices, at random offsets, of one long row of draws, which costs almost nothing.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def find(self, trial: Trial) -> list[Tensor]:
        return [p for name, p in trial.model.named_parameters() if "weight_hh" in name]

    def begin(self, trial: Trial) -> None:
        super().begin(trial)
        longest = max(weight.numel() for weight in self._weights)
        row = torch.rand(4 * longest, generator=self._generator) >= self._rate
        self._row = row.float() / (1 - self._rate)

    def mask(self, weight: Tensor) -> Tensor:
        room = len(self._row) - weight.numel()
        start = int(torch.randint(room, (), generator=self._generator))
        return self._row[start : start + weight.numel()].view_as(weight)


class EmbeddingDrop(MaskedWeights):
    """Drop whole rows of the embedding for a window (Gal and Ghahramani 2016)."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def find(self, trial: Trial) -> list[Tensor]:
        return [trial.model.get_parameter("embedding.weight")]

    def mask(self, weight: Tensor) -> Tensor:
        kept = torch.rand(len(weight), 1, generator=self._generator) >= self._rate
        return kept.float() / (1 - self._rate)


class ActivationPenalty(Technique):
    """AR and TAR: small activations that change slowly (Merity, McCann and Socher 2017)."""

    def __init__(self, size: float, change: float) -> None:
        self._size, self._change = size, change

    def penalty(self, hidden: Tensor) -> Tensor:
        hidden = hidden.float()
        changes = hidden[1:] - hidden[:-1]
        return self._size * hidden.square().mean() + self._change * changes.square().mean()


class BiasFromZero(Technique):
    """Initialize the output bias with 0 instead of the unigram log-probabilities."""

    def begin(self, trial: Trial) -> None:
        trial.model.read = lambda ids: None  # type: ignore[method-assign]


class ScaledOutput(Technique):
    """Scale the initial output weights."""

    def __init__(self, share: float) -> None:
        self._share = share

    def begin(self, trial: Trial) -> None:
        trial.model.get_parameter("output.weight").detach().mul_(self._share)


class ScaledEmbedding(ScaledOutput):
    """Scale the initial embedding."""

    def begin(self, trial: Trial) -> None:
        trial.model.get_parameter("embedding.weight").detach().mul_(self._share)


class ForgetBiasFromZero(Technique):
    """Initialize the forget gate bias with 0 instead of 1."""

    def begin(self, trial: Trial) -> None:
        for name, parameter in trial.model.named_parameters():
            if "bias_ih" in name:
                parameter.detach().zero_()


class UniformRecurrence(Technique):
    """Initialize the recurrent weights uniformly, as nn.LSTM does, instead of orthogonally."""

    def begin(self, trial: Trial) -> None:
        generator = torch.Generator().manual_seed(0)
        for name, parameter in trial.model.named_parameters():
            if "weight_hh" in name:
                bound = parameter.shape[1] ** -0.5
                parameter.detach().uniform_(-bound, bound, generator=generator)


class BiasRate(Technique):
    """A higher learning rate for the biases than for the weights."""

    def __init__(self, times: float) -> None:
        self._times = times

    def begin(self, trial: Trial) -> None:
        trial.optimizer.register_step_pre_hook(self._raise)

    def _raise(self, optimizer: Any, *_: object) -> None:
        matrices, biases = optimizer.param_groups[:2]
        biases["lr"] = self._times * matrices["lr"]


class DecayByRate(Technique):
    """Weight decay in proportion to the learning rate: a step decays by its square."""

    def begin(self, trial: Trial) -> None:
        trial.optimizer.register_step_pre_hook(self._scale)
        self._peak = trial.config.learning_rate
        self._decays = [group["weight_decay"] for group in trial.optimizer.param_groups]

    def _scale(self, optimizer: Any, *_: object) -> None:
        for group, decay in zip(optimizer.param_groups, self._decays, strict=True):
            group["weight_decay"] = 2 * decay * group["lr"] / self._peak  # the same mean


class Temperature(Technique):
    """Divide the logits by what is best for the first half of the validation text."""

    def validation_loss(self, trial: Trial, ids: IdArray) -> float | None:
        rows = torch.from_numpy(ids.astype("int64")).unsqueeze(1)
        logits = window_logits(trial, rows)
        temperatures = [1 + step / 50 for step in range(-10, 16)]

        def loss(part: slice, temperature: float) -> float:
            return float(functional.cross_entropy(logits[part] / temperature, rows[1:, 0][part]))

        half = slice(0, len(logits) // 2)
        best = min(temperatures, key=lambda each: loss(half, each))
        print(f"temperature {best:.2f}")
        return loss(slice(None), best)


class DropoutAverage(Technique):
    """Validate the mean probability of 16 passes with dropout (Gal and Ghahramani 2016).

    times: The rate relative to that of training.
    """

    def __init__(self, times: float) -> None:
        self._times = times

    def validation_loss(self, trial: Trial, ids: IdArray) -> float | None:
        passes = 16
        rows = torch.from_numpy(ids.astype("int64")).unsqueeze(1).expand(-1, passes)
        generator = torch.Generator().manual_seed(0)
        dropout = Dropout(self._times * trial.config.dropout, generator)
        log_probs = window_logits(trial, rows, dropout, target_log_probs=True)
        return float(-(log_probs.logsumexp(1) - math.log(passes)).mean())


@torch.no_grad()
def window_logits(
    trial: Trial, rows: Tensor, dropout: Dropout | None = None, *, target_log_probs: bool = False
) -> Tensor:
    """rows (tokens, batch) read as one document -> logits (tokens - 1, vocabulary) of a batch of 1.

    With target_log_probs, ln p of each next token (tokens - 1, batch). A mask lasts for a window.
    """
    state, found = trial.model.start(rows.shape[1]), []
    length = trial.config.sequence_length
    for start in range(0, len(rows) - 1, length):
        window = rows[start : start + length + 1]
        hidden, state = trial.model.hidden_states(window[:-1], state, dropout)
        if target_log_probs:
            targets = window[1:]
            found.append(
                trial.model.log_probs(hidden.flatten(0, 1), targets.flatten()).view_as(targets)
            )
        else:
            found.append(trial.model.logits(hidden)[:, 0])
    return torch.cat(found)


class WindowGrowth(Technique):
    """Windows of half the length in the first half of the updates."""

    def begin(self, trial: Trial) -> None:
        self._length = trial.config.sequence_length

    def after(self, trial: Trial, progress: float) -> None:
        length = self._length // 2 if progress < 0.5 else self._length
        trial.streams._length = length
        if length != self._length:
            trial.progress.tokens_seen -= trial.tokens_per_step // 2


class VariableWindow(Technique):
    """One window in twenty has half the length (a coarse form of AWD-LSTM's variable BPTT)."""

    def begin(self, trial: Trial) -> None:
        self._random = torch.Generator().manual_seed(0)
        self._length = trial.config.sequence_length

    def before(self, trial: Trial) -> None:
        short = bool(torch.rand((), generator=self._random) < 0.05)
        trial.streams._length = self._length // 2 if short else self._length


class BatchGrowth(Technique):
    """Half the streams in the first half of the updates (after Smith et al. 2018)."""

    def begin(self, trial: Trial) -> None:
        config, whole = trial.config, trial.streams
        half = Streams(
            whole.ids,
            batch_size=config.batch_size // 2,
            sequence_length=config.sequence_length,
            run_windows=config.run_windows,
            unknown_rate=config.unknown_rate,
            seed=config.seed + 1,
        )
        self._batch_sizes = {half: config.batch_size // 2, whole: config.batch_size}
        self._switch(trial, half)

    def after(self, trial: Trial, progress: float) -> None:
        half, whole = self._batch_sizes
        if trial.streams is half:
            trial.progress.tokens_seen -= trial.tokens_per_step // 2
        wanted = half if progress < 0.5 else whole
        if trial.streams is not wanted:
            self._switch(trial, wanted)

    def _switch(self, trial: Trial, streams: Streams) -> None:
        trial.streams = streams
        trial._state = trial.model.start(self._batch_sizes[streams])


def make_trial(
    model: Model, streams: Streams, config: TrainingConfig, techniques: tuple[Technique, ...]
) -> Trial:
    precision = choose_precision(config.precision, model.device, model.config)
    trial = Trial(model, streams, config, precision)
    trial.adopt(techniques)
    return trial
