"""Stop at every step and go on: nothing differs from a run that never stopped."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runs import TEXT, corpus_in, differing_bits, remains, small_run

from textgen import train
from textgen.results import TrainingEvent, TrainingStep

_TOKENS_A_STEP = 64


def campaign(folder: Path, *, small: bool) -> dict[str, Any]:
    steps = 36 if small else 60
    stops = (31,) if small else range(1, steps + 1)
    cuts = (20,) if small else range(2, steps, 2)
    corpus, whole = corpus_in(folder), folder / "whole"
    small_run(corpus, whole, steps=steps)
    expected = remains(whole)
    bits, faults = 0, 0
    for way, places in (("stopped", stops), ("cut off", cuts)):
        for step in places:
            found = _interrupted(corpus, folder / f"{way} {step}", steps, step, way)
            differing = differing_bits(expected, found)
            bits, faults = bits + differing, faults + (differing > 0)
    return {
        "steps": steps,
        "epochs": round(steps * _TOKENS_A_STEP / (0.9 * len(TEXT)), 2),
        "stopped by a signal and resumed": len(stops),
        "cut off between saves and resumed": len(cuts),
        "bits compared each": 8 * sum(map(len, expected.values())),
        "differing bits": bits,
        "faults": faults,
    }


class _CutOffError(BaseException):
    """The run ends without being asked, as by a kill."""


def _interrupted(corpus: Path, out: Path, steps: int, step: int, way: str) -> dict[str, bytes]:
    if way == "stopped":
        small_run(corpus, out, steps=steps, stop=_stop_at(step))
    else:
        with contextlib.suppress(_CutOffError):
            small_run(corpus, out, steps=steps, save_every=0.01, on_event=_cut_at(step))
    train(out=out, resume=True)
    return remains(out)


def _cut_at(step: int) -> Callable[[TrainingEvent], None]:
    """End the run at a log line, which no checkpoint knows of yet."""

    def cut(event: TrainingEvent) -> None:
        if isinstance(event, TrainingStep) and event.step >= step:
            raise _CutOffError

    return cut


def _stop_at(step: int) -> Callable[[], int | None]:
    polls = iter(range(1, 10**9))
    return lambda: 2 if next(polls) >= step else None
