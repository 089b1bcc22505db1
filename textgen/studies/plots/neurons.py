"""Single units of a network: their values along a text, and which features of it they follow.

Karpathy, Johnson and Li (2015) found cells that encode the position in the line, quotes and
brackets. Here such units are found by correlation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from textgen.errors import DataError, UsageError
from textgen.language_model import LanguageModel
from textgen.presentation.console import shown
from textgen.presentation.numbers import figure
from textgen.studies.plots import drawing
from textgen.studies.plots.drawing import Row
from textgen.studies.plots.text import check_continuous, continuous
from textgen.tokenizers.base import EOS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Values = npt.NDArray[np.float32]
_TextLine = list[tuple[str, float]]
"""Characters, each with the level of the unit after its token, from -1 to 1."""

_LEAST_TOKENS = 5  # with and without a feature, for a correlation to mean something
_NEWLINE = "↵"
_FIGURE_COLUMNS, _FIGURE_LINES = 84, 20
_LINE_INCHES = 0.31
_CHARACTER_POINTS = 15.3  # the size of a letter that is as wide as a column
_NEGATIVE, _POSITIVE = (18, 80, 138), (158, 69, 4)  # blue and orange differ to the colour-blind
_FAINT, _DARK = 0.11, 0.7  # below: without a background; from here on: white letters


@dataclass(frozen=True)
class States:
    """The value of each unit after each token of a text.

    Attributes:
        texts: (tokens,)
        values: (tokens, units) by the name of the state's tensor.
    """

    checkpoint: str
    texts: tuple[str, ...]
    values: Mapping[str, _Values]


@dataclass(frozen=True, slots=True)
class Correlation:
    """Pearson's correlation of a feature of a text and a unit, over the tokens of the text."""

    feature: str
    unit: str
    correlation: float


@dataclass(frozen=True)
class UnitTrace:
    """The values of one unit, such as ``cell.0.17``, after each of the tokens that are shown.

    largest: the 99th percentile of the absolute value over the whole text.
    """

    checkpoint: str
    unit: str
    largest: float
    texts: tuple[str, ...]
    values: tuple[float, ...]
    heading: str


@torch.inference_mode()
def read_states(model: LanguageModel, text: str) -> States:
    """Read a text from the start state.

    Raises:
        UsageError: The state is not continuous.
        DataError: The text is empty.
    """
    names = check_continuous(model, "plot neurons")
    network, ids = model.model, model.tokenizer.encode(text)
    if not len(ids):
        raise DataError("the text is empty", fix="give a longer text")
    state = network.start(1)
    values: dict[str, list[_Values]] = {name: [] for name in names}
    for id in (EOS, *ids.tolist()):
        _, state = network.hidden_states(torch.tensor([[id]], device=network.device), state)
        for name, tensor in continuous(state).items():
            values[name].append(tensor[0].flatten().float().cpu().numpy())
    return States(
        checkpoint=str(model.path),
        texts=tuple(model.tokenizer.token_texts(text)),
        values={name: np.stack(rows[1:]) for name, rows in values.items()},
    )


def search(states: States, most: int = 3) -> list[Correlation]:
    """Find the ``most`` units with the largest correlation with each feature that the text has.

    Raises:
        DataError: The text has none of the features.
    """
    units = [f"{name}.{unit}" for name, v in states.values.items() for unit in range(v.shape[1])]
    values = np.concatenate(list(states.values.values()), axis=1).astype(np.float64)
    centred = values - values.mean(0)
    sizes = np.linalg.norm(centred, axis=0)
    found = []
    for name, feature in features(states.texts).items():
        if min(np.count_nonzero(feature), np.count_nonzero(feature == 0)) < _LEAST_TOKENS:
            continue
        target = feature - feature.mean()
        with np.errstate(invalid="ignore", divide="ignore"):
            correlations = np.nan_to_num(target @ centred / (np.linalg.norm(target) * sizes))
        best = np.argsort(-np.abs(correlations), kind="stable")[:most]
        found += [Correlation(name, units[unit], float(correlations[unit])) for unit in best]
    if not found:
        raise DataError(
            "the text has no feature to search for",
            why="no lines, quotes or brackets of some length",
            fix="give a longer text, or name a unit with --unit",
        )
    return found


