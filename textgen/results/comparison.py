"""What a comparison of models returns, and what it tells while it runs."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from textgen import metrics
from textgen.results.training import TrainingEvent, Validation


@dataclass(frozen=True)
class ComparedRun:
    """One model trained once. name: of its row. folder: its checkpoints.

    validation: of the best weights; None where it diverged before there were any. true: whether
    its loss is that of a language model; else it is a pseudo loss, of tokens that were predicted
    from both sides, and compares with no true one. curve: validations, in their order. sample: a
    line that it writes; None of a model that cannot. failed: why it did not come to its end.
    """

    name: str
    seed: int
    folder: str
    description: str
    parameters: int
    steps: int
    tokens_seen: int
    seconds: float
    tokens_per_second: float
    validation: Validation | None
    curve: tuple[Validation, ...]
    true: bool = True
    sample: str | None = None
    failed: str | None = None

    @property
    def loss(self) -> float:
        return math.nan if self.validation is None else self.validation.loss

    @property
    def bits_per_character(self) -> float:
        return math.nan if self.validation is None else self.validation.bits_per_character


@dataclass(frozen=True)
class ComparisonRow:
    """One model and its runs, one a seed; the figures are means over those that ended well.

    perplexity is that of the mean loss.
    """

    name: str
    runs: tuple[ComparedRun, ...]

    @property
    def good(self) -> tuple[ComparedRun, ...]:
        return tuple(run for run in self.runs if run.failed is None)

    @property
    def true(self) -> bool:
        return all(run.true for run in self.runs)

    @property
    def parameters(self) -> int:
        return round(_mean([run.parameters for run in self.runs]))

    @property
    def seconds(self) -> float:
        return _mean([run.seconds for run in self.good])

    @property
    def tokens_per_second(self) -> float:
        return _mean([run.tokens_per_second for run in self.good])

    @property
    def loss(self) -> float:
        return _mean([run.loss for run in self.good])

    @property
    def loss_deviation(self) -> float | None:
        """The standard deviation of the loss over seeds, as a sample's; None of a single run."""
        losses = [run.loss for run in self.good]
        return statistics.stdev(losses) if len(losses) > 1 else None

    @property
    def perplexity(self) -> float:
        return metrics.perplexity(self.loss)

    @property
    def bits_per_character(self) -> float:
        return _mean([run.bits_per_character for run in self.good])

    @property
    def sample(self) -> str | None:
        return next((run.sample for run in self.runs if run.sample is not None), None)

    @property
    def middle(self) -> ComparedRun | None:
        """The run whose loss is the median; of two in the middle the better."""
        ranked = sorted(self.good, key=lambda run: run.loss)
        return ranked[(len(ranked) - 1) // 2] if ranked else None


@dataclass(frozen=True)
class Comparison:
    """Models trained alike on the same tokens.

    rows: the lowest loss first; pseudo losses come after all true ones. out: the folder of it
    all. interrupted: the number of the signal that ended it before its end.
    """

    rows: tuple[ComparisonRow, ...]
    out: str
    planned: int
    vocabulary_size: int
    train_tokens: int
    valid_tokens: int
    interrupted: int | None = None

    @property
    def runs(self) -> tuple[ComparedRun, ...]:
        return tuple(run for row in self.rows for run in row.runs)


@dataclass(frozen=True)
class ComparisonStart:
    """What is about to be trained. finished: how many of the runs there are already.

    seconds: what the others take, start-up aside; None where no budget says.
    """

    models: tuple[str, ...]
    runs: int
    finished: int
    seconds: float | None
    vocabulary_size: int
    train_tokens: int
    valid_tokens: int


@dataclass(frozen=True)
class RunStart:
    """The run of this number, from 1, begins or goes on. remaining_seconds: with all after it."""

    name: str
    seed: int
    number: int
    runs: int
    remaining_seconds: float | None
    resumed: bool = False


@dataclass(frozen=True)
class RunEnd:
    """A run has come to its end."""

    run: ComparedRun
    number: int
    runs: int


ComparisonEvent = ComparisonStart | RunStart | RunEnd | TrainingEvent


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
