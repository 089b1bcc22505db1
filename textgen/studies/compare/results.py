"""What a comparison of models returns, and the events it has while it runs."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from textgen import metrics
from textgen.presentation.numbers import PSEUDO, labelled
from textgen.presentation.records import validation_record
from textgen.results import TrainingEvent, Validation


@dataclass(frozen=True)
class RunResult:
    """One model trained once, from one seed.

    Attributes:
        model: The name of its row, options included.
        checkpoint: The folder of the run.
        validation: Of the best weights; None where the run failed before the first.
        curve: All validations, in their order.
        sample: A line that the model writes; None where it cannot, or the run failed.
        failed: Why the run did not reach its end.
        is_causal: False where the losses are pseudo-losses, which compare only with one another.
    """

    model: str
    seed: int
    checkpoint: str
    description: str
    parameters: int
    steps: int
    tokens_seen: int
    seconds: float
    tokens_per_second: float
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

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for what ``to_json`` does not write."""
        values = _typed(cls, raw)
        if values["validation"] is not None:
            values["validation"] = _read_validation(values["validation"])
        values["curve"] = tuple(map(_read_validation, values["curve"]))
        return cls(**values, is_causal="validation" in raw)


@dataclass(frozen=True)
class ModelResult:
    """One row of the comparison: a model and its runs, one per seed.

    Attributes:
        failed: How many runs failed. All figures but ``parameters`` are means over the others.
        perplexity: Of the mean loss.
        loss_deviation: Sample standard deviation of the loss over seeds; None of a single run.
        sample: Of the first run that has one.
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
        """The row of at least one run."""
        good = [run for run in runs if run.failed is None]
        best = [run.validation for run in good if run.validation is not None]
        losses = [run.loss for run in good]
        return cls(
            model=runs[0].model,
            runs=tuple(runs),
            failed=len(runs) - len(good),
            parameters=round(_mean([run.parameters for run in runs])),
            seconds=_mean([run.seconds for run in good]),
            tokens_per_second=_mean([run.tokens_per_second for run in good]),
            loss=_mean(losses),
            perplexity=metrics.perplexity(_mean(losses)),
            bits_per_character=_mean([each.bits_per_character for each in best]),
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
        out: The folder of all runs.
        planned: How many runs there are in the end.
        interrupted: The number of the signal that stopped it.
    """

    rows: tuple[ModelResult, ...]
    out: str
    planned: int
    vocabulary_size: int
    train_tokens: int
    valid_tokens: int
    interrupted: int | None = None

    @property
    def runs(self) -> tuple[RunResult, ...]:
        return tuple(run for row in self.rows for run in row.runs)

    def to_json(self) -> dict[str, Any]:
        record = {
            **vars(self),
            "rows": [row.to_json() for row in self.rows],
            "runs": len(self.runs),
        }
        if self.interrupted is None:
            del record["interrupted"]
        return record


@dataclass(frozen=True)
class ComparisonStart:
    """What is about to be trained.

    Attributes:
        models: How many.
        runs: How many in all, of which ``finished`` have ended already.
        seconds: What the others take, start-up not included; None where it is not known.
        train_tokens: How many all models learn from.
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


def _read_validation(raw: dict[str, Any]) -> Validation:
    return Validation(**_typed(Validation, raw), pseudo=PSEUDO + "loss" in raw)


def _typed(cls: type[RunResult | Validation], raw: dict[str, Any]) -> dict[str, Any]:
    """The values of fields, by their names; text and numbers as the type of the field."""
    values = {name.removeprefix(PSEUDO): value for name, value in raw.items()}
    kinds: dict[Any, Callable[[Any], Any]] = {str: str, int: int, float: float}
    return {
        spec.name: kinds.get(spec.type, lambda value: value)(values[spec.name])
        for spec in dataclasses.fields(cls)
        if spec.type is not bool
    }


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan
