"""How the loss fell: training and validation, of several runs together."""

import math
from collections.abc import Callable, Iterator, Sequence

from textgen.config import LossOver
from textgen.presentation.numbers import rounded
from textgen.presentation.pictures.lines import (
    Axis,
    Line,
    LinePicture,
    Point,
    checkpoint_names,
)
from textgen.presentation.pictures.rows import Row
from textgen.results import LossCurves, LossPoint

_ACROSS: dict[LossOver, tuple[Axis, Callable[[LossPoint], float]]] = {
    "seconds": (
        Axis("training time", "seconds", shown=lambda value: f"{value:,.0f}"),
        lambda point: point.seconds,
    ),
    "tokens": (
        Axis("training text", "tokens", shown=lambda value: rounded(value).replace(".00 ", " ")),
        lambda point: point.tokens,
    ),
    "steps": (
        Axis("training", "steps", shown=lambda value: f"{value:,.0f}"),
        lambda point: float(point.step),
    ),
    "epochs": (Axis("training", "epochs"), lambda point: point.epochs),
}
_AT = 5  # points of the table
_MARGIN = 0.06
_FIRST_SHARE = 0.1  # of a run, in which the loss falls so far that all the rest would lie flat


def loss_picture(runs: Sequence[LossCurves], over: LossOver = "seconds") -> LinePicture:
    """The validation loss as a line for each run, and its training loss behind it."""
    axis, place = _ACROSS[over]
    own_names = checkpoint_names([run.checkpoint for run in runs])
    names = [
        f"{name} (pseudo loss)" if run.pseudo else name
        for run, name in zip(runs, own_names, strict=True)
    ]
    lines = []
    for group, (run, name) in enumerate(zip(runs, names, strict=True)):
        name = name if len(runs) > 1 else "validation"
        faint = Line(
            name if len(runs) > 1 else "training", _points(run.training, place), group, True
        )
        firm = Line(name, _points(run.validation, place), group, dots=len(run.validation) < 40)
        lines += [each for each in (firm, faint) if each.points]
    ends = [each.points[-1][0] for each in lines]
    furthest = max(ends, default=0.0)
    return LinePicture(
        title="Loss while learning" + (f": {names[0]}" if len(runs) == 1 else ""),
        x=axis,
        y=Axis("loss", "nats a token", shown=lambda value: f"{value:.2f}", limits=_limits(lines)),
        lines=tuple(lines),
        at=tuple(furthest * number / _AT for number in range(1, _AT + 1)),
        faint="training",
        note=_note(runs),
    )


def _note(runs: Sequence[LossCurves]) -> str:
    said = [] if len(runs) == 1 else ["Lines: validation loss. Thin: training loss."]
    if len({run.pseudo for run in runs}) > 1:
        said.append("A pseudo loss is of tokens predicted from both sides: no true one compares.")
    return " ".join(said)


def _points(points: Sequence[LossPoint], place: Callable[[LossPoint], float]) -> tuple[Point, ...]:
    pairs = ((place(point), point.loss) for point in points)
    return tuple((x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y))


def _limits(lines: Sequence[Line]) -> tuple[float, float] | None:
    """From the lowest value to the highest that comes after the first steep fall."""
    heights = []
    for line in lines:
        end = line.points[-1][0]
        later = [y for x, y in line.points if x >= _FIRST_SHARE * end]
        heights += [min(later), max(later)]
    if not heights or max(heights) - min(heights) < 1e-9:
        return None
    margin = _MARGIN * (max(heights) - min(heights))
    return min(heights) - margin, max(heights) + margin


def loss_rows(runs: Sequence[LossCurves]) -> Iterator[Row]:
    """A row a point; pseudo losses, where there are some, stand in a column of their own."""
    columns = ("loss", "pseudo_loss") if any(run.pseudo for run in runs) else ("loss",)
    for run in runs:
        for part, points in (("training", run.training), ("validation", run.validation)):
            for point in points:
                yield {
                    "checkpoint": run.checkpoint,
                    "part": part,
                    "steps": point.step,
                    "tokens": point.tokens,
                    "epochs": point.epochs,
                    "seconds": point.seconds,
                    **{name: _under(name, run, point) for name in columns},
                }


def _under(column: str, run: LossCurves, point: LossPoint) -> float | None:
    return point.loss if run.pseudo == (column == "pseudo_loss") else None
