"""What training tells while it runs, before it begins and at its end."""

from dataclasses import dataclass
from typing import Any

from textgen import metrics


@dataclass(frozen=True)
class Validation:
    """One pass over the whole validation part in document context.

    loss: nats a token, ``<EOS>`` included. unknown: how many of the tokens were ``<UNK>``.
    step, seconds: when in the run it was made. pseudo: whether each token was given what comes
    after it, too: then it is shown as ``pseudo_loss`` and compares with others such alone.
    """

    loss: float
    tokens: int
    characters: int
    unknown: int = 0
    step: int = 0
    seconds: float = 0.0
    pseudo: bool = False

    @property
    def perplexity(self) -> float:
        return metrics.perplexity(self.loss)

    @property
    def bits_per_character(self) -> float:
        return metrics.bits_per_character(-self.loss * self.tokens, self.characters)


@dataclass(frozen=True)
class TrainingStep:
    """One update of the weights (or the few since the last log line).

    loss: nats a training token, mean since the last log line. progress: 0 to 1.
    seconds: since the first step, of all the parts of a resumed run together.
    remaining_seconds: what the run still takes, as far as can be told.
    memory_bytes: of the whole process, where the system tells.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens_seen: int
    tokens_per_second: float
    progress: float
    seconds: float
    remaining_seconds: float
    memory_bytes: int | None = None


@dataclass(frozen=True)
class TrainingSample:
    """A few words that the model writes while it learns."""

    step: int
    text: str


@dataclass(frozen=True)
class TrainingWarning:
    """Something a person should know while there is time to act; training goes on."""

    step: int
    text: str


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is whole on disk. name: ``best`` or ``last``."""

    step: int
    name: str
    path: str


@dataclass(frozen=True)
class TrainingStart:
    """What is about to be trained, said before the first step."""

    parameters: int
    vocabulary_size: int
    train_tokens: int
    valid_tokens: int
    train_characters: int
    level: str
    device: str
    precision: str
    threads: int
    description: str
    out: str
    resumed_step: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedOption:
    """One of a run's options. reason: why it has this value."""

    name: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a run will be. state_bytes: weights, gradients and the optimizer's moments.

    window_bytes: roughly what one update holds besides. tokens, seconds: of the whole run;
    tokens_per_second was measured on this machine.
    """

    options: tuple[PlannedOption, ...]
    parameters: int
    state_bytes: int
    window_bytes: int
    tokens_per_second: float
    tokens: float
    seconds: float
    epochs: float
    vocabulary_size: int
    train_tokens: int
    device: str
    precision: str
    threads: int


TrainingEvent = (
    TrainingStart | TrainingStep | Validation | TrainingSample | TrainingWarning | CheckpointSaved
)


@dataclass(frozen=True)
class NgramBaseline:
    """What a Kneser-Ney n-gram model reaches on the validation part, or on its beginning.

    loss: nats a token. train_tokens, valid_tokens: how many it learned from and was tried on.
    """

    order: int
    loss: float
    train_tokens: int
    valid_tokens: int


@dataclass(frozen=True)
class TrainingResult:
    """What a run of training reached.

    validation: of the best model. last_validation: of the weights at the end.
    Both are None in a run that was stopped before its first.
    tokens_per_second: training tokens over the seconds of training steps alone.
    uniform_loss: ln(vocabulary), what a model that knows nothing reaches.
    interrupted: the signal's number, where the run was stopped by one. ended_early: why it
    was ended before its time, where it was.
    ngram: what counting reaches; None in a run that was stopped.
    peak_memory_bytes: the most the process held, where the system tells.
    """

    checkpoint: str
    steps: int
    tokens_seen: int
    seconds: float
    tokens_per_second: float
    parameters: int
    validation: Validation | None
    last_validation: Validation | None
    uniform_loss: float
    interrupted: int | None = None
    ended_early: str | None = None
    ngram: NgramBaseline | None = None
    peak_memory_bytes: int | None = None
