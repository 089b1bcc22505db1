"""Files of documents scored or tokenized by datatrove: here, on Slurm or on Ray.

Each file of documents becomes a file of the same name and format in the output folder, with the
same rows and more columns. A task reads and writes whole files, so that what is written does not
depend on the number of tasks, nor on how often one was started again.
"""

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any, Literal

import dill
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from textgen.errors import ResourceError, TextgenError, UsageError, missing_package
from textgen.integrations.datatrove import Step
from textgen.integrations.documents import (
    PARTS,
    RUN,
    DocumentFiles,
    DocumentWriter,
    Source,
    find_documents,
)
from textgen.parent_process import follow_parent

Executor = Literal["local", "slurm", "ray"]

_IDENTITY = "run.json"
_GIGABYTES = {"slurm": 2, "ray": 1}  # of memory, reserved for a task


@dataclass(frozen=True)
class ClusterRun:
    """What a run has done.

    Attributes:
        skipped: Tasks that an earlier run had completed.
        job: The number of the Slurm job that was submitted; documents and tokens are then 0.
    """

    tasks: int
    skipped: int
    documents: int = 0
    tokens: int = 0
    job: str | None = None


def _absolute(path: str) -> str:
    """A path that means the same in workers, whose current folder may be another."""
    return path if "://" in path else str(Path(path).absolute())