def features(texts: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
    """The features at the end of each part of a text, (parts,) by name.

    Quotes are typographic or straight. An empty line closes quotes and brackets left open.

    >>> features(("a", " “b", "”", "\\n"))["inside quotes"].tolist()
    [0.0, 1.0, 0.0, 0.0]
    """
    column, depth, quoted, before = 0, 0, False, ""
    rows = []
    for text in texts:
        for character in text:
            empty_line = before == character == "\n"
            column = 0 if character == "\n" else column + 1
            depth = max(0, depth + (character in "([{") - (character in ")]}"))
            if character in "“«":
                quoted = True
            elif character in "”»":
                quoted = False
            elif character == '"':
                quoted = not quoted
            if empty_line:
                depth, quoted = 0, False
            before = character
        rows.append((column, quoted, depth > 0))
    names = ("position in the line", "inside quotes", "inside brackets")
    return dict(zip(names, np.array(rows, np.float64).reshape(-1, 3).T, strict=True))


def trace(states: States, unit: str, *, most: int | None = None, start: int = 0) -> UnitTrace:
    """One unit along a text.

    Args:
        unit: ``cell.0.17``, a tensor of the state and a number; ``0.17``, in the last tensor of
            layer 0; ``17``, in the last of all. For an LSTM these are cells.
        most: The largest number of tokens.
        start: The first token.

    Raises:
        UsageError: There is no such unit.
    """
    place, _, number = unit.rpartition(".")
    tensors = [name for name in states.values if not place or f".{name}".endswith(f".{place}")]
    units = states.values[tensors[-1]].shape[1] if tensors else 0
    if number not in map(str, range(units)):
        ranges = (f"{name}.0 to {each.shape[1] - 1}" for name, each in states.values.items())
        why = f"there are {', '.join(ranges)}"
        raise UsageError(f"no such unit: {unit}", where="--unit", why=why)
    name, values = f"{tensors[-1]}.{number}", states.values[tensors[-1]][:, int(number)]
    part = slice(start, None if most is None else start + most)
    largest = float(np.percentile(np.abs(values), 99))
    after = tuple(values[part].tolist())
    return UnitTrace(states.checkpoint, name, largest, states.texts[part], after, name)


def best_traces(states: States, found: Sequence[Correlation], *, most: int) -> list[UnitTrace]:
    """For each feature the best unit, over the ``most`` tokens in which the feature varies most."""
    # The part shown begins with a line.
    starts = [0, *(i + 1 for i, text in enumerate(states.texts) if text.endswith("\n"))]
    possible = [start for start in starts if start + most <= len(states.texts)] or [0]
    traces = []
    for name, feature in features(states.texts).items():
        best = next((each for each in found if each.feature == name), None)
        if best is None:
            continue
        start = max(possible, key=lambda at: float(feature[at : at + most].std()))
        r = f"{best.correlation:+.2f}".replace("-", "−")
        one = trace(states, best.unit, most=most, start=start)
        traces.append(replace(one, heading=f"{one.unit}: {name} (r = {r})"))
    return traces


@dataclass(frozen=True)
class NeuronPlot:
    """A text coloured by units. found: why they were chosen; empty if one was named."""

    traces: Sequence[UnitTrace]
    found: Sequence[Correlation]

    def rows(self) -> Iterator[Row]:
        """The units found, or the values of the one that was named."""
        yield from map(asdict, self.found)
        for trace in self.traces if not self.found else ():
            for place, (text, value) in enumerate(zip(trace.texts, trace.values, strict=True)):
                yield {"unit": trace.unit, "place": place, "text": text, "value": value}

    def terminal(self, console: Console) -> RenderableType:
        parts = list[RenderableType]()
        if self.found:
            table = drawing.new_table("feature", "unit", "correlation")
            for each in self.found:
                table.add_row(each.feature, each.unit, f"{each.correlation:+.2f}")
            parts += [table, Text()]
        # Sixteen colours are too few for shades.
        in_colour = drawing.in_colour(console) and console.color_system != "standard"
        for trace in self.traces:
            parts.append(Text(trace.heading, style="heading"))
            for line in _lines(trace, min(console.width, drawing.TERMINAL_WIDTH)):
                if in_colour:
                    parts.append(_coloured(line))
                else:  # below the text a digit or a letter for each character's level
                    text = "".join(character for character, _ in line)
                    below = (" 123456789ihgfedcba"[round(v * 9)] * cell_len(c) for c, v in line)
                    parts.append(Text(text, no_wrap=True))
                    parts.append(Text("".join(below), style="label", no_wrap=True))
            end = figure(trace.largest, 2)
            if in_colour:
                steps = _coloured([(" ", step / 16) for step in range(-16, 17)])
                scale = Text.assemble(f"-{end} ", steps, f" {end}  the unit's value")
            else:
                marks = f"1 to 9 up to {end} or more, a to i down to -{end} or less"
                scale = Text(f"Below each line: {marks}.", style="label")
            parts += [scale, Text()]
        return Group(*parts[:-1])

    def figure(self) -> "Figure":
        """A panel of text for each unit, and one colour scale."""
        from matplotlib.colors import LinearSegmentedColormap

        (name,) = drawing.checkpoint_names([self.traces[0].checkpoint])
        title = "Units that follow the text" if self.found else self.traces[0].unit
        most = _FIGURE_LINES // len(self.traces)
        panels = [_lines(trace, _FIGURE_COLUMNS)[:most] for trace in self.traces]
        heights = [len(lines) for lines in panels]
        ends = [np.divide(each, 255).tolist() for each in (_NEGATIVE, (255,) * 3, _POSITIVE)]
        with drawing.style():
            height = 1.6 + 0.5 * len(panels) + _LINE_INCHES * sum(heights)
            drawn = drawing.new_figure(f"{title}: {name}", height)
            grid = drawn.subplots(len(panels), squeeze=False, height_ratios=heights).flatten()
            for trace, lines, axes in zip(self.traces, panels, grid, strict=True):
                image = axes.imshow(
                    _drawn_text(axes, lines),
                    LinearSegmentedColormap.from_list("unit", ends),
                    vmin=-1,
                    vmax=1,
                    aspect="auto",
                    extent=(0, _FIGURE_COLUMNS, len(lines), 0),
                )
                axes.axis("off")
                axes.set_title(trace.heading if self.found else "")
            bar = drawn.colorbar(
                image, ax=list(grid), location="bottom", shrink=0.4, aspect=30, anchor=(0.0, 0.5)
            )
            largest = figure(self.traces[0].largest, 2) if len(self.traces) == 1 else "max"
            bar.set_ticks([-1, 0, 1], labels=[f"−{largest}", "0", largest])
            own = "; max: of each unit" if len(self.traces) > 1 else ""
            bar.set_label(f"value after the token{own}", fontsize=13, color=drawing.GREY)
            bar.outline.set_visible(False)
        return drawn


def _lines(trace: UnitTrace, columns: int) -> list[_TextLine]:
    """The text in lines of at most ``columns`` columns."""
    lines: list[_TextLine] = [[]]
    width = 0
    for text, value in zip(trace.texts, trace.values, strict=True):
        level = max(-1.0, min(1.0, value / trace.largest)) if trace.largest else 0.0
        for character in shown(text, keep="\n").replace("\n", _NEWLINE):
            if width + cell_len(character) > columns:
                lines.append([])
                width = 0
            lines[-1].append((character, level))
            width += cell_len(character)
            if character == _NEWLINE:
                lines.append([])
                width = 0
    return [line for line in lines if line]


def _coloured(line: _TextLine) -> Text:
    text = Text(no_wrap=True)
    for character, level in line:
        strongest, share = _POSITIVE if level > 0 else _NEGATIVE, abs(level)
        rgb = ",".join(str(round(255 - share * (255 - each))) for each in strongest)
        ink = "white" if share > _DARK else "black"
        text.append(character, f"{ink} on rgb({rgb})" if share > _FAINT else "")
    return text


def _drawn_text(axes: "Axes", lines: Sequence[_TextLine]) -> npt.NDArray[np.float64]:
    """Write lines of text, and return the level at each place (lines, columns)."""
    levels = np.zeros((len(lines), _FIGURE_COLUMNS))
    for row, line in enumerate(lines):
        column = 0
        for character, level in line:
            width = cell_len(character)
            levels[row, column : column + width] = level
            axes.text(
                column + width / 2,
                row + 0.52,
                character,
                fontsize=_CHARACTER_POINTS,
                family="monospace",
                ha="center",
                va="center_baseline",
                color="white" if abs(level) > _DARK else "black",
            )
            column += width
    return levels
