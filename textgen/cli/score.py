"""``textgen score``: the probability of sentences."""

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    if executor is not None:
        unfit = typed - {"open_vocabulary", "column"}
        given: dict[str, object] = dict.fromkeys(sorted(map(flag, unfit)), True)
        given |= {"--text": text, "--continuations": continuations, "--html": html}
        given |= {"--jobs": jobs > 1, "--totals": totals, "--log-base": log_base != math.e}
        given |= {"--format": output != "table", "--encoding": encoding != "utf-8"}
        given |= {"--errors": errors != "strict"}
        cluster.run(
            "TextgenScorer",
            checkpoint,
            [file, *(more or ())] if file else [],
            executor=executor,
            tasks=tasks,
            out=out,
            others=given,
            column=table.column,
            threads=threads,
            device=device,
            precision=precision,
            open_vocabulary=config.open_vocabulary,
        )
        return
    cluster.check_alone("score", {"--tasks": tasks}, more)
    sources = {"FILE": file, "--text": text, "--continuations": continuations}
    named = [name for name, value in sources.items() if value]
    if len(named) > 1:
        raise not_both(named[0], named[1], fix="choose one source of texts")
    if table.option is not None:
        others: dict[str, object] = {"--text": text, "--continuations": continuations}
        others |= {"--html": html, "--level": "level" in typed, "--log-base": log_base != math.e}
        _refuse_with(
            table.option,
            others
            | {"--eos": table.words is not None and config.eos}
            | {f"--format {output}": output not in ("table", "json", *TIDY_FORMATS)},
            why="the rows come back as they are, with figures after them",
            fix="leave one out; --format csv, tsv, json and parquet change the form of the rows",
        )
        if table.prefix_column is not None and config.prefix is not None:
            raise not_both("--prefix-column", "--prefix")
    tidy = (*TIDY_FORMATS, "table") if table.option is not None else TIDY_FORMATS
    for option, value in (("--out", out), ("--totals", totals)):
        if value is not None and output not in tidy:
            fix = f"add --format {' or '.join(TIDY_FORMATS)}"
            raise UsageError(f"{option} is for tables, not --format {output}", fix=fix)
    layout = score_writer(output)
    level = config.level if "level" in typed else layout.levels[0]
    if level not in layout.levels:
        raise UsageError(
            f"--format {output} has no --level {level}", fix=f"it has {', '.join(layout.levels)}"
        )
    continues_prefix = any(
        each is not None for each in (continuations, config.prefix, table.prefix_column)
    )
    if adaptation.adapt:
        _refuse_with(
            "--adapt",
            {"--context sentence": config.context == "sentence" and "context" in typed}
            | {"--prefix": config.prefix is not None, "--jobs": jobs > 1}
            | {"--continuations": continuations is not None}
            | {"--prefix-column": table.prefix_column is not None},
            why="it reads a text from its beginning to its end",
        )
        config = dataclasses.replace(config, context="document")
    source = continuations or file or "-"
    name = "typed text" if text else STDIN if source == "-" else Path(source).name
    shown = Shown(
        log_base,
        level,
        eos=not continues_prefix if config.eos is None else config.eos,
        prefixed=continues_prefix,
        adapted=adaptation.adapt,
        at_once=name == STDIN,
        totals=totals,
    )
    if source == file and file != "-" and not Path(file).exists():
        fix = "check the path, or give a sentence after --text"
        raise ResourceError("no such file", where=file, fix=fix)
    from textgen.language_model import LanguageModel

    files, unknown = options.TextFiles(encoding, errors), UnknownReport()
    reader = None
    if adaptation.adapt:
        from textgen.scoring.adaptation import AdaptingReader

        reader = partial(AdaptingReader, config=adaptation)
    load = partial(
        LanguageModel.load, checkpoint, device=device, threads=threads, precision=precision
    )
    with contextlib.ExitStack() as stack:
        if table.option is not None:
            rows = read_stimuli(files.read(source), name, table)
            check_names(rows, unique=output in ("json", "parquet"))
            as_given = DelimitedSink(rows.table.delimiter, out) if output == "table" else None
            sink = stack.enter_context(as_given or SINKS[output](out))
            model = load()
            shown = dataclasses.replace(shown, pseudo=not model.is_causal, sink=sink)
            config, shown = _of_a_table(table, model, config, shown)
            score_texts = partial(model.scores, config=config, jobs=jobs, reader=reader)
            score_table(rows, score_texts, shown, model.header)
            if adaptation.adapt:
                console.note(ADAPTED)
            files.say_notes(model)
            return
        if output in TIDY_FORMATS:
            shown = dataclasses.replace(shown, sink=stack.enter_context(SINKS[output](out)))
        writers: list[ScoreWriter] = []
        config = dataclasses.replace(config, level=level)
        if html is not None:
            config = _of_a_page(config)
            page_shown = dataclasses.replace(shown, level=config.level)
            page = PageScores(
                Path(html), page_shown, name=name, checkpoint=checkpoint, config=config
            )
            # It is written before anything on stdout can fail.
            writers.append(stack.enter_context(page))
        model = load()
        if html is not None or adaptation.adapt or not layout.shows_pseudo:
            option = "--html" if html is not None else f"--format {output}"
            options.refuse_pseudo(model, "--adapt" if adaptation.adapt and html is None else option)
        writers.append(layout(dataclasses.replace(shown, pseudo=not model.is_causal)))
        scores = model.scores(
            _texts(text or [], source, continuations, files, model.tokenizer.config.unit),
            config,
            jobs=jobs,
            on_skip=lambda skipped: unknown.skipped(skipped.given.line, skipped.unknown),
            reader=reader,
        )
        first = write_scores(unknown.counted(scores), writers, at_once=shown.at_once)
    unknown.say()
    if adaptation.adapt:
        console.note(ADAPTED)
    if output == "table" and len(text or ()) == len(first) == 2:
        console.show("", comparison(first[0], first[1], writers[-1].shown))
    files.say_notes(model)


def _refuse_with(
    option: str, others: Mapping[str, object], why: str, fix: str = "leave one out"
) -> None:
    """Raise UsageError for the first of the others that was given."""
    for other, value in others.items():
        if value:
            raise not_both(option, other, why, fix)


def _of_a_table(
    table: TableConfig, model: "LanguageModel", config: ScoringConfig, shown: Shown
) -> tuple[ScoringConfig, Shown]:
    """What the rows of a table need: words of their own, and no ``<EOS>`` among words."""
    if table.words is not None or table.region is not None:
        options.refuse_pseudo(model, "--region" if table.words is None else "--words")
        config = dataclasses.replace(config, level="word", own_words=True)
    if table.words is not None:  # <EOS> belongs to none of them
        return dataclasses.replace(config, eos=False), dataclasses.replace(shown, eos=False)
    return config, shown


def _of_a_page(config: ScoringConfig) -> ScoringConfig:
    """What a page shows: parts, whatever stdout shows, and what was likelier in their places."""
    level: ScoreLevel = "word" if config.level == "sentence" else config.level
    # Of tokens more, because those of one text are shown as one.
    alternatives = ALTERNATIVES if level == "word" else 2 * ALTERNATIVES
    return dataclasses.replace(config, level=level, alternatives=alternatives)


def _texts(
    typed: list[str], file: str, continuations: str | None, files: options.TextFiles, unit: Unit
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