def run(
    step: Step,
    documents: Sequence[str],
    out: str,
    *,
    executor: Executor,
    tasks: int,
    threads: int = 1,
    column: str = "text",
    on_progress: Callable[[int], None] | None = None,
) -> ClusterRun:
    """Run a step on files of documents. The same call again does what is missing.

    Args:
        documents: Files, folders and patterns, local or of any filesystem that fsspec knows.
        out: A folder, likewise.
        tasks: Into how many tasks the files are divided. Locally as many run at once as there are
            cores for; elsewhere as many as the cluster has room for.
        on_progress: Called with the number of tasks that are complete, locally.

    Raises:
        UsageError: ``out`` has something else in it.
        ResourceError: Not all tasks could be completed.
        DataError: A document cannot be read.
    """
    logger.remove()  # what datatrove says is in the logs of its tasks
    sources, folder = (
        find_documents(list(map(_absolute, documents))),
        get_datafolder(_absolute(out)),
    )
    _claim(folder, sources, step, tasks, column)
    added = step.columns
    pipeline = [DocumentFiles(sources, column, added), step, DocumentWriter(folder, added)]
    logs = folder.resolve_paths(RUN)
    engine: _Local | _Slurm | RayPipelineExecutor
    if executor == "local":
        workers = min(tasks, _cores() // threads or 1)
        engine = _Local(pipeline, tasks=tasks, workers=workers, logging_dir=logs)
        engine.on_progress = on_progress
    elif executor == "slurm":
        engine = _Slurm(pipeline, tasks, threads, logs)
    else:
        engine = RayPipelineExecutor(
            pipeline,
            tasks=tasks,
            cpus_per_task=threads,
            mem_per_cpu_gb=_GIGABYTES["ray"] / threads,
            logging_dir=logs,
        )
    skipped = tasks - len(engine.get_incomplete_ranks())
    with _ray() if executor == "ray" else contextlib.nullcontext():
        job = engine.run() if skipped < tasks else None
    if job is not None:
        return ClusterRun(tasks, skipped, job=job)
    missing = engine.get_incomplete_ranks()
    if missing:
        raise ResourceError(
            f"{len(missing)} of {tasks} tasks are not complete",
            where=f"{logs}/logs/task_{missing[0]:05d}.log",
            fix="the same command again does what is missing",
        )
    if folder.exists(PARTS):
        folder.rm(PARTS, recursive=True)  # of processes that were killed
    return ClusterRun(tasks, skipped, *_totals(engine.logging_dir, tasks))


def _claim(
    folder: DataFolder, sources: Sequence[Source], step: Step, tasks: int, column: str
) -> None:
    """Record in the folder what the run is. Raises UsageError if it has another one, or files."""
    files = json.dumps([[source.path, source.name] for source in sources])
    options = {name: str(value) for name, value in vars(step).items() if name != "stats"}
    run = {
        "command": step.name,
        "tasks": str(tasks),
        "column": column,
        **options,
        "documents": hashlib.sha256(files.encode()).hexdigest(),
    }
    place = f"{RUN}/{_IDENTITY}"
    if folder.exists(place):
        with folder.open(place, "r") as stream:
            found = json.load(stream)
        different = next((name for name, value in run.items() if found.get(name) != value), None)
        if different is not None:
            raise UsageError(
                "another run is in it",
                where=folder.path,
                why=f"its {different}: {found.get(different)}; here: {run[different]}",
                fix="repeat its command, or choose another --out",
            )
        return
    if folder.exists("") and folder.ls("", detail=False):
        raise UsageError("not empty", where=folder.path, fix="choose another --out")
    with folder.open(place, "w") as stream:
        json.dump(run, stream, indent=1)


def _totals(logs: DataFolder, tasks: int) -> tuple[int, int]:
    """The documents and tokens of all tasks, from the statistics of the step."""
    totals = dict.fromkeys(("documents", "tokens"), 0)
    for rank in range(tasks):
        with logs.open(f"stats/{rank:05d}.json", "r") as stream:
            _, step, _ = json.load(stream)
        for name in totals:
            value = step["stats"].get(name, 0)  # with mean and variance, where there are several
            totals[name] += value["total"] if isinstance(value, dict) else value
    return totals["documents"], totals["tokens"]


def _cores() -> int:
    """The cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


class _Local(LocalPipelineExecutor):  # type: ignore[misc]
    """Runs the tasks in processes of this machine.

    A worker has every ``workers``-th task. If one dies, the others go on; the pool of datatrove's
    own executor would wait for it forever.
    """

    on_progress: Callable[[int], None] | None = None

    def run(self) -> None:
        on_progress, self.on_progress = self.on_progress, None
        missing = self.get_incomplete_ranks()
        context = multiprocessing.get_context("spawn")
        errors = context.SimpleQueue()
        payload = dill.dumps(self)
        workers = [
            context.Process(target=_work, args=(payload, missing[first :: self.workers], errors))
            for first in range(min(self.workers, len(missing)))
        ]
        try:
            with _interrupts_blocked():  # the processes inherit it: Ctrl-C is for this one
                for worker in workers:
                    worker.start()
            alive = list(workers)
            while alive:
                connection.wait([worker.sentinel for worker in alive], timeout=1)
                alive = [worker for worker in alive if worker.exitcode is None]
                if on_progress is not None:
                    on_progress(self.tasks - len(self.get_incomplete_ranks()))
        finally:
            for worker in workers:
                if worker.exitcode is None and worker.pid is not None:
                    worker.terminate()
                    worker.join()
        if not errors.empty():
            raise errors.get()
        for worker in workers:
            if worker.exitcode:
                signum = -worker.exitcode
                name = signal.Signals(signum).name if signum > 0 else f"exit code {-signum}"
                raise ResourceError(
                    "a worker has died",
                    why=f"{name}; memory may have run out",
                    fix="the same command again does what is missing",
                )


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Put off Ctrl-C to the end of the block, and for ever in processes that start within it."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(payload: bytes, ranks: Sequence[int], errors: Any) -> None:
    """Run these tasks one after another, all of them even if some fail. errors: the first."""
    follow_parent()
    failure: TextgenError | None = None
    for rank in ranks:
        try:
            # What datatrove writes to stderr is in the log of the task too.
            with contextlib.redirect_stderr(io.StringIO()):
                dill.loads(payload)._run_for_rank(rank)
        except TextgenError as error:
            failure = failure or error
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            failure = failure or ResourceError(f"task {rank} has failed", why=why)
    if failure is not None:
        errors.put(failure)


class _Slurm(SlurmPipelineExecutor):  # type: ignore[misc]
    """Submits the tasks as an array of jobs, with the Python that runs this.

    Partition, account and time are not named: they are the cluster's own, or those of
    ``SBATCH_PARTITION``, ``SBATCH_ACCOUNT`` and ``SBATCH_TIMELIMIT`` in the environment.
    """

    def __init__(
        self, pipeline: list[PipelineStep], tasks: int, threads: int, logging_dir: str
    ) -> None:
        programs = shlex.quote(str(Path(sys.executable).parent))
        super().__init__(
            pipeline,
            tasks,
            time="",
            partition="",
            cpus_per_task=threads,
            mem_per_cpu_gb=_GIGABYTES["slurm"],
            job_name="textgen",
            qos=None,
            env_command=f"export PATH={programs}:$PATH",
            logging_dir=logging_dir,
        )

    def run(self) -> str | None:
        """Submit what is missing, or, in a job, do it. Returns the number of the job."""
        super().run()
        job: str | None = self.job_id
        return job

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        given = super().get_sbatch_args(max_array)
        return {name: value for name, value in given.items() if value or name == "requeue"}


@contextlib.contextmanager
def _ray() -> Iterator[None]:
    """Connect to the Ray cluster that this machine belongs to, or that ``RAY_ADDRESS`` names."""
    try:
        import ray
    except ImportError as error:
        raise missing_package("--executor ray", "ray", "cluster") from error
    try:
        ray.init(address="auto", log_to_driver=False, logging_level="error")
    except ConnectionError as error:
        raise ResourceError(
            "no Ray cluster",
            why="none runs on this machine, and RAY_ADDRESS names none",
            fix="start one with: ray start --head",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
