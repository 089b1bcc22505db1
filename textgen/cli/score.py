"""``textgen score``: the probability of sentences."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textgen.cli import cluster, options
from textgen.cli.options import choice_option, command_options, typed_text, value_option
from textgen.cli.score_table import check_names, read_stimuli, score_table
from textgen.config import AdaptationConfig, ScoreLevel, ScoringConfig, TableConfig, Unit, flag
from textgen.errors import ResourceError, TextgenError, UsageError, not_both
from textgen.presentation import console
from textgen.presentation.formats import (
    ADAPTED,
    FORMATS,
    TIDY_FORMATS,
    ScoreWriter,
    Shown,
    UnknownReport,
    score_writer,
)
from textgen.presentation.formats.lines import SINKS, DelimitedSink
from textgen.presentation.formats.table import comparison
from textgen.presentation.html import ALTERNATIVES, PageScores
from textgen.results import ScoreSum, SentenceScore

if TYPE_CHECKING:
    from textgen.data.lines import Item
    from textgen.language_model import LanguageModel

EXAMPLES = """
    Which of two sentences is more probable, and by how much?
    textgen score checkpoints/mine --text "the dogs are" --text "the dogs is"
    How well does the model predict a text that it was not trained on?
    textgen score checkpoints/mine heldout.txt --context document
    The surprisal of every token, as a table for R or pandas:
    textgen score checkpoints/mine my.txt --level token --format tsv > my.tsv
    The text in colours, by how surprising each word is:
    textgen score checkpoints/mine my.txt --format heatmap
    The surprisal of the words of a reading experiment, in the rows of its table:
    textgen score checkpoints/mine stimuli.csv --words word --by item
    Sentences in a column of a table, and their critical regions:
    textgen score checkpoints/mine items.csv --column text --region start:end
    The perplexity of each document of a folder of JSON lines, on all cores:
    textgen score checkpoints/mine docs/ --executor local --out scored
