"""Results as a person reads them: facts under headings, and thin tables."""

import math
import shlex
import subprocess
import sys
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from textgen.metrics import LOG_2
from textgen.presentation.console import shown
from textgen.presentation.numbers import count, duration, figure, fixed, rounded, share, size
from textgen.presentation.tokens import token_text
from textgen.results import TokenizerSummary, TrainingResult, Validation

Fact = tuple[str, str | Text]


def facts(pairs: Iterable[Fact]) -> Table:
    """Names and values in two columns; a value that is empty is left out."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="label")
    table.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            table.add_row(name, value if isinstance(value, Text) else Text(shown(value)))
    return table


def section(title: str, body: RenderableType) -> RenderableType:
    return Group(Text(title, style="heading"), Padding(body, (0, 0, 1, 2)))


def tokenizer_summary(summary: TokenizerSummary, width: int) -> RenderableType:
    """What a tokenizer learned, and its most frequent tokens."""
    held_out = " of the held-out tokens" if summary.valid_tokens else " of the tokens"
    pairs: list[Fact] = [
        ("level", f"{summary.level}, a {summary.unit} ends in <EOS>"),
        ("vocabulary", f"{count(summary.vocabulary_size)} with <UNK> and <EOS>"),
        ("tokens", count(summary.tokens)),
        ("", _split(summary)),
        ("characters", count(summary.characters)),
        ("sentences", count(summary.sentences)),
        ("characters a token", figure(summary.characters_per_token, 3)),
        ("unknown", share(summary.unknown_rate) + held_out),
        ("fingerprint", summary.fingerprint[:16]),
        ("saved", summary.out or ""),
    ]
    parts = [section("Tokenizer", facts(pairs))]
    if summary.most_frequent:
        parts.append(section("Most frequent", _most_frequent(summary, width - 2)))
    return Group(*parts)


def _split(summary: TokenizerSummary) -> Text:
    if not summary.valid_tokens:
        return Text()
    parts = f"{count(summary.train_tokens)} to learn from, {count(summary.valid_tokens)} held out"
    return Text(parts, style="label")


def _most_frequent(summary: TokenizerSummary, width: int) -> Table:
    """Tokens with their share of the training part, in as many columns as fit."""
    total = max(1, summary.train_tokens)
    cells = [
        (token_text(token), Text(share(seen / total), style="label"))
        for token, seen in summary.most_frequent
    ]
    widest = max(token.cell_len + part.cell_len for token, part in cells)
    columns = max(1, min(5, width // (widest + 5)))
    rows = math.ceil(len(cells) / columns)
    table = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(columns):
        table.add_column()
        table.add_column(justify="right")
        table.add_column(width=2)
    for row in range(rows):
        line: list[RenderableType] = []
        for token, part in cells[row::rows]:
            line += [token, part, ""]
        table.add_row(*line)
    return table


def validation_facts(validation: Validation) -> list[Fact]:
    """The three figures of a validation; two of one that is no probability."""
    if validation.pseudo:
        note = "  nats a token, given all others of its sentence"
        return [
            ("validation pseudo-loss", Text.assemble(fixed(validation.loss, 4), (note, "label"))),
            ("pseudo-perplexity", figure(validation.perplexity)),
        ]
    bits = Text(figure(validation.bits_per_character))
    if validation.unknown:
        unknown = share(validation.unknown / validation.tokens)
        bits.append(f"  ({unknown} unknown: comparable only over one vocabulary)", "warning")
    return [
        ("validation loss", Text.assemble(fixed(validation.loss, 4), ("  nats a token", "label"))),
        ("perplexity", Text.assemble(figure(validation.perplexity), ("  a token", "label"))),
        ("bits a character", bits),
    ]


def _compared(result: TrainingResult, validation: Validation) -> list[Fact]:
    """The bits a character of models that did not learn, or only counted."""
    if not validation.characters or validation.pseudo:
        return []
    bits_a_nat = validation.tokens / validation.characters / LOG_2
    pairs: list[Fact] = []
    if result.ngram is not None:
        learned = f"  Kneser-Ney, from {rounded(result.ngram.train_tokens)} tokens"
        bits = figure(result.ngram.loss * bits_a_nat)
        name = f"  {result.ngram.order}-gram model"
        pairs.append((name, Text.assemble(bits, (learned, "label"))))
    return [*pairs, ("  guessing evenly", figure(result.uniform_loss * bits_a_nat))]


def training_summary(result: TrainingResult, out: str) -> RenderableType:
    """What a run reached, where it is, and the commands to type next."""
    seen = f"{rounded(result.tokens_seen)} tokens in {count(result.steps)} steps"
    best, memory = result.validation, result.peak_memory_bytes
    pairs: list[Fact] = [
        *([*validation_facts(best), *_compared(result, best)] if best is not None else []),
        ("trained", f"{seen}, {duration(result.seconds)}"),
        ("ended early", result.ended_early or ""),
        ("speed", f"{count(round(result.tokens_per_second))} tokens a second"),
        ("memory", f"{size(memory)} at most" if memory else ""),
        ("parameters", rounded(result.parameters)),
        ("saved", result.checkpoint),
    ]
    title = "Trained" if result.interrupted is None else "Stopped, and saved"
    return Group(section(title, facts(pairs)), section("Next", _next(result, out)))


def _next(result: TrainingResult, out: str) -> Text:
    folder = quoted(out)
    pseudo = result.validation is not None and result.validation.pseudo
    lines = [
        f'textgen predict {folder} "A text with a ____ in it"'
        if pseudo
        else f"textgen sample {folder}",
        f'textgen score {folder} --text "How likely is this?"',
        f"textgen info {folder}",
    ]
    if result.interrupted is not None:
        lines.insert(0, f"textgen train --out {folder} --resume")
    return Text("\n".join(lines), style="accent")


def quoted(path: str) -> str:
    """A path as the person's shell takes it; after ``--`` would go one that begins with a dash."""
    if path.startswith("-"):
        path = f"./{path}"
    if sys.platform == "win32":
        return subprocess.list2cmdline([path])
    if path.isprintable():
        return shlex.quote(path)
    return "$'" + shown(path.replace("\\", "\\\\").replace("'", "\\'")) + "'"
