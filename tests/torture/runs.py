"""The small runs that the campaigns torture, and what is compared of them."""

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textgen import checkpoint, storage, train

TEXT = "".join(
    f"the {animal} {verb} the {thing}.\n"
    for animal in ("cat", "dog", "cow", "hen", "fox")
    for verb in ("sees", "likes", "finds", "hides")
    for thing in ("ball", "door", "garden", "river", "house")
)
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "embedding_size": 8,
    "batch_size": 4,
    "sequence_length": 16,
    "dropout": 0.2,
    "log_every": 3,
    "device": "cpu",
    "threads": 1,
    "baseline": False,
}
_UNTIMED = ("event", "step", "epoch", "loss", "learning_rate", "gradient_norm", "tokens_seen")


def corpus_in(folder: Path) -> Path:
    path = folder / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def small_run(corpus: Path, out: Path, **options: Any) -> None:
    train(corpus, out=out, **(SMALL | options))


def remains(out: Path) -> dict[str, bytes]:
    """All that a run left, but for what a clock wrote: weights, optimizer, positions, log."""
    last, best = out / checkpoint.LAST, out / checkpoint.BEST
    values = storage.read_json(last / "state.json")
    for name in ("best", "validation"):
        if values[name] is not None:
            del values[name]["seconds"]
    del values["metrics_bytes"], values["progress"]["seconds"], values["progress"]["step_seconds"]
    lines = (out / checkpoint.METRICS).read_text(encoding="utf-8").splitlines()
    log = [{n: v for n, v in json.loads(line).items() if n in _UNTIMED} for line in lines]
    return {
        "weights of last": (last / "model.safetensors").read_bytes(),
        "weights of best": (best / "model.safetensors").read_bytes(),
        "optimizer and carried state": (last / "state.safetensors").read_bytes(),
        "positions and counts": json.dumps(values).encode(),
        "metrics.jsonl": json.dumps(log).encode(),
    }


def differing_bits(one: dict[str, bytes], other: dict[str, bytes]) -> int:
    """Bits that differ; every bit of what is longer counts."""
    total = 0
    for name, data in one.items():
        length = max(len(data), len(other[name]))
        pairs = (int.from_bytes(each.ljust(length, b"\0"), "big") for each in (data, other[name]))
        total += (next(pairs) ^ next(pairs)).bit_count() + 8 * abs(len(data) - len(other[name]))
    return total


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but its lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != storage.LOCK
    }


def forked(work: Callable[[], None]) -> int:
    """Start ``work`` in a child that already has torch in memory. Returns its process id.

    The child ends with 0, or with the exit code of its error (99 where that is none of ours).
    """
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        work()
        code = 0
    except BaseException as error:
        code = getattr(error, "exit_code", 99)
        if code == 99:
            traceback.print_exc()
    finally:
        os._exit(code)
