"""The results of a comparison of models, and the events while it runs."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from textgen import metrics
from textgen.config import Amount, Count
from textgen.presentation.numbers import labelled
from textgen.presentation.records import validation_record
from textgen.results import NgramBaseline, TrainingEvent, Validation


@dataclass(frozen=True)
class RunResult:
    """One model trained once, from one seed.

    Attributes:
        model: The name of its row, options included.
        checkpoint: The folder of the run.
        validation: That of the best weights; None if the run failed before the first.
        sample: A line that the model generates; None if it cannot, or the run failed.
        failed: The error that ended the run.
        is_causal: False if the losses are pseudo-losses, comparable only with one another.
    """

    model: str
    seed: int
    checkpoint: str
    description: str
    parameters: Count
    steps: Count
    tokens_seen: Count
    seconds: Amount
    tokens_per_second: Amount
    validation: Validation | None
    curve: tuple[Validation, ...]
    sample: str | None = None
    failed: str | None = None
    is_causal: bool = True

    @property
    def loss(self) -> float:
        return math.nan if self.validation is None else self.validation.loss

    def to_json(self) -> dict[str, Any]:
        record = {
            **vars(self),
            "validation": self.validation and _validation_json(self.validation),
            "curve": [_validation_json(each) for each in self.curve],
        }
        del record["is_causal"]
        return labelled(record, pseudo=not self.is_causal)


@dataclass(frozen=True)
class ModelResult:
    """One row of the comparison: a model and its runs, one per seed.

    Attributes:
        failed: The number of failed runs. All figures but ``parameters`` are means of the others.
        perplexity: That of the mean loss.
        loss_deviation: The sample standard deviation of the loss over seeds; None for one run.
    """

    model: str
    runs: tuple[RunResult, ...]
    failed: int
    parameters: int
    seconds: float
    tokens_per_second: float
    loss: float
    perplexity: float
    bits_per_character: float
    loss_deviation: float | None
    sample: str | None

    @classmethod
    def of(cls, runs: Sequence[RunResult]) -> Self:
        good = [run for run in runs if run.failed is None]
        losses = [run.loss for run in good]
        bits = [run.validation.bits_per_character for run in good if run.validation is not None]
        return cls(
            model=runs[0].model,
            runs=tuple(runs),
            failed=len(runs) - len(good),
            parameters=round(statistics.fmean(run.parameters for run in runs)),
            seconds=_mean([run.seconds for run in good]),
            tokens_per_second=_mean([run.tokens_per_second for run in good]),
            loss=_mean(losses),
            perplexity=metrics.perplexity(_mean(losses)),
            bits_per_character=_mean(bits),
            loss_deviation=statistics.stdev(losses) if len(losses) > 1 else None,
            sample=next((run.sample for run in runs if run.sample is not None), None),
        )

    @property
    def is_causal(self) -> bool:
        return all(run.is_causal for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        record = {**vars(self), "seeds": [run.seed for run in self.runs]}
        del record["runs"]
        return labelled(record, pseudo=not self.is_causal)


@dataclass(frozen=True)
class Comparison:
    """Models trained alike on the same tokens.

    Attributes:
        rows: The lowest loss first; pseudo-losses come after all losses.
        planned: The number of runs in the complete comparison.
        interrupted: The number of the signal that stopped it.
        ngram: With what the best LSTM gains in a mixture; None if it was stopped.
    """

    rows: tuple[ModelResult, ...]
    out: str
    planned: int
    vocabulary_size: int
    train_tokens: int
    valid_tokens: int
    interrupted: int | None = None
    ngram: NgramBaseline | None = None

    @property
    def runs(self) -> tuple[RunResult, ...]:
        return tuple(run for row in self.rows for run in row.runs)

    def to_json(self) -> dict[str, Any]:
        record = {**vars(self), "rows": [row.to_json() for row in self.rows]}
        record["runs"] = len(self.runs)
        record["ngram"] = self.ngram and asdict(self.ngram)
        if self.interrupted is None:
            del record["interrupted"]
        return record


@dataclass(frozen=True)
class ComparisonStart:
    """The comparison begins or continues.

    Attributes:
        runs: Of which ``finished`` have ended already.
        seconds: The time of the others without start-up; None if it is not known.
    """

    models: int
    runs: int
    finished: int
    seconds: float | None
    train_tokens: int


@dataclass(frozen=True)
class RunStart:
    """A run begins or is resumed; its RunResult is the event of its end.

    Attributes:
        number: From 1 to ``runs``.
        remaining_seconds: For this run and all after it, as in ComparisonStart.
    """

    model: str
    seed: int
    number: int
    runs: int
    remaining_seconds: float | None
    resumed: bool = False


ComparisonEvent = ComparisonStart | RunStart | RunResult | TrainingEvent


def _validation_json(validation: Validation) -> dict[str, Any]:
    names = ("step", "seconds", "characters", "unknown")
    return {name: getattr(validation, name) for name in names} | validation_record(validation)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values or [math.nan])
