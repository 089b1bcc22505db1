"""Each guard taken away, one at a time: a check must notice, or it guards nothing."""

import contextlib
import os
import pathlib
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import corruption
import torch
from runs import corpus_in, differing_bits, forked, remains, small_run

from textgen import storage, train
from textgen.data.batching import Streams
from textgen.errors import TextgenError
from textgen.models import Dropout
from textgen.training import state
from textgen.training.run_directory import RunDirectory

Sabotage = Callable[[], contextlib.AbstractContextManager[Any]]


def campaign(folder: Path, *, small: bool) -> dict[str, Any]:
    report: dict[str, Any] = {}
    unnoticed = 0
    for check, sabotages in _CHECKS.items():
        (folder / check.__name__).mkdir()
        honest = check(folder / check.__name__, _nothing)
        report[f"{check.__name__.strip('_')}: nothing taken away"] = honest or "passes"
        unnoticed += honest is not None
        for number, (name, sabotage) in enumerate(list(sabotages.items())):
            place = folder / f"{check.__name__} {number}"
            place.mkdir()
            found = check(place, sabotage)
            report[f"without {name}"] = found or "NOT NOTICED"
            unnoticed += found is None
    return report | {"faults": unnoticed}


# The checks: each says what it found wrong, or None


def _order(folder: Path, sabotage: Sabotage) -> str | None:
    """Every file is flushed before the rename, and the folder after it."""
    _write(folder / "last", b"old")
    events: list[str] = []
    fsync, rename = os.fsync, pathlib.Path.rename

    def flushed(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def renamed(path: Path, to: Path) -> Path:
        events.append(f"{path.name}->{to.name}")
        return rename(path, to)

    with (
        mock.patch.object(os, "fsync", flushed),
        mock.patch.object(pathlib.Path, "rename", renamed),
        sabotage(),
    ):
        _write(folder / "last", b"new")
    files = ["data", storage.MANIFEST, "last.new"]
    expected = [*files, "last->last.old", "last.new->last", folder.name]
    return None if events == expected else "the order of flushes and renames is wrong"


def _kills(folder: Path, sabotage: Sabotage) -> str | None:
    """A kill at any call leaves the old folder or the new."""
    for call in range(1, 16):
        target = folder / str(call) / "last"
        _write(target, b"old")
        os.waitpid(forked(lambda target=target, call=call: _dying(target, call, sabotage)), 0)
        try:
            whole = storage.find_complete(target)
            if whole is None:
                return "a kill left no folder"
            storage.verified(whole)
        except TextgenError:
            return "a kill left half a folder"
    return None


def _dying(target: Path, fatal: int, sabotage: Sabotage) -> None:
    calls = 0

    def deadly(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    with sabotage():
        for owner, name in ((os, "fsync"), (pathlib.Path, "rename"), (os, "unlink"), (os, "rmdir")):
            setattr(owner, name, deadly(getattr(owner, name)))
        _write(target, b"new")


def _damage(folder: Path, sabotage: Sabotage) -> str | None:
    """A flipped bit is refused, wherever it is, and the loss of the last byte."""
    last = corruption.tiny_run(folder) / "last"
    draws = random.Random(1)
    with sabotage(), contextlib.redirect_stdout(None):
        for path in sorted(last.iterdir()):
            data = path.read_bytes()
            for _ in range(8):
                flipped = bytearray(data)
                flipped[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
                path.write_bytes(flipped)
                if not corruption.refused(last):
                    return "a flipped bit was accepted"
            path.write_bytes(data[:-1])
            if not corruption.refused(last):
                return "a byte was lost, and nobody noticed"
            path.write_bytes(data)
    return None


def _resume(folder: Path, sabotage: Sabotage) -> str | None:
    """Stopped and resumed, and cut off and resumed: no bit differs."""
    corpus = corpus_in(folder)
    with sabotage():
        small_run(corpus, folder / "whole", steps=12)
        polls = iter(range(100))
        small_run(corpus, folder / "out", steps=12, stop=lambda: 2 if next(polls) == 4 else None)
        with (folder / "out" / "metrics.jsonl").open("ab") as metrics:
            metrics.write(b'{"event": "step", "step": 6}\n')  # of a step that no save knows
        try:
            train(out=folder / "out", resume=True)
        except TextgenError as error:
            return str(error)
    bits = differing_bits(remains(folder / "whole"), remains(folder / "out"))
    return f"{bits} bits differ" if bits else None


def _write(target: Path, content: bytes) -> None:
    with storage.new_folder(target) as begun:
        (begun / "data").write_bytes(content)


# What is taken away


def _nothing() -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


@contextlib.contextmanager
def _removing_before_renaming() -> Iterator[None]:
    def hasty(path: Path, to: Path) -> Path:
        if to.name.endswith(".old"):
            storage._remove(path)
            return to
        return rename(path, to)

    rename = pathlib.Path.rename
    with mock.patch.object(pathlib.Path, "rename", hasty):
        yield


@contextlib.contextmanager
def _writing_in_place() -> Iterator[None]:
    def in_place(target: Path, suffix: str) -> Path:
        return target if suffix == ".new" else beside(target, suffix)

    beside = storage._beside
    with mock.patch.object(storage, "_beside", in_place):
        yield


def _without(owner: Any, name: str) -> Sabotage:
    return lambda: mock.patch.object(owner, name, lambda *args, **kwargs: None)


def _without_keyed_noise() -> contextlib.AbstractContextManager[Any]:
    """Dropout from a generator that runs on, as most tools have it, and that nobody saves."""

    def noise(rate: float, generator: torch.Generator, ngram_rate: float) -> Dropout:
        running = generators.setdefault(id(generator), torch.Generator().manual_seed(1))
        kept.append(generator)
        return Dropout(rate, running, ngram_rate)

    generators: dict[int, torch.Generator] = {}
    kept: list[torch.Generator] = []
    return mock.patch.object(state, "Dropout", noise)


_CHECKS: dict[Callable[[Path, Sabotage], str | None], dict[str, Sabotage]] = {
    _order: {
        "flushing files": _without(storage, "_flush"),
        "flushing the folder": _without(storage, "_flush_folder"),
        "renaming the old away first": _removing_before_renaming,
    },
    _kills: {
        "the old kept until the new is there": _removing_before_renaming,
        "writing beside": _writing_in_place,
    },
    _damage: {
        "the checksums of files": _without(storage, "_check_file"),
        "the checksum of the manifest": lambda: mock.patch.multiple(
            storage, _manifest_sha256=lambda raw: raw.get("sha256"), _is_as_written=lambda *_: True
        ),
    },
    _resume: {
        "noise keyed by the step": _without_keyed_noise,
        "the place in the text": _without(Streams, "restore"),
        "the optimizer's state": _without(state.GradientState, "_load_moments"),
        "cutting the log back": _without(RunDirectory, "truncate_metrics"),
    },
}
