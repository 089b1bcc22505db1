"""A thousand saves: no file stays open, and nothing is left but the newest checkpoints."""

from pathlib import Path
from typing import Any

from runs import corpus_in, small_run

from textgen.results import CheckpointSaved, TrainingEvent

_OPEN = Path("/proc/self/fd")


def campaign(folder: Path, *, small: bool) -> dict[str, Any]:
    steps = 12 if small else 1000
    counts: list[int] = []

    def count(event: TrainingEvent) -> None:
        if isinstance(event, CheckpointSaved) and _OPEN.is_dir():
            counts.append(sum(1 for _ in _OPEN.iterdir()))

    out = folder / "run"
    small_run(corpus_in(folder), out, steps=steps, save_every=1e-9, on_event=count, hidden_size=8)
    names = sorted(path.name for path in out.iterdir() if path.is_dir())
    settled = counts[len(counts) // 10 :]
    return {
        "saves": len(counts),
        "descriptors open, fewest": min(settled),
        "descriptors open, most": max(settled),
        "faults": int(max(settled) > min(settled)) + int(names != ["best", "last"]),
    }
