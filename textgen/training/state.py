"""The state of training: model, optimizer and position in the text; and its updates.

``GradientState`` learns by truncated back-propagation through time, ``CountingState`` by one pass
of counting.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, cast

import torch
from torch import Tensor, nn

from textgen.config import Amount, Bounds, Count, Precision, TrainingConfig
from textgen.data.batching import IdArray, Streams, StreamsState, Window, WordCounter
from textgen.inference.likelihood import mean_cross_entropy
from textgen.models import Dropout, Model, State
from textgen.models.base import frequencies
from textgen.models.candidates import Candidates, CandidateSampler
from textgen.models.device import autocast
from textgen.models.lstm import NgramEmbeddings
from textgen.models.mixture import MixtureModel
from textgen.models.ngram import ngram_tables
from textgen.training.optimizers import AdamW, RowOptimizer
from textgen.training.ranks import SINGLE_PROCESS, Ranks

_SEED_STRIDE, _RANK_STRIDE = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9
_DRAWS_STRIDE = 0x94D049BB133111EB
_HALVES = {"float32": (), "bf16": (torch.bfloat16, torch.float16), "fp16": (torch.float16,)}
_STATE, _OPTIMIZER = "state.", "optimizer."
_TOKEN_TIMES, _NGRAM_TIMES = 3.0, 2.0
"""The learning rates of tables relative to that of the layers: most rows learn in few updates."""


@dataclass
class Progress:
    """The progress of a run.

    Attributes:
        words_seen: None where they are not counted.
        seconds: Wall time of the whole run, over all its resumptions.
        step_seconds: Wall time of updates alone.
        learning_rate_scale: Factor on the learning rate, lowered at each rollback.
        rollbacks: How often the run returned to an earlier state.
        loss_sum: Of ``loss_count`` updates since the last log line, in nats per token; set in
            snapshots only, because reading it waits for the device.
    """

    step: Count = 0
    tokens_seen: Count = 0
    seconds: Amount = 0.0
    step_seconds: Amount = 0.0
    learning_rate_scale: Annotated[float, Bounds(0, 1, closed_high=True)] = 1.0
    rollbacks: Count = 0
    loss_sum: float = 0.0
    loss_count: Count = 0
    words_seen: Count | None = None

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_seen / max(self.step_seconds, 1e-9)


@dataclass(frozen=True)
class ScalerState:
    """The state of the gradient scaler, by PyTorch's names."""

    scale: Annotated[float, Bounds(0, 1e39)]
    growth_factor: Annotated[float, Bounds(1, 1e3)]
    backoff_factor: Annotated[float, Bounds(0, 1, open_low=True)]
    growth_interval: Annotated[int, Bounds(1, 2**31 - 1)]
    _growth_tracker: Annotated[int, Bounds(0, 2**31 - 1)]


@dataclass(frozen=True)
class Snapshot:
    """The state of training without the weights, from which ``restore`` continues bit for bit.

    Randomness is no part of it: the draws of a step are keyed by (seed, step, rank), the order of
    the corpus by (seed, epoch).

    Attributes:
        tensors: ``state.<name>``, the recurrent state of each stream, and
            ``optimizer.<index>.<name>``, the moments of each parameter.
        scaler: None in float32 and on a CPU.
    """

    progress: Progress
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    streams: StreamsState | None = None
    scaler: ScalerState | None = None