"""

FileArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[FILE]",
        help="Sentences to score; without it, or with -, they are read from stdin.",
        show_default=False,
    ),
]
TextOption = Annotated[
    list[str] | None,
    value_option(
        "--text", "TEXT", "Score this sentence instead of a file; give it twice to compare two."
    ),
]
ContinuationsOption = Annotated[
    str | None,
    value_option(
        "--continuations",
        "FILE",
        "Score continuations of prefixes: a TSV with the columns prefix and continuation.",
    ),
]
OutOption = Annotated[
    str | None,
    value_option(
        "--out",
        "OUT",
        "Write the table into this file instead of stdout: csv, tsv, parquet, and rows that are"
        " given back. With --executor: the folder for the files with the figures.",
    ),
]
TotalsOption = Annotated[
    str | None,
    value_option(
        "--totals",
        "FILE",
        "Write the totals of a table into this file, as JSON, instead of stderr.",
    ),
]
HtmlOption = Annotated[
    str | None,
    value_option("--html", "FILE", "Also write an HTML page: the text as a heat map of surprisal."),
]
NbestOption = Annotated[str | None, typer.Option("--nbest", hidden=True)]
PairsOption = Annotated[str | None, typer.Option("--pairs", hidden=True)]
STDIN = "standard input"
FormatOption = Annotated[str, choice_option("--format", FORMATS, "The layout of the scores.")]


@command_options
def score(
    *,
    checkpoint: options.Checkpoint,
    file: FileArgument = None,
    more: cluster.DocumentsArgument = None,
    text: TextOption = None,
    continuations: ContinuationsOption = None,
    table: TableConfig,
    output: FormatOption = "table",
    out: OutOption = None,
    totals: TotalsOption = None,
    log_base: options.LogBaseOption = math.e,
    html: HtmlOption = None,
    nbest: NbestOption = None,
    pairs: PairsOption = None,
    config: ScoringConfig,
    adaptation: AdaptationConfig,
    typed: frozenset[str],
    encoding: options.EncodingOption = "utf-8",
    errors: options.ErrorsOption = "strict",
    precision: options.PrecisionOption = "float32",
    jobs: options.JobsOption = 1,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
    executor: cluster.ExecutorOption = None,
    tasks: cluster.TasksOption = None,
) -> None:
    """Compute the probability of sentences.

    For each sentence: its log-probability, <EOS> included; perplexity per token, with and without
    the unknown tokens; and bits per character, comparable between models with different tokens.
    The totals come last.

    In JSON log_prob is a natural logarithm, whatever --log-base is. CSV, TSV and Parquet name the
    base in the header: log_prob, log2_prob, log10_prob; surprisal is always in bits. Parquet needs
    --out. kenlm, lm-zoo, neural-complexity and theanolm are the layouts of those tools.

    With --words or --column FILE is a CSV or TSV, whose rows come back in order with all their
    columns and the figures after them; log_prob is natural. --format csv, tsv, json and parquet
    change its form. The rows of --words sum to the log-probability of their text without <EOS>.

    With --executor the documents in the rows of files get the columns log_prob (natural),
    perplexity, bits_per_byte and unknown_rate. If it was interrupted, the same command again does
    what is missing.
    """
    for option, value, command in (("--nbest", nbest, "rerank"), ("--pairs", pairs, "pairs")):
        if value is not None:
            raise UsageError(
                f"{option} is the command {command} now", fix=f"textgen {command} CHECKPOINT FILE"
            )
    given: dict[str, object] = {
        "--text": text,
        "--continuations": continuations,
        "--html": html,
        "--jobs": jobs > 1,
        "--totals": totals,
        "--log-base": log_base != math.e,
        "--format": output != "table",
        "--encoding": encoding != "utf-8",
        "--errors": errors != "strict",
    }
    if executor is not None:
        unfit = sorted(map(flag, typed - {"open_vocabulary", "column"}))
        cluster.run(
            "TextgenScorer",
            checkpoint,
            [file, *(more or ())] if file else [],
            executor=executor,
            tasks=tasks,
            out=out,
            others=dict.fromkeys(unfit, True) | given,
            column=table.column,
            threads=threads,
            device=device,
            precision=precision,
            open_vocabulary=config.open_vocabulary,
        )
        return
    cluster.check_alone("score", {"--tasks": tasks}, more)
    _check_options({"FILE": file, "--out": out, **given}, output, typed, table, config, adaptation)
    level = _level(output, config.level if "level" in typed else None)
    path = continuations or file or "-"
    if path == file != "-" and not Path(file).exists():
        fix = "check the path, or give a sentence after --text"
        raise ResourceError("no such file", where=file, fix=fix)
    name = "typed text" if text else STDIN if path == "-" else Path(path).name
    prefixed = any(x is not None for x in (continuations, config.prefix, table.prefix_column))
    shown = Shown(
        log_base,
        level,
        eos=not prefixed if config.eos is None else config.eos,
        prefixed=prefixed,
        adapted=adaptation.adapt,
        at_once=name == STDIN,
        totals=totals,
    )
    from textgen.language_model import LanguageModel

    load = partial(
        LanguageModel.load, checkpoint, device=device, threads=threads, precision=precision
    )
    files = options.TextFiles(encoding, errors)
    how: dict[str, Any] = {"jobs": jobs, "reader": None}
    if adaptation.adapt:
        from textgen.scoring.adaptation import AdaptingReader

        how["reader"] = partial(AdaptingReader, config=adaptation)
        config = dataclasses.replace(config, context="document")
    task = _Task(checkpoint, load, path, name, files, config, how, shown, output, out)
    if table.option is not None:
        model = _score_rows(task, table)
    else:
        model = _score_texts(task, text or [], continuations, html)
    if adaptation.adapt:
        console.note(ADAPTED)
    files.say_notes(model)


def _check_options(
    given: Mapping[str, object],
    output: str,
    typed: frozenset[str],
    table: TableConfig,
    config: ScoringConfig,
    adaptation: AdaptationConfig,
) -> None:
    """Raise UsageError for options that exclude each other.

    Args:
        given: Options that are no fields of a configuration, with whether they were given.
        typed: The fields whose options were typed.
    """
    named = [name for name in ("FILE", "--text", "--continuations") if given[name]]
    if len(named) > 1:
        raise not_both(named[0], named[1], fix="choose one source of texts")
    if table.option is not None:
        _refuse_with(
            table.option,
            {name: given[name] for name in ("--text", "--continuations", "--html")}
            | {"--level": "level" in typed, "--log-base": given["--log-base"]}
            | {"--eos": table.words is not None and config.eos}
            | {f"--format {output}": output not in ("table", "json", *TIDY_FORMATS)},
            why="the rows come back as they are, with figures after them",
            fix="leave one out; --format csv, tsv, json and parquet change the form of the rows",
        )
        if table.prefix_column is not None and config.prefix is not None:
            raise not_both("--prefix-column", "--prefix")
    tidy = TIDY_FORMATS if table.option is None else (*TIDY_FORMATS, "table")
    for option in ("--out", "--totals"):
        if given[option] is not None and output not in tidy:
            fix = f"add --format {' or '.join(TIDY_FORMATS)}"
            raise UsageError(f"{option} is for tables, not --format {output}", fix=fix)
    if adaptation.adapt:
        _refuse_with(
            "--adapt",
            {"--context sentence": config.context == "sentence" and "context" in typed}
            | {"--prefix": config.prefix is not None, "--jobs": given["--jobs"]}
            | {"--continuations": given["--continuations"] is not None}
            | {"--prefix-column": table.prefix_column is not None},
            why="it reads a text from its beginning to its end",
        )


def _refuse_with(
    option: str, others: Mapping[str, object], why: str, fix: str = "leave one out"
) -> None:
    """Raise UsageError for the first of the others that was given."""
    for other, value in others.items():
        if value:
            raise not_both(option, other, why, fix)


def _level(output: str, typed: ScoreLevel | None) -> ScoreLevel:
    """The level of a layout: the one that was typed, or its first. Raises UsageError."""
    levels = score_writer(output).levels
    if typed is not None and typed not in levels:
        raise UsageError(
            f"--format {output} has no --level {typed}", fix=f"it has {', '.join(levels)}"
        )
    return typed or levels[0]


@dataclass(frozen=True)
class _Task:
    """Texts to score, and how they are scored and shown; its options have been checked.

    Attributes:
        load: Loads the model of the checkpoint.
        path, name: Of the file with the texts; ``-`` is stdin.
        how: More arguments of ``LanguageModel.scores``: processes and reader.
        output, out: The format, and the file for a table.
    """

    checkpoint: str
    load: "Callable[[], LanguageModel]"
    path: str
    name: str
    files: options.TextFiles
    config: ScoringConfig
    how: Mapping[str, Any]
    shown: Shown
    output: str
    out: str | None


def _score_rows(task: _Task, table: TableConfig) -> "LanguageModel":
    """Give the rows of a table back with figures; returns the model."""
    rows = read_stimuli(task.files.read(task.path), task.name, table)
    check_names(rows, unique=task.output in ("json", "parquet"))
    as_given = DelimitedSink(rows.table.delimiter, task.out) if task.output == "table" else None
    with as_given or SINKS[task.output](task.out) as sink:
        model = task.load()
        shown = dataclasses.replace(task.shown, pseudo=not model.is_causal, sink=sink)
        config = task.config
        if table.words is not None or table.region is not None:
            options.refuse_pseudo(model, "--region" if table.words is None else "--words")
            config = dataclasses.replace(config, level="word", own_words=True)
        if table.words is not None:  # <EOS> belongs to none of them
            config = dataclasses.replace(config, eos=False)
            shown = dataclasses.replace(shown, eos=False)
        score_table(rows, partial(model.scores, config=config, **task.how), shown, model.header)
    return model


def _score_texts(
    task: _Task, typed: Sequence[str], continuations: str | None, html: str | None
) -> "LanguageModel":
    """Write the scores of sentences, and a page of them if asked for; returns the model."""
    layout, unknown = score_writer(task.output), UnknownReport()
    config = dataclasses.replace(task.config, level=task.shown.level)
    shown, writers = task.shown, list[ScoreWriter]()
    with contextlib.ExitStack() as stack:
        if task.output in TIDY_FORMATS:
            sink = stack.enter_context(SINKS[task.output](task.out))
            shown = dataclasses.replace(shown, sink=sink)
        if html is not None:
            config = _of_a_page(config)
            page_shown = dataclasses.replace(shown, level=config.level)
            page = PageScores(
                Path(html), page_shown, name=task.name, checkpoint=task.checkpoint, config=config
            )
            # It is written before anything on stdout can fail.
            writers.append(stack.enter_context(page))
        model = task.load()
        if html is not None:
            options.refuse_pseudo(model, "--html")
        elif shown.adapted or not layout.shows_pseudo:
            options.refuse_pseudo(model, "--adapt" if shown.adapted else f"--format {task.output}")
        shown = dataclasses.replace(shown, pseudo=not model.is_causal)
        writers.append(layout(shown))
        scores = model.scores(
            _texts(typed, task.path, continuations, task.files, model.tokenizer.config.unit),
            config,
            on_skip=lambda skipped: unknown.skipped(skipped.given.line, skipped.unknown),
            **task.how,
        )
        first = write_scores(unknown.counted(scores), writers, at_once=shown.at_once)
    unknown.say()
    if task.output == "table" and len(typed) == len(first) == 2:
        console.show("", comparison(first[0], first[1], shown))
    return model


def _of_a_page(config: ScoringConfig) -> ScoringConfig:
    """What a page shows: parts, whatever stdout shows, and what was likelier in their places."""
    level: ScoreLevel = "word" if config.level == "sentence" else config.level
    # Of tokens more, because those of one text are shown as one.
    alternatives = ALTERNATIVES if level == "word" else 2 * ALTERNATIVES
    return dataclasses.replace(config, level=level, alternatives=alternatives)


def _texts(
    typed: Sequence[str],
    file: str,
    continuations: str | None,
    files: options.TextFiles,
    unit: Unit,
) -> "Iterable[Item]":
    """The texts as they come: typed, in columns after their prefixes, or in a file."""
    from textgen.data import lines

    if typed:
        return [typed_text("--text", each) for each in typed]
    if continuations is not None:
        rows = files.read(continuations)
        return lines.arriving(lines.continuations(rows, continuations))
    return lines.arriving(files.read(file, unit=unit))


def write_scores(
    scores: Iterable[SentenceScore], writers: Sequence[ScoreWriter], *, at_once: bool
) -> list[SentenceScore]:
    """Write the scores as they come, then their totals.

    Args:
        at_once: Flush each score: an interactive user may wait for it.

    Returns:
        The first two scores.
    """
    total, number, line = ScoreSum(), 0, 0
    first: list[SentenceScore] = []
    try:
        for each in scores:
            for writer in writers:
                if number == 0:
                    writer.begin()
                whole = writer.shown.level == "sentence" and each.parts is not None
                writer.sentence(dataclasses.replace(each, parts=None) if whole else each)
            total, number, line = total + each, number + 1, each.line
            if number <= 2:
                first.append(each)
            if at_once:
                console.finish_output()
    except (TextgenError, KeyboardInterrupt):
        for writer in writers:
            writer.flush()
        if number:
            console.note(f"the scores end after line {line}")
        raise
    for writer in writers:
        if number == 0:
            writer.begin()
        writer.end(total, number)
    return first
