"""Scoring in several processes: groups of texts in, their scores out, in order."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from threading import Thread
from typing import Any

from textgen.config import ScoringConfig
from textgen.data.lines import Arriving, Item, ReadAhead, Text, characters_of
from textgen.errors import ResourceError, UsageError
from textgen.models import Model
from textgen.results import SentenceScore
from textgen.scoring.scorer import Scorer, Skipped
from textgen.tokenizers.base import Tokenizer

_MOST_TEXTS, _MOST_CHARACTERS = 4096, 2**18


def groups(texts: Iterable[Item], prefix: str | None = None) -> Iterator[list[Text]]:
    """The texts in their order, some thousand at a time, taken as they are asked for.

    Of texts that are ``Arriving`` a group is what has come, so that what a person types is
    scored at once. prefix: of those that have none of their own.
    """
    arriving = texts if isinstance(texts, Arriving) else None
    group: list[Text] = []
    characters = 0
    try:
        for line, item in enumerate(texts, start=1):
            if isinstance(item, Text):
                group.append(item)
            else:
                before, text = (prefix, item) if isinstance(item, str) else item
                group.append(Text(line, text, before))
            characters += characters_of(item)
            full = len(group) >= _MOST_TEXTS or characters >= _MOST_CHARACTERS
            if full or (arriving is not None and arriving.pauses()):
                yield group
                group, characters = [], 0
    except Exception:
        if group:  # what came before the error is whole
            yield group
        raise
    if group:
        yield group


Load = Callable[[int], tuple[Model, Tokenizer]]
"""Gives a process its model; the number is that of the process, from 0. It can be pickled."""

_AHEAD = 2  # groups that wait, for each process
_Scores = list[SentenceScore | Skipped]

# Of this process, where it is one of several: what scores, or why it could not be had.
_scorer: Scorer | Exception | None = None


def scores_of_jobs(
    load: Load, config: ScoringConfig, groups: Iterable[list[Text]], jobs: int
) -> Iterator[SentenceScore | Skipped]:
    """As ``Scorer.scores``, the groups shared by ``jobs`` processes.

    The groups are taken in a thread, some ahead. What taking them raises is raised in its place.
    """
    if config.context == "document":
        raise UsageError(
            "--jobs and --context document cannot both be given",
            why="each sentence goes on from the one before",
            fix="leave one out",
        )
    context = multiprocessing.get_context("spawn")  # a forked process cannot use a GPU
    numbers = context.Value("i", 0)
    arguments = (load, config, numbers)
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=arguments)
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
    """What will be the scores of each group; in a thread of its own."""
    # The processes begin here and inherit this: Ctrl-C is for the first one, which ends them.
    # It is raised in the main thread, so that it does not break off what begins them.
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    for group in groups:
        yield pool.submit(_scores, group)


def _begin(load: Load, config: ScoringConfig, numbers: Any) -> None:
    global _scorer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_the_first, daemon=True).start()
    with numbers.get_lock():
        number = numbers.value
        numbers.value += 1
    try:
        model, tokenizer = load(number)
        _scorer = Scorer(model, tokenizer, config)
    except Exception as error:  # raised where the first process can hear of it
        _scorer = error


def _end_with_the_first() -> None:
    """However the first process ends; of a kill it can tell nobody."""
    first = multiprocessing.parent_process()
    assert first is not None
    connection.wait([first.sentinel])
    os._exit(1)


def _scores(group: list[Text]) -> _Scores:
    assert _scorer is not None
    if isinstance(_scorer, Exception):
        raise _scorer
    return list(_scorer.scores([group]))
