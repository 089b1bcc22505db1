"""``textgen tokenize``: learn a tokenizer from text, or use one on text."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from textgen.cli import options as parsing
from textgen.cli.options import (
    Corpora,
    EncodingOption,
    ErrorHandling,
    ErrorsOption,
    ValidOption,
    choice_option,
    command_options,
)
from textgen.config import TokenizerConfig, TrainingConfig, flag
from textgen.errors import UsageError

if TYPE_CHECKING:
    from textgen.tokenizers.base import Tokenizer


Print = Literal["ids", "tokens", "mask"]
Format = Literal["table", "json"]

EXAMPLES = """
    See what the characters of your text are:
    textgen tokenize mytext.txt
    Learn words, and keep the tokenizer and the text as ids for train:
    textgen tokenize books/ --level word --out tokenized/books
    Cut a sentence as a trained model does:
    textgen tokenize --tokenizer checkpoints/mine play.txt --print tokens
"""


OutOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Keep the tokenizer and the text as ids here; train takes the folder as its corpus.",
        show_default=False,
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what textgen wrote into --out before.")
]
FormatOption = Annotated[Format, choice_option("--format", Format, "How to show the result.")]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="DIR",
        help="Learn nothing: encode the text with the tokenizer of this folder or"
        " checkpoint, a line for each sentence.",
        show_default=False,
        rich_help_panel="Using a tokenizer",
    ),
]
PrintOption = Annotated[
    Print | None,
    typer.Option(
        "--print",
        parser=parsing.choice("--print", ("ids", "tokens", "mask")),
        metavar="WHAT",
        help="What to print of each token; the mask is 1 where it is unknown. In tokens a"
        " space is ␣, a newline \\n, a backslash \\\\.",
        show_default="ids, tokens, mask; default: ids",
        rich_help_panel="Using a tokenizer",
    ),
]


@command_options(TokenizerConfig, extra={TrainingConfig: ("valid_fraction",)})
def tokenize(
    *,
    corpus: Corpora = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    output: FormatOption = "table",
    given: dict[str, Any],
    valid: ValidOption = None,
    encoding: EncodingOption = "utf-8",
    errors: ErrorsOption = "strict",
    tokenizer: TokenizerOption = None,
    printed: PrintOption = None,
) -> None:
    """Learn how text becomes tokens, and see what was learned.

    Reads text and learns a tokenizer from its training part: the characters, words or
    subwords there are, and how often. Shows how large the vocabulary is and how much of the
    held-out text is unknown to it.

    With --tokenizer it encodes text instead, one line of ids, tokens or a mask of unknown
    tokens for every sentence. The last token of each is <EOS>, as in what score prints.
    """
    if tokenizer is None:
        if printed is not None:
            raise UsageError("--print needs --tokenizer", why="only an encoded text has tokens")
        _learn(given, corpus, out, valid, encoding, errors, overwrite, output)
        return
    learning = {"--out": out, "--valid": valid, "--overwrite": overwrite or None}
    learning |= {flag(name): value for name, value in given.items()}
    for name, value in learning.items():
        if value is not None:
            raise UsageError(
                f"--tokenizer and {name} cannot both be given",
                why="with --tokenizer nothing is learned",
                fix="keep one",
            )
    if corpus is not None and len(corpus) > 1:
        raise UsageError("--tokenizer encodes one file", fix="name one, or - for stdin")
    path = corpus[0] if corpus else "-"
    _encode(path, tokenizer, printed or "ids", encoding, errors, output)


def _learn(
    given: dict[str, Any],
    corpus: list[str] | None,
    out: str | None,
    valid: str | None,
    encoding: str,
    errors: ErrorHandling,
    overwrite: bool,
    output: Format,
) -> None:
    from textgen.data import encoded as library
    from textgen.data.corpus import bundled_corpus
    from textgen.presentation import console, records, tables

    if not corpus:
        console.note("no corpus given: taking the bundled stories")
    held_out = {name: given[name] for name in ("valid_fraction",) if name in given}
    summary = library.tokenize(
        corpus or [bundled_corpus()],
        TokenizerConfig.from_options(given),
        out=out,
        valid=valid,
        encoding=encoding,
        errors=errors,
        overwrite=overwrite,
        **held_out,
    )
    for message in summary.notes:
        console.note(message)
    if output == "json":
        records.emit_record(records.tokenizer_record(summary))
    else:
        width = console.out_console().width
        console.show(tables.tokenizer_summary(summary, width))


def _encode(
    path: str, folder: str, printed: Print, encoding: str, errors: ErrorHandling, output: Format
) -> None:
    from textgen.data.text import sentences
    from textgen.presentation import console, records
    from textgen.tokenizers.base import UNK, with_eos
    from textgen.tokenizers.registry import load_tokenizer_from

    tokenizer = load_tokenizer_from(folder)
    texts = sentences(path, unit=tokenizer.config.unit, encoding=encoding, errors=errors)
    for line, text in enumerate(texts, start=1):
        ids = with_eos(tokenizer.encode(text)).tolist()
        if output == "json":
            tokens = [tokenizer.token(id) for id in ids]
            unknown = [id == UNK for id in ids]
            record = {"line": line, "tokens": tokens, "ids": ids, "unknown": unknown}
            records.emit_record(record)
        else:
            console.emit(_line(tokenizer, ids, printed) + "\n")


def _line(tokenizer: "Tokenizer", ids: list[int], printed: Print) -> str:
    from textgen.presentation.tables import visible
    from textgen.tokenizers.base import UNK

    if printed == "ids":
        return " ".join(map(str, ids))
    if printed == "mask":
        return " ".join("1" if id == UNK else "0" for id in ids)
    return " ".join(visible(tokenizer.token(id), id) for id in ids)
