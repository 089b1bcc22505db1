"""``--executor``: score or tokenize files of documents by datatrove, here or on a cluster."""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from textgen.cli.options import choice, number_option
from textgen.errors import UsageError, not_both
from textgen.presentation import console
from textgen.presentation.numbers import count

if TYPE_CHECKING:
    from textgen.integrations.cluster import ClusterRun

Executor = Literal["local", "slurm", "ray"]
_EXECUTORS = ("local", "slurm", "ray")
_PANEL = "Many documents"

ExecutorOption = Annotated[
    Executor | None,
    typer.Option(
        "--executor",
        parser=choice("--executor", _EXECUTORS),
        metavar="EXECUTOR",
        help="Take files of documents (.jsonl, .jsonl.gz or .parquet, with a column text), folders"
        " of them or patterns, and run in several tasks: on this machine, on Slurm or on Ray.",
        show_default=", ".join(_EXECUTORS),
        rich_help_panel=_PANEL,
    ),
]
TasksOption = Annotated[
    int | None,
    number_option(
        "--tasks",
        "With --executor: into how many tasks to divide the files.",
        default=1,
        panel=_PANEL,
    ),
]
DocumentsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DOCS]...", help="With --executor: more files or folders.", show_default=False
    ),
]


def check_alone(command: str, values: dict[str, object], more: Sequence[str] | None) -> None:
    """Raise UsageError for arguments that need --executor, if it was not given."""
    for option, value in values.items():
        if value is not None:
            raise UsageError(f"{option} applies to --executor only", fix="give --executor too")
    if more:
        raise UsageError(
            f"unexpected argument: {' '.join(more)}",
            fix=f"quote a text that has spaces, or see textgen {command} --help",
        )


def run(
    step: str,
    path: str,
    documents: Sequence[str],
    *,
    executor: Executor,
    tasks: int | None,
    out: str | None,
    others: dict[str, object],
    column: str | None = None,
    threads: int | None = None,
    **options: Any,
) -> None:
    """Run a step on documents, and say what was done.

    Args:
        step: A class of ``textgen.integrations.datatrove``.
        path: What it loads.
        others: The options of the command that do not apply, each with whether it was given.
        column: That of the texts; default: ``text``.
        options: Those of the step.
    """
    for option, is_given in others.items():
        if is_given:
            raise not_both("--executor", option, "documents are scored whole", fix="leave it out")
    if out is None:
        raise UsageError("--executor needs --out", why="documents are not written to stdout")
    if not documents or "-" in documents:
        raise UsageError("--executor needs files of documents", fix="name files or folders")
    # By name, because the command line is below what depends on other programs.
    # The first says what to install where datatrove is missing.
    steps = import_module("textgen.integrations.datatrove")
    cluster = import_module("textgen.integrations.cluster")
    tasks, threads = tasks or 1, threads or 1
    if step == "TextgenScorer":
        options["threads"] = threads
    done = cluster.run(
        getattr(steps, step)(path, **options),
        documents,
        out,
        executor=executor,
        tasks=tasks,
        threads=threads,
        column=column or "text",
        on_progress=_Progress(tasks),
    )
    _say(done, out)


class _Progress:
    """Says how many tasks are complete, whenever that has changed."""

    def __init__(self, tasks: int) -> None:
        self._tasks, self._said = tasks, 0

    def __call__(self, complete: int) -> None:
        if complete > self._said:
            console.note(f"{count(complete)} of {count(self._tasks)} tasks are complete")
            self._said = complete


def _say(done: "ClusterRun", out: str) -> None:
    if done.skipped:
        console.note(f"{count(done.skipped)} of {count(done.tasks)} tasks were complete already")
    if done.job is not None:
        tasks = count(done.tasks - done.skipped)
        console.note(f"submitted {tasks} tasks to Slurm as job {done.job}; they write into {out}")
    elif done.documents:
        console.note(f"{count(done.documents)} documents, {count(done.tokens)} tokens: see {out}")
