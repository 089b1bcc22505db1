"""The loss during training: training and validation, of several runs together."""

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Literal

from textgen.presentation.numbers import rounded
from textgen.results import LossCurves, LossPoint
from textgen.studies.plots.drawing import MARK, Axis, Line, LinePlot, Panel, Point, checkpoint_names

LossOver = Literal["seconds", "tokens", "steps", "epochs"]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


_X: dict[LossOver, tuple[Axis, Callable[[LossPoint], float]]] = {
    "seconds": (Axis("training time", "seconds", show=_short), attrgetter("seconds")),
    "tokens": (
        Axis("training text", "tokens", show=lambda value: rounded(value).replace(".00 ", " ")),
        attrgetter("tokens"),
    ),
    "steps": (Axis("training", "steps", show=_short), attrgetter("step")),
    "epochs": (Axis("training", "epochs", show=_short), attrgetter("epochs")),
}
_COLUMNS = 5  # of the table
_MARGIN = 0.06
_STEEP_SHARE = 0.1  # of a run, in which the loss falls so far that it would flatten the rest
_MOST_DOTS = 40


def loss_plot(runs: Sequence[LossCurves], over: LossOver = "seconds") -> LinePlot:
    """The validation loss of each run, and behind it the training loss.

    The checkpoints on the way of a run are marked on its line; their own loss was not measured.
    """
    axis, x_of = _X[over]
    names = [
        f"{name} (pseudo loss)" if run.pseudo else name
        for run, name in zip(runs, checkpoint_names([run.checkpoint for run in runs]), strict=True)
    ]
    single = len(runs) == 1
    lines: list[Line] = []
    marks: list[Line] = []
    for group, (run, name) in enumerate(zip(runs, names, strict=True)):
        validation, training = _points(run.validation, x_of), _points(run.training, x_of)
        thick = "validation" if single else name
        of_run = (
            Line(thick, validation, group, dots=len(validation) < _MOST_DOTS),
            Line("training" if single else "", training, group, faint=True),
        )
        lines += [line for line in of_run if line.points]
        marked = _marked(of_run, [float(x_of(point)) for _, point in run.kept])
        marks += [Line("", marked, group, marks=True)] if marked else []
    # The range of y is without the first steep fall.
    later = [y for each in lines for x, y in each.points if x >= _STEEP_SHARE * each.points[-1][0]]
    low, high = min(later, default=0.0), max(later, default=0.0)
    margin = _MARGIN * (high - low)
    limits = (low - margin, high + margin) if high - low >= 1e-9 else None
    end = max((line.points[-1][0] for line in lines), default=0.0)
    note = [] if single else ["Thick: validation loss. Thin: training loss."]
    if limits is not None and any(y > limits[1] for each in lines for _, y in each.points):
        note.append("The steep fall at the beginning is outside.")
    if len({run.pseudo for run in runs}) > 1:
        note.append(
            "A pseudo loss, of tokens predicted from both sides, is not comparable with a loss."
        )
    kept = dict.fromkeys(name for run in runs for name, _ in run.kept)
    if kept:
        note.append(f"{MARK}: {', '.join(kept)}.")
    columns = {"loss": False}
    if any(run.pseudo for run in runs):
        columns["pseudo_loss"] = True
    rows = [
        {
            "checkpoint": run.checkpoint,
            "part": part,
            "steps": point.step,
            "tokens": point.tokens,
            "epochs": point.epochs,
            "seconds": point.seconds,
            **{
                name: point.loss if run.pseudo == pseudo else None
                for name, pseudo in columns.items()
            },
        }
        for run in runs
        for part, point in (
            *(("training", point) for point in run.training),
            *(("validation", point) for point in run.validation),
            *run.kept,
        )
    ]
    return LinePlot(
        title="Loss during training" + (f": {names[0]}" if single else ""),
        x=axis,
        y=Axis("loss", "nats per token", show="{:.2f}".format, limits=limits),
        panels=[Panel(lines + marks, at=[end * n / _COLUMNS for n in range(1, _COLUMNS + 1)])],
        numbers=rows,
        note=" ".join(note),
    )


def _points(points: Sequence[LossPoint], x_of: Callable[[LossPoint], float]) -> tuple[Point, ...]:
    pairs = ((float(x_of(point)), point.loss) for point in points)
    return tuple((x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y))


def _marked(lines: Sequence[Line], xs: Sequence[float]) -> tuple[Point, ...]:
    """The points at ``xs`` of the first line that has them."""
    found = {x: y for line in reversed(lines) for x in xs if math.isfinite(y := line.value_at(x))}
    return tuple(sorted(found.items()))
