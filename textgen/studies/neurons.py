"""What single units of a network do: their values along a text, and which of them keep track.

Karpathy, Johnson and Li (2015) found cells that know how long a line is, and whether a quote or
a bracket is open. Here they are found by correlation with what can be told from the text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch

from textgen.errors import DataError, UsageError
from textgen.language_model import LanguageModel
from textgen.results import Activation, Tracking, UnitTrace
from textgen.studies.states import check_continuous, continuous
from textgen.tokenizers.base import EOS

_Values = npt.NDArray[np.float32]
_OPENING, _CLOSING = "([{", ")]}"
_LEAST_SEEN = 5  # tokens for which a feature must hold, so that a correlation means something
_LARGEST = 99  # per cent


@dataclass(frozen=True)
class States:
    """A text that was read: what each token stands for, and each unit's value after it.

    values: by the name of the state's tensor, (tokens, units).
    """

    checkpoint: str
    texts: tuple[str, ...]
    values: Mapping[str, _Values]


@torch.inference_mode()
def read_states(model: LanguageModel, text: str) -> States:
    """Read a text from the start. Raises UsageError where the state is no real numbers."""
    names = check_continuous(model, "plot neurons")
    ids = model.tokenizer.encode(text)
    if not len(ids):
        raise DataError("the text is empty", fix="give a longer text")
    state = model.model.start(1)
    _, state = model.model.features(torch.tensor([[EOS]], device=model.model.device), state)
    kept: dict[str, list[_Values]] = {name: [] for name in names}
    for id in ids.tolist():
        _, state = model.model.features(torch.tensor([[id]], device=model.model.device), state)
        for name, tensor in continuous(state).items():
            kept[name].append(tensor[0].flatten().float().cpu().numpy())
    return States(
        checkpoint=str(model.path),
        texts=tuple(model.tokenizer.surfaces(text)),
        values={name: np.stack(rows) for name, rows in kept.items()},
    )


def search(states: States, most: int = 3) -> list[Tracking]:
    """For each feature of the text, the units that go with it best, the best first.

    A feature that the text does not have is left out. Raises DataError where it has none.
    """
    named = [
        f"{name}.{unit}" for name, rows in states.values.items() for unit in range(rows.shape[1])
    ]
    values = np.concatenate(list(states.values.values()), axis=1).astype(np.float64)
    centred = values - values.mean(0)
    sizes = np.linalg.norm(centred, axis=0)
    found = []
    for feature, followed in features(states.texts).items():
        wanted = followed - followed.mean()
        if min(np.count_nonzero(followed), np.count_nonzero(followed == 0)) < _LEAST_SEEN:
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            correlations = np.nan_to_num(wanted @ centred / (np.linalg.norm(wanted) * sizes))
        best = np.argsort(-np.abs(correlations), kind="stable")[:most]
        found += [Tracking(feature, named[unit], float(correlations[unit])) for unit in best]
    if not found:
        raise DataError(
            "the text has nothing that a unit could keep track of",
            why="no lines, quotes or brackets of some length",
            fix="give a longer text, or name a unit with --unit",
        )
    return found


def features(texts: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
    """What can be told of a text at the end of each of its parts, by name: (parts,) each.

    >>> features(("a", " “b", "”", "\\n"))["inside quotes"].tolist()
    [0.0, 1.0, 0.0, 0.0]
    """
    ends = np.cumsum([len(text) for text in texts]) - 1
    characters = "".join(texts)
    followed = {
        "position in the line": _since_newline(characters),
        "inside quotes": _inside_quotes(characters),
        "inside brackets": _inside_brackets(characters),
    }
    # A part without text is as the one before it.
    return {
        name: np.where(ends < 0, 0.0, np.asarray(values, np.float64)[np.maximum(ends, 0)])
        for name, values in followed.items()
    }


def _since_newline(text: str) -> list[int]:
    return list(accumulate((c == "\n" for c in text), _count, initial=0))[1:]


def _count(before: int, newline: bool) -> int:
    return 0 if newline else before + 1


def _inside_quotes(text: str) -> list[bool]:
    """Typographic quotes and straight ones; an empty line ends a quote that nobody closed."""
    inside, values, before = False, [], ""
    for character in text:
        if character in "“«":
            inside = True
        elif character in "”»" or before == character == "\n":
            inside = False
        elif character == '"':
            inside = not inside
        values.append(inside)
        before = character
    return values


def _inside_brackets(text: str) -> list[bool]:
    depth, values, before = 0, [], ""
    for character in text:
        depth += (character in _OPENING) - (character in _CLOSING)
        depth = 0 if before == character == "\n" else max(depth, 0)
        values.append(depth > 0)
        before = character
    return values


def trace(states: States, unit: str, *, most: int | None = None, start: int = 0) -> UnitTrace:
    """One unit along the text, or along ``most`` of its tokens from ``start`` on.

    unit: ``cell.0.17``, a tensor of the state and a number; ``0.17``, in the last of the tensors
    of layer 0; ``17``, in the last of all. Of an LSTM these are cells, layers from the bottom.
    """
    name, number = _find(states, unit)
    values = states.values[name][:, number]
    shown = slice(start, None if most is None else start + most)
    pairs = zip(states.texts[shown], values[shown].tolist(), strict=True)
    return UnitTrace(
        checkpoint=states.checkpoint,
        unit=f"{name}.{number}",
        largest=float(np.percentile(np.abs(values), _LARGEST)),
        activations=tuple(Activation(text, value) for text, value in pairs),
    )


def best_traces(states: States, found: Sequence[Tracking], *, most: int) -> list[UnitTrace]:
    """For each feature the unit that goes with it best, where the text shows most of it."""
    followed = features(states.texts)
    best = {each.feature: each for each in reversed(found)}
    return [
        replace(trace(states, best[name].unit, most=most, start=start), tracks=best[name])
        for name in followed
        if name in best
        for start in [_telling_start(states.texts, followed[name], most)]
    ]


def _telling_start(texts: Sequence[str], followed: npt.NDArray[np.float64], most: int) -> int:
    """The beginning of a line from which on the feature changes most."""
    lines = [0, *(i + 1 for i, text in enumerate(texts) if text.endswith("\n"))]
    whole = [start for start in lines if start + most <= len(texts)] or [0]
    return max(whole, key=lambda start: float(followed[start : start + most].std()))


def _find(states: States, unit: str) -> tuple[str, int]:
    place, _, number = unit.rpartition(".")
    fitting = [name for name in states.values if f".{name}".endswith(f".{place}") or not place]
    if fitting and number.isascii() and number.isdigit():
        units = states.values[fitting[-1]].shape[1]
        if len(number) < 10 and int(number) < units:
            return fitting[-1], int(number)
    there = ", ".join(f"{name}.0 to {rows.shape[1] - 1}" for name, rows in states.values.items())
    raise UsageError(f"no such unit: {unit}", where="--unit", why=f"there are {there}")