class TrainerState(ABC):
    """What an update changes: the model, and the progress of the run.

    Attributes:
        tokens_per_step: Training tokens per update, of all processes together.
        held_out_tokens: Tokens that the mixture's weights are fitted on, the same on every rank.
        warnings: Remarks on the text, to be shown once after the first update.
        learning_rate: Of the last update.
    """

    def __init__(
        self, model: Model, ids: IdArray, tokens_per_step: int, held_out: Sequence[IdArray] = ()
    ) -> None:
        """held_out: chunks of the training part that only the mixture's weights are fitted on."""
        self.model, self.tokens_per_step = model, tokens_per_step
        self.progress = Progress()
        self.learning_rate = 0.0
        self.warnings: tuple[str, ...] = ()
        self._ids, self._held_out = ids, held_out
        self.held_out_tokens = sum(map(len, held_out))

    @abstractmethod
    def update(self, learning_rate: float) -> None:
        """Learn from the next window of every stream."""

    def initialize_from_text(self) -> None:
        """Initialize what depends on the text; again if a resumed run continues on another."""
        self.model.initialize_from_text(self._ids)

    def _begin(self) -> None:
        self.initialize_from_text()
        tables = ngram_tables(self.model)
        self.warnings = tuple(remark for each in tables for remark in each.remarks())

    @property
    def is_finite(self) -> bool:
        """Whether the loss and the gradient of the last step are finite; waits for the device."""
        return True

    @property
    def gradient_norm(self) -> float:
        """Norm of the last gradient, before clipping."""
        return 0.0

    @property
    def mean_loss(self) -> float:
        """Mean training loss since ``take_mean_loss``, in nats per token; waits for the device."""
        return math.nan

    def take_mean_loss(self) -> float:
        """The mean loss; the next one is of the updates that follow."""
        return self.mean_loss

    def prepare_validation(self) -> None:
        """Fit what depends on held-out chunks of the training part."""
        if self._held_out and isinstance(self.model, MixtureModel):
            self.model.fit_mixture(self._held_out)

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """A copy of the state, on rank 0 with the streams of all ranks; every rank calls this."""

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot; the caller restores the weights.

        The number of ranks may differ from that of the snapshot.

        Raises:
            ValueError: The snapshot does not fit the model.
        """

    def remember(self) -> None:  # noqa: B027
        """Keep a copy of weights and state to roll back to. Counts are always finite."""

    def roll_back(self) -> None:  # noqa: B027
        """Restore what ``remember`` copied; the times continue."""


class WindowLoss(nn.Module):
    """The loss of a window as one module, so that it can be wrapped for data parallelism."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State,
        dropout: Dropout,
        candidates: Candidates | None,
    ) -> tuple[Tensor, State]:
        """inputs, targets (time, batch) -> mean loss in nats per token (), the next state."""
        hidden, state = self.model.hidden_states_in_context(inputs, targets, state, dropout)
        return mean_cross_entropy(self.model, hidden, targets, candidates), state


