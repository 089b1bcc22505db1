"""A disk that fills at every size between one checkpoint and two: an error, and nothing lost."""

import contextlib
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runs import contents, corpus_in, forked, small_run

from textgen import checkpoint, storage, train
from textgen.training import run_directory as record

_PAGE = 4096


def campaign(folder: Path, *, small: bool) -> dict[str, Any]:
    report: Counter[str] = Counter()
    corpus, out = corpus_in(folder), folder / "run"
    small_run(corpus, out, steps=6, hidden_size=48)
    sizes = [path.stat().st_size for path in (out / checkpoint.LAST).iterdir()]
    limits = range(0, max(sizes) + 4096, max(sizes) // 3 if small else 1024)
    for limit in limits:
        _try(report, "file size limit", out, lambda limit=limit: _limit_files(limit))
    with _small_disk(folder / "disk", 64 * 2**20) as disk:
        if disk is not None:
            _fill(report, disk, corpus, small)
    figures: dict[str, Any] = {"bytes of a checkpoint": sum(sizes)}
    if disk is None:
        figures["a small disk"] = "not permitted here"
    return figures | dict(report) | {"faults": report["saves that lost or left something"]}


def _fill(report: Counter[str], disk: Path, corpus: Path, small: bool) -> None:
    """Leave ever more room beside a run, until a second checkpoint fits."""
    out, ballast = disk / "run", disk / "ballast"
    small_run(corpus, out, steps=6, hidden_size=48)
    pages = sum(-(-path.stat().st_size // _PAGE) for path in (out / "last").iterdir()) + 16
    for free in range(0, pages, pages // 3 if small else 1):
        room = os.statvfs(disk).f_bavail * _PAGE
        ballast.write_bytes(bytes(max(0, room - free * _PAGE)))
        _try(report, "small disk", out, lambda: None)
        ballast.unlink()


def _try(report: Counter[str], what: str, out: Path, limit: Callable[[], None]) -> None:
    """Resume for two steps under the limit: either it is saved, or all is as it was."""
    before = contents(out)
    child = forked(lambda: _resume(out, limit))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    after = contents(out)
    if code == 0:
        report[f"{what}: saves that fitted"] += 1
        _put_back(out, before)
        return
    report[f"{what}: saves refused with exit code {code}"] += 1
    names = {path.name for path in out.iterdir()} - {storage.LOCK}
    whole = {"best", "last", checkpoint.METRICS}
    for name in ("best", "last"):
        checkpoint.load(out / name)
    kept = {name: data for name, data in before.items() if name.startswith("last")}
    same = all(after.get(name) == data for name, data in kept.items())
    if code != 1 or names != whole or not same:
        report["saves that lost or left something"] += 1
        print(f"{what}: exit code {code}, {sorted(names)}, last as before: {same}", flush=True)
    _put_back(out, before)


def _resume(out: Path, limit: Callable[[], None]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    record.check_space = lambda *args, **kwargs: None  # the write itself shall meet the full disk
    limit()
    train(out=out, resume=True, steps=8)


def _limit_files(size: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _put_back(out: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (out / name).write_bytes(data)


@contextlib.contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """A file system in memory, where one may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
