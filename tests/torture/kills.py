"""SIGKILL at random instants while checkpoints are written: nothing is ever lost."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runs import corpus_in, differing_bits, forked, remains, small_run

from textgen import checkpoint, storage, train
from textgen.errors import TextgenError
from textgen.results import CheckpointSaved, TrainingEvent, TrainingStart

_LEFTOVERS = ("best.new", "best.old", "last.new", "last.old")


@dataclass
class _Storm:
    """One folder in which runs follow one another, each killed until it is done."""

    corpus: Path
    out: Path
    random: random.Random
    steps: int
    counts: Counter[str] = field(default_factory=Counter)
    told: int = -1
    pace: float = 0.05

    def life(self, seed: int) -> bool:
        """Start or resume the run of this seed and kill it. Whether it ended before that."""
        receiver, sender = os.pipe()
        child = forked(lambda: self._train(seed, sender))
        os.close(sender)
        with os.fdopen(receiver, "rb", buffering=0) as pipe:
            self._wait(pipe)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            for line in pipe.read().splitlines():
                self._hear(line)
        if os.WIFSIGNALED(status):
            self.counts["kills"] += 1
            left = [name for name in _LEFTOVERS if (self.out / name).exists()]
            self.counts["kills inside a save"] += bool(left)
            self.counts.update(f"kills that left {name}" for name in left)
        elif status:
            self.counts["runs that failed"] += 1
        self._check(seed)
        return not os.WIFSIGNALED(status)

    def finish(self, seed: int) -> None:
        """Let the run of this seed go on to its end."""
        os.waitpid(forked(lambda: self._train(seed, os.open(os.devnull, os.O_WRONLY))), 0)

    def _wait(self, pipe: Any) -> None:
        """Until a few saves were told of, then a random part of what one step and save take.

        The machine may be busy: an instant is chosen by how far the run is, not by the clock.
        """
        heard = time.perf_counter()
        for _ in range(self.random.randrange(5)):
            line = pipe.readline()
            if not line:
                return
            self._hear(line.strip())
            now = time.perf_counter()
            self.pace, heard = 0.7 * self.pace + 0.3 * min(1.0, now - heard), now
        time.sleep(self.random.uniform(0, 1.5 * self.pace))

    def _hear(self, line: bytes) -> None:
        if line.startswith(b"saved "):
            self.told = max(self.told, int(line.split()[1]))

    def _train(self, seed: int, sender: int) -> None:
        def tell(event: TrainingEvent) -> None:
            if isinstance(event, TrainingStart):
                os.write(sender, b"begun\n")
            elif isinstance(event, CheckpointSaved) and event.name == checkpoint.LAST:
                os.write(sender, b"saved %d\n" % event.step)

        if self._step_of(seed) is not None:
            train(out=self.out, resume=True, on_event=tell)
        else:
            options = {"steps": self.steps, "seed": seed, "save_every": 1e-9, "valid_every": 4}
            small_run(self.corpus, self.out, overwrite=True, on_event=tell, **options)

    def _step_of(self, seed: int) -> int | None:
        """How far ``last`` is, where it is this run's."""
        folder = storage.find_complete(self.out / checkpoint.LAST)
        header = None if folder is None else checkpoint.load(folder).header
        return header.step if header is not None and header.training.seed == seed else None

    def _check(self, seed: int) -> None:
        """Whatever is there is whole, and no save that was told of is gone."""
        try:
            folders = [storage.find_complete(self.out / name) for name in (checkpoint.BEST, "last")]
            for folder in folders:
                if folder is not None:
                    checkpoint.load(folder)
                    self.counts["checkpoints loaded"] += 1
            step = self._step_of(seed)
            if self.told >= 0 and (step is None or step < self.told):
                self.counts["losses"] += 1
        except TextgenError as error:
            self.counts["losses"] += 1
            print(f"lost: {error}", flush=True)


def campaign(folder: Path, *, small: bool) -> dict[str, Any]:
    wanted, steps = (4, 12) if small else (320, 40)
    corpus = corpus_in(folder)
    small_run(corpus, folder / "first", steps=2)  # so that no child has anything left to import
    storm = _Storm(corpus, folder / "run", random.Random(1), steps)
    differing, finished, seed = 0, 0, 0
    while storm.counts["kills"] < wanted or finished == 0:
        seed, storm.told = seed + 1, -1
        while not storm.life(seed):
            if small and storm.counts["kills"] >= wanted:
                storm.finish(seed)
                break
        whole = folder / f"whole {seed}"
        os.waitpid(forked(_uninterrupted(corpus, whole, steps, seed)), 0)
        differing += differing_bits(remains(whole), remains(storm.out))
        finished += 1
    left = [name for name in _LEFTOVERS if (storm.out / name).exists()]
    faults = storm.counts["losses"] + storm.counts["runs that failed"] + len(left) + differing
    return {
        "losses": 0,
        "runs that failed": 0,
        **storm.counts,
        "runs finished between kills": finished,
        "bits that differ from runs never killed": differing,
        "leftovers at the end": len(left),
        "faults": faults,
    }


def _uninterrupted(corpus: Path, out: Path, steps: int, seed: int) -> Callable[[], None]:
    return lambda: small_run(corpus, out, steps=steps, seed=seed, valid_every=4)