class GradientState(TrainerState):
    """A model that learns by AdamW (Loshchilov and Hutter 2019) from windows of streams.

    Each of several ranks has its own batch; their gradients are averaged.
    """

    def __init__(
        self,
        model: Model,
        streams: Streams,
        config: TrainingConfig,
        precision: Precision,
        ranks: Ranks = SINGLE_PROCESS,
        held_out: Sequence[IdArray] = (),
    ) -> None:
        tokens_per_step = ranks.size * config.batch_size * config.sequence_length
        super().__init__(model, streams.ids, tokens_per_step, held_out)
        self.streams, self.config = streams, config
        self._device = model.device
        self._precision, self._ranks = precision, ranks
        self.held_out_tokens = int(ranks.maximum(self.held_out_tokens)[0])
        self._window_loss = ranks.parallel(WindowLoss(model))
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        sampled = 0 < config.candidates < model.config.vocabulary_size
        tables = {id(each) for each in model.lookup_tables(sampled=sampled)}
        sparse = self._device.type == "cpu" and ranks.size == 1
        for module in model.modules():
            if isinstance(module, nn.Embedding | NgramEmbeddings) and id(module.weight) in tables:
                module.sparse = sparse
        self._sampler: CandidateSampler | None = None
        if sampled and model.output_layer is not None:
            counts = frequencies(streams.ids, model.config.vocabulary_size)
            self._sampler = CandidateSampler(counts, config.candidates, sparse=sparse)
        self._state: State = model.start(config.batch_size)
        self._generator = torch.Generator(device=self._device)
        self._draws = torch.Generator()
        matrices = [p for p in self._parameters if p.ndim > 1 and id(p) not in tables]
        vectors = [each for each in self._parameters if each.ndim <= 1]
        self._optimizers: list[torch.optim.Optimizer] = [
            AdamW(
                [
                    {"params": matrices, "weight_decay": config.weight_decay},
                    {"params": vectors, "weight_decay": 0.0},  # biases do not overfit
                ],
                lr=config.learning_rate,
                betas=config.betas,
                fused=True,
            )
        ]
        if tables:
            ngrams = {id(each) for each in model.lookup_tables(sampled=False)}
            of_ngrams = {"weight_decay": 0.0, "times": _NGRAM_TIMES}
            of_tokens = {"weight_decay": config.weight_decay, "times": _TOKEN_TIMES}
            self._optimizers.append(
                RowOptimizer(
                    [
                        {"params": [p], **(of_ngrams if id(p) in ngrams else of_tokens)}
                        for p in self._parameters
                        if id(p) in tables
                    ],
                    lr=config.learning_rate,
                    decay=config.betas[1],
                )
            )
        # In bf16 too: on CUDA, recurrent layers compute in fp16 under any autocast.
        scaled = self._device.type == "cuda" and precision != "float32"
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=scaled)
        dtype = torch.float32 if self._device.type == "mps" else torch.float64
        self._loss_sum = torch.zeros((), dtype=dtype, device=self._device)
        self._norm = torch.zeros(())

    def update(self, learning_rate: float) -> None:
        """One step of truncated back-propagation through time (Werbos 1990).

        A gradient that is not finite leaves weights and optimizer as they were.
        """
        if self.progress.step == 0:
            self._begin()
        self.learning_rate = learning_rate * self.progress.learning_rate_scale
        self._set_learning_rate()
        self._generator.manual_seed((self._key() + self.progress.step) % 2**63)
        window = self.streams.next()
        self._learn(window)
        self.progress.loss_count += 1
        self.progress.step += 1
        self.progress.tokens_seen += self.tokens_per_step
        if self.progress.words_seen is not None:
            self.progress.words_seen += window.words

    def count_words(self, counter: WordCounter) -> None:
        """Count the words of what is read from now on."""
        self.progress.words_seen, self.streams.word_counter = 0, counter

    def _set_learning_rate(self) -> None:
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate

    def _learn(self, window: Window) -> None:
        ids, carried = map(self._on_device, (window.ids, window.carried))
        self._learn_on_device(ids, carried, self._candidates(window))

    def _learn_on_device(
        self, ids: Tensor, carried: Tensor, candidates: Candidates | None = None
    ) -> None:
        """The part of an update that the device computes: ids (1 + time, batch), carried (batch,).

        It changes weights, optimizer, gradient scaler, the recurrent state, norm and sum of losses.
        """
        loss = self._loss(ids, carried, candidates)
        with self._ranks.connected():
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        loss = self._ranks.mean(loss.detach())
        for optimizer in self._optimizers:
            self._scaler.unscale_(optimizer)
        self._norm = _clip(self._parameters, self.config.clip)
        for optimizer in self._optimizers:
            if not self._scaler.is_enabled():
                # It skips its step where this is 1, without a synchronisation.
                cast(Any, optimizer).found_inf = (~self._norm.isfinite()).float()
            self._scaler.step(optimizer)
        self._scaler.update()
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        self._loss_sum = self._loss_sum + loss.to(self._loss_sum)

    def _loss(self, ids: Tensor, carried: Tensor, candidates: Candidates | None) -> Tensor:
        dropout = Dropout(self.config.dropout, self._generator, self.config.ngram_dropout)
        state = self._state.detach().keep(carried)
        with autocast(self._device, self._precision):
            loss, self._state = self._window_loss(ids[:-1], ids[1:], state, dropout, candidates)
        return cast(Tensor, loss)

    def _candidates(self, window: Window) -> Candidates | None:
        if self._sampler is None:
            return None
        self._draws.manual_seed((self._key() * _DRAWS_STRIDE + self.progress.step) % 2**63)
        drawn = self._sampler.draw(torch.from_numpy(window.ids[1:]), self._draws)
        return drawn.to(self._device)

    def _key(self) -> int:
        """What the draws of a step are keyed by, besides its number."""
        return self.config.seed * _SEED_STRIDE + self._ranks.rank * _RANK_STRIDE

    def _on_device(self, array: Any) -> Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)

    @property
    def is_finite(self) -> bool:
        finite = math.isfinite(float(self._loss_sum))
        return finite and (self._scaler.is_enabled() or math.isfinite(float(self._norm)))

    @property
    def gradient_norm(self) -> float:
        return float(self._norm)

    @property
    def mean_loss(self) -> float:
        count = self.progress.loss_count
        return float(self._loss_sum) / count if count else math.nan

    def take_mean_loss(self) -> float:
        mean = self.mean_loss
        self._loss_sum.zero_()
        self.progress.loss_count = 0
        return mean

    def snapshot(self) -> Snapshot:
        named = self._state.detach().tensors()
        return self._snapshot({name: self._ranks.gather(rows) for name, rows in named.items()})

    def _snapshot(self, rows: Mapping[str, Tensor]) -> Snapshot:
        tensors = {_STATE + name: each for name, each in rows.items()}
        for index, (parameter, optimizer) in enumerate(self._optimized()):
            slots = optimizer.state.get(parameter, {})
            tensors |= {f"{_OPTIMIZER}{index}.{name}": each for name, each in slots.items()}
        return Snapshot(
            replace(self.progress, loss_sum=float(self._loss_sum)),
            {name: tensor.detach().clone() for name, tensor in tensors.items()},
            self.streams.state(),
            ScalerState(**scaler) if (scaler := self._scaler.state_dict()) else None,
        )

    def restore(self, snapshot: Snapshot) -> None:
        if snapshot.streams is None:
            raise ValueError("the streams are missing")
        self._check_tensors(snapshot, len(snapshot.streams.rows))
        own = self._ranks.rows(self.config.batch_size)
        start = self.model.start(self.config.batch_size).tensors()
        rows = {}
        for name, of_all in _rows(snapshot).items():
            found = of_all.to(self._device)[own]
            # A stream that the saved run did not have starts fresh.
            rows[name] = torch.cat([found, start[name][len(found) :].to(found)])
        self._load(snapshot, rows)

    def _optimized(self) -> list[tuple[Tensor, torch.optim.Optimizer]]:
        """Each parameter with its optimizer, in the order of their numbers in a snapshot."""
        return [
            (parameter, optimizer)
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        ]

    def remember(self) -> None:
        weights = [parameter.detach().clone() for parameter in self.model.parameters()]
        self._remembered = weights, self._snapshot(self._state.detach().tensors())

    @torch.no_grad()
    def roll_back(self) -> None:
        weights, snapshot = self._remembered
        clocks = self.progress.seconds, self.progress.step_seconds
        for parameter, weight in zip(self.model.parameters(), weights, strict=True):
            parameter.copy_(weight)
        self._load(snapshot, _rows(snapshot))
        self.progress.seconds, self.progress.step_seconds = clocks

    def _load(self, snapshot: Snapshot, rows: dict[str, Tensor]) -> None:
        """rows: the recurrent state of the streams of this process."""
        assert snapshot.streams is not None
        self._load_moments(snapshot)
        self._state = self.model.restore(rows)
        self.progress = replace(snapshot.progress)
        self._loss_sum = torch.full_like(self._loss_sum, snapshot.progress.loss_sum)
        self.streams.restore(snapshot.streams)
        if self._scaler.is_enabled():
            if snapshot.scaler is not None:
                self._scaler.load_state_dict(asdict(snapshot.scaler))
            elif self._precision == "fp16":  # in bf16, the run may be from a CPU
                raise ValueError("the state of the gradient scaler is missing")

    def _load_moments(self, snapshot: Snapshot) -> None:
        optimized = self._optimized()
        for parameter, optimizer in optimized:
            optimizer.state.pop(parameter, None)
        for name, tensor in snapshot.tensors.items():
            if name.startswith(_OPTIMIZER):
                _, index, slot = name.split(".", 2)
                parameter, optimizer = optimized[int(index)]
                # A copy, because the optimizer writes into it.
                optimizer.state[parameter][slot] = tensor.clone().to(parameter.device)

    def _check_tensors(self, snapshot: Snapshot, batch: int) -> None:
        """Refuse a state, or an optimizer's moments, that are not of this model and batch."""
        start = self.model.start(batch).tensors()
        shapes = {_STATE + name: rows.shape for name, rows in start.items()}
        if snapshot.progress.step:
            for index, (parameter, optimizer) in enumerate(self._optimized()):
                moments = {"step": torch.Size(), "exp_avg_sq": parameter.shape}
                if not isinstance(optimizer, RowOptimizer):
                    moments["exp_avg"] = parameter.shape
                shapes |= {f"{_OPTIMIZER}{index}.{name}": each for name, each in moments.items()}
        if snapshot.tensors.keys() != shapes.keys():
            name = min(snapshot.tensors.keys() ^ shapes.keys())
            raise ValueError(f"{name} is missing or unexpected")
        for name, tensor in snapshot.tensors.items():
            if tensor.shape != shapes[name]:
                raise ValueError(f"{name} is {tuple(tensor.shape)}, not {tuple(shapes[name])}")
            own = torch.float32
            if name.startswith(_STATE):
                own = start[name.removeprefix(_STATE)].dtype
            halves = _HALVES[self._precision] if own.is_floating_point else ()
            if tensor.dtype not in (own, *halves):
                raise ValueError(f"{name} is {tensor.dtype}")


