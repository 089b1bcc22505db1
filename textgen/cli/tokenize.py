"""``textgen tokenize``: learn a tokenizer from text, or use one on text."""

import dataclasses
from typing import Annotated, Literal

import typer

from textgen.cli import cluster, options
from textgen.cli.options import ErrorHandling, choice, choice_option, command_options, value_option
from textgen.config import VALID_OPTIONS, TokenizerConfig, TrainingConfig, flag
from textgen.errors import UsageError, not_both
from textgen.presentation import console, records, tables

Print = Literal["ids", "tokens", "mask"]
Format = Literal["table", "json"]

EXAMPLES = """
    Show the characters of a text:
    textgen tokenize mytext.txt
    Learn words, and save the tokenizer and the encoded text for train:
    textgen tokenize books/ --level word --out tokenized/books
    Split a text into the tokens of a trained model:
    textgen tokenize --tokenizer checkpoints/mine play.txt --print tokens
    The ids of each document of a folder of JSON lines, on all cores:
    textgen tokenize docs/ --tokenizer mine --executor local --out ids
"""


OutOption = Annotated[
    str | None,
    value_option(
        "--out",
        "DIR",
        "Save the tokenizer and the encoded text here; train accepts the folder as its corpus.",
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what an earlier tokenize wrote into --out.")
]
FormatOption = Annotated[Format, choice_option("--format", Format, "How to show the result.")]
TokenizerOption = Annotated[
    str | None,
    value_option(
        "--tokenizer",
        "DIR",
        "Learn nothing: encode the text with the tokenizer in this folder or checkpoint, one line"
        " per sentence.",
        panel="Using a tokenizer",
    ),
]
PrintOption = Annotated[
    Print | None,
    typer.Option(
        "--print",
        parser=choice("--print", ("ids", "tokens", "mask")),
        metavar="WHAT",
        help="What to print of each token; the mask is 1 for unknown tokens. In tokens a space is"
        " ␣, a newline \\n, a backslash \\\\.",
        show_default="ids, tokens, mask; default: ids",
        rich_help_panel="Using a tokenizer",
    ),
]


@command_options
def tokenize(
    *,
    corpus: options.Corpora = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    output: FormatOption = "table",
    config: TokenizerConfig,
    held_out: Annotated[TrainingConfig, "valid_fraction", "valid_split"],
    typed: frozenset[str],
    valid: options.ValidOption = None,
    encoding: options.EncodingOption = "utf-8",
    errors: options.ErrorsOption = "strict",
    skip_binary: options.SkipBinaryOption = False,
    tokenizer: TokenizerOption = None,
    printed: PrintOption = None,
    executor: cluster.ExecutorOption = None,
    tasks: cluster.TasksOption = None,
) -> None:
    """Learn a tokenizer from text, and show its vocabulary.

    The tokenizer is learned from the training part of the text: its characters, words or subwords,
    and how often each occurs. Shows the size of the vocabulary and how much of the held-out text
    is unknown to it.

    With --tokenizer it encodes text instead: one line of ids, of tokens or of a mask of unknown
    tokens per sentence. The last token of each is <EOS>, as in the output of score.

    With --executor the documents in the rows of files get the column ids, in files of the same
    names in --out. If it was interrupted, the same command again does what is missing.
    """
    learning: dict[str, object] = {
        "--valid": valid,
        "--overwrite": overwrite,
        "--skip-binary": skip_binary,
        **dict.fromkeys(map(flag, sorted(typed)), True),
    }
    if executor is not None:
        if tokenizer is None:
            raise UsageError("--executor needs --tokenizer", why="tasks cannot learn one together")
        given = learning | {"--print": printed, "--format": output != "table"}
        given |= {"--encoding": encoding != "utf-8", "--errors": errors != "strict"}
        cluster.run(
            "TextgenTokenizer",
            tokenizer,
            corpus or [],
            executor=executor,
            tasks=tasks,
            out=out,
            others=given,
        )
        return
    cluster.check_alone("tokenize", {"--tasks": tasks}, None)
    if tokenizer is not None:
        for name, is_given in {"--out": out, **learning}.items():
            if is_given:
                raise not_both("--tokenizer", name, "with --tokenizer nothing is learned")
        if corpus is not None and len(corpus) > 1:
            raise UsageError("--tokenizer encodes one file", fix="name one, or - for stdin")
        path = corpus[0] if corpus else "-"
        _encode(path, tokenizer, printed or "ids", encoding, errors, output)
        return
    if printed is not None:
        raise UsageError("--print needs --tokenizer", why="only an encoded text has tokens")
    if valid is not None:
        for name in sorted(typed & VALID_OPTIONS):
            raise not_both("--valid", flag(name))
    if not corpus:
        console.note("no corpus given: using the bundled stories")
    from textgen.data import encoded as library
    from textgen.data.corpus import bundled_corpus

    summary = library.tokenize(
        corpus or [bundled_corpus()],
        config,
        out=out,
        valid=valid,
        valid_fraction=held_out.valid_fraction,
        valid_split=held_out.valid_split,
        encoding=encoding,
        errors=errors,
        skip_binary=skip_binary,
        overwrite=overwrite,
    )
    for message in summary.notes:
        console.note(message)
    if output == "json":
        records.emit_record(dataclasses.asdict(summary))
    else:
        console.show(tables.tokenizer_summary(summary))


def _encode(
    path: str, folder: str, printed: Print, encoding: str, errors: ErrorHandling, output: Format
) -> None:
    from textgen.data.text import sentences
    from textgen.tokenizers.base import UNK, with_eos
    from textgen.tokenizers.registry import load_tokenizer_from

    tokenizer = load_tokenizer_from(folder)
    texts = sentences(path, unit=tokenizer.config.unit, encoding=encoding, errors=errors)
    for line, text in enumerate(texts, start=1):
        ids = with_eos(tokenizer.encode(text)).tolist()
        tokens = [tokenizer.token(id) for id in ids]
        unknown = [id == UNK for id in ids]
        if output == "json":
            record = {"line": line, "tokens": tokens, "ids": ids, "unknown": unknown}
            records.emit_record({**record, "texts": [*tokenizer.token_texts(text), ""]})
            continue
        columns = {
            "ids": map(str, ids),
            "tokens": map(tables.visible, map(tokenizer.text_of, ids), ids),
            "mask": (str(int(each)) for each in unknown),
        }
        console.emit(" ".join(columns[printed]) + "\n")
