"""Scoring in several processes: groups of texts in, their scores out, in order."""

import dataclasses
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from textgen.config import ScoringConfig
from textgen.data.lines import Item, ReadAhead, Text, characters_of
from textgen.errors import ResourceError, UsageError
from textgen.models import Model
from textgen.parent_process import follow_parent
from textgen.results import SentenceScore
from textgen.scoring.scorer import Scorer, Skipped
from textgen.tokenizers.base import Tokenizer

_MOST_TEXTS, _MOST_CHARACTERS = 4096, 2**18


def groups(texts: Iterable[Item], prefix: str | None = None) -> Iterator[list[Text]]:
    """Group texts lazily, some thousand at a time. prefix: That of texts that have none.

    A group of ``arriving`` texts ends where they pause, so that typed text is scored at once.
    """
    arriving = texts if isinstance(texts, ReadAhead) else None
    group: list[Text] = []
    characters = 0
    try:
        for line, item in enumerate(texts, start=1):
            group.append(_as_text(line, item, prefix))
            characters += characters_of(item)
            full = len(group) >= _MOST_TEXTS or characters >= _MOST_CHARACTERS
            if full or (arriving is not None and arriving.pauses()):
                yield group
                group, characters = [], 0
    except Exception:
        if group:  # the texts before the error are valid
            yield group
        raise
    if group:
        yield group


def _as_text(line: int, item: Item, prefix: str | None) -> Text:
    match item:
        case Text():
            return dataclasses.replace(item, prefix=prefix) if item.prefix is None else item
        case str():
            return Text(line, item, prefix)
        case (str(before), str(text)) if isinstance(item, tuple):
            return Text(line, text, before)
    raise UsageError(f"a text must be a string, or a tuple of a prefix and a text, got {item!r}")


Load = Callable[[int], tuple[Model, Tokenizer]]
"""Loads the model of a process, given the number of the process, from 0. It can be pickled."""

_AHEAD = 2  # groups that wait, for each process
_Scores = list[SentenceScore | Skipped]

# In a process of --jobs: its scorer, or why it could not be made.
_scorer: Scorer | Exception | None = None


def scores_of_jobs(
    load: Load, config: ScoringConfig, groups: Iterable[list[Text]], jobs: int
) -> Iterator[SentenceScore | Skipped]:
    """As ``Scorer.scores``, in ``jobs`` processes; a thread reads the groups ahead.

    An error of the iterable is raised after the scores of the groups before it.
    """
    if config.context == "document":
        raise UsageError(
            "--jobs and --context document cannot both be given",
            why="each sentence continues the one before",
            fix="leave one out",
        )
    context = multiprocessing.get_context("spawn")  # a forked process cannot use a GPU
    arguments = (load, config, context.Value("i", 0))
    pool = ProcessPoolExecutor(jobs, context, initializer=_initialize, initargs=arguments)
    submitted = iter(ReadAhead(_submitted(pool, groups), most=_AHEAD * jobs))
    try:
        for scores in submitted:
            yield from scores.result()
    except BrokenProcessPool as error:
        raise ResourceError(
            "a process of --jobs has died", why="memory may have run out", fix="lower --jobs"
        ) from error
    finally:
        submitted.close()
        pool.shutdown(cancel_futures=True)


def _submitted(
    pool: ProcessPoolExecutor, groups: Iterable[list[Text]]
) -> Iterator[Future[_Scores]]:
    """Submit each group; runs in a separate thread."""
    # The processes start here and inherit this: Ctrl-C is for the main process, which ends them.
    # It is raised in the main thread, so that it does not interrupt their start.
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    for group in groups:
        yield pool.submit(_scores, group)


def _initialize(load: Load, config: ScoringConfig, processes: Any) -> None:
    """Make the scorer of this process. processes: a shared counter of the processes."""
    global _scorer
    follow_parent()
    with processes.get_lock():
        number = processes.value
        processes.value += 1
    try:
        model, tokenizer = load(number)
        _scorer = Scorer(model, tokenizer, config)
    except Exception as error:  # raised in the main process with the first scores
        _scorer = error


def _scores(group: list[Text]) -> _Scores:
    assert _scorer is not None
    if isinstance(_scorer, Exception):
        raise _scorer
    return list(_scorer.scores([group]))