@torch.no_grad()
def _clip(parameters: Iterable[Tensor], most: float) -> Tensor:
    """Scale gradients, sparse ones among them, so that their norm is at most ``most``.

    Returns the norm before. A gradient of two uses of a table is made one.
    """
    gradients = []
    for parameter in parameters:
        if parameter.grad is not None:
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
            sparse = parameter.grad.is_sparse
            gradients.append(parameter.grad.values() if sparse else parameter.grad)
    norm = torch.nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp(max=1.0))
    return norm


def _rows(snapshot: Snapshot) -> dict[str, Tensor]:
    """The recurrent state of each stream (streams, ...), by its name in the model."""
    tensors = snapshot.tensors.items()
    return {n.removeprefix(_STATE): each for n, each in tensors if n.startswith(_STATE)}


class CountingState(TrainerState):
    """A model that is estimated from all of its text in one step."""

    def __init__(self, model: Model, ids: IdArray) -> None:
        super().__init__(model, ids, tokens_per_step=len(ids))

    def update(self, learning_rate: float) -> None:
        self._begin()
        self.progress.step += 1
        self.progress.tokens_seen += self.tokens_per_step

    def snapshot(self) -> Snapshot:
        return Snapshot(replace(self.progress))

    def restore(self, snapshot: Snapshot) -> None:
        if snapshot.tensors:
            raise ValueError(f"{min(snapshot.tensors)} is unexpected")
        if snapshot.progress.step > 1:
            raise ValueError("impossible counts")
        self.progress = replace(snapshot.progress)
