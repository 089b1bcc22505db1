"""Results for people: facts under headings, unambiguous tokens, notes on what is unknown.

A space is written ``␣``, a newline ``\\n``, a tab ``\\t``, other control characters ``\\x1b``; a
backslash is ``\\\\``, a ``␣`` of the text itself ``\\␣`` and a literal ``<EOS>`` of the text
``\\<EOS>``, so that nothing is ambiguous.
"""

import math
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from textgen.metrics import LOG_2
from textgen.presentation.console import note, shown
from textgen.presentation.numbers import count, duration, figure, fixed, label, rounded, share, size
from textgen.results import (
    ScoreSum,
    SentenceScore,
    TokenizerSummary,
    TrainingResult,
    Validation,
)

Fact = tuple[str, str | Text]

_SPACE = "␣"
_SPECIAL_NAMES = ("<UNK>", "<EOS>")  # of the ids 0 and 1 in every vocabulary
_MOST_NAMED, _MOST_COUNTED = 5, 10_000
_LONGEST_SPELLED = 4  # characters whose code points are shown


def visible(token: str, id: int | None = None) -> str:
    r"""A token without white space. id: distinguishes ``<EOS>`` from a text that spells it.

    >>> visible("the "), visible("\n"), visible("<EOS>", 1), visible("<EOS>", 7)
    ('the␣', '\\n', '<EOS>', '\\<EOS>')
    """
    if token in _SPECIAL_NAMES:
        is_special = id is None or id == _SPECIAL_NAMES.index(token)
        return token if is_special else "\\" + token
    escaped = shown(token.replace("\\", "\\\\").replace(_SPACE, "\\" + _SPACE)).replace(" ", _SPACE)
    return re.sub(r"\s", lambda space: _code(ord(space[0])), escaped)


def _code(character: int) -> str:
    return f"\\x{character:02x}" if character < 256 else f"\\u{character:04x}"


def token_text(token: str, id: int | None = None, *, unknown: bool = False) -> Text:
    """A token for a table; an unknown one has a colour of its own."""
    return Text(visible(token, id), style="unknown" if unknown else "")


def facts(pairs: Iterable[Fact]) -> Table:
    """Names and values in two columns; a value that is empty is left out."""
    table = Table.grid(Column(style="label"), Column(overflow="fold"), padding=(0, 2, 0, 0))
    for name, value in pairs:
        if value:
            table.add_row(name, value if isinstance(value, Text) else Text(shown(value)))
    return table


def section(title: str, body: RenderableType) -> RenderableType:
    return Group(Text(title, style="heading"), Padding(body, (0, 0, 1, 2)))


def tokenizer_summary(summary: TokenizerSummary, width: int) -> RenderableType:
    """What a tokenizer learned, and its most frequent tokens."""
    parts = f"{count(summary.train_tokens)} to learn from, {count(summary.valid_tokens)} held out"
    held_out = "held-out " if summary.valid_tokens else ""
    pairs: list[Fact] = [
        ("level", f"{summary.level}, a {summary.unit} ends in <EOS>"),
        ("vocabulary", f"{count(summary.vocabulary_size)} with <UNK> and <EOS>"),
        ("tokens", count(summary.tokens)),
        ("", Text(parts if summary.valid_tokens else "", style="label")),
        ("characters", count(summary.characters)),
        ("sentences", count(summary.sentences)),
        ("characters per token", figure(summary.characters_per_token, 3)),
        ("unknown", f"{share(summary.unknown_rate)} of the {held_out}tokens"),
        ("fingerprint", summary.fingerprint[:16]),
        ("saved", summary.out or ""),
    ]
    sections = [section("Tokenizer", facts(pairs))]
    if summary.most_frequent:
        sections.append(section("Most frequent", _most_frequent(summary, width - 2)))
    return Group(*sections)


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
        table.add_row(*(cell for pair in cells[row::rows] for cell in (*pair, Text())))
    return table


def validation_facts(validation: Validation) -> list[Fact]:
    """The figures of a validation; of one that is no probability, none per character."""
    pseudo = validation.pseudo
    given = ", given all others of its sentence" if pseudo else ""
    loss = (fixed(validation.loss, 4), (f"  nats per token{given}", "label"))
    per_token = (figure(validation.perplexity), ("" if pseudo else "  per token", "label"))
    pairs: list[Fact] = [
        ("validation " + label("loss", pseudo=pseudo), Text.assemble(*loss)),
        (label("perplexity", pseudo=pseudo), Text.assemble(*per_token)),
    ]
    if not pseudo:
        bits = Text(figure(validation.bits_per_character))
        if validation.unknown:
            unknown = share(validation.unknown / validation.tokens)
            bits.append(f"  ({unknown} unknown: comparable only over one vocabulary)", "warning")
        pairs.append(("bits per character", bits))
    return pairs


def _baselines(result: TrainingResult) -> list[Fact]:
    """The bits per character of models that learned nothing, or only counted."""
    validation = result.validation
    if validation is None or not validation.characters or validation.pseudo:
        return []
    bits_per_nat = validation.tokens / validation.characters / LOG_2
    pairs: list[Fact] = [("  uniform distribution", figure(result.uniform_loss * bits_per_nat))]
    if result.ngram is not None:
        bits = figure(result.ngram.loss * bits_per_nat)
        learned = f"  Kneser-Ney, from {rounded(result.ngram.train_tokens)} tokens"
        named = f"  {result.ngram.order}-gram model"
        pairs.insert(0, (named, Text.assemble(bits, (learned, "label"))))
    return pairs


def training_summary(result: TrainingResult, out: str) -> RenderableType:
    """What a run reached, where it is, and the next commands."""
    seen = f"{rounded(result.tokens_seen)} tokens in {count(result.steps)} steps"
    best, memory = result.validation, result.peak_memory_bytes
    pairs: list[Fact] = [
        *([*validation_facts(best), *_baselines(result)] if best is not None else []),
        ("trained", f"{seen}, {duration(result.seconds)}"),
        ("ended early", result.ended_early or ""),
        ("speed", f"{count(round(result.tokens_per_second))} tokens per second"),
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
    """A path quoted for the shell; one that begins with a dash is not an option."""
    if path.startswith("-"):
        path = f"./{path}"
    if sys.platform == "win32":
        return subprocess.list2cmdline([path])
    if path.isprintable():
        return shlex.quote(path)
    return "$'" + shown(path.replace("\\", "\\\\").replace("'", "\\'")) + "'"


class UnknownReport:
    """Counts what is unknown as scores come, in bounded memory, and reports it at the end.

    Args:
        in_lines: Whether the number of a sentence is that of its line.
    """

    def __init__(self, *, in_lines: bool = True) -> None:
        self._in_lines = in_lines
        self._counts: Counter[str] = Counter()
        self._first: dict[str, int] = {}
        self._total = ScoreSum()
        self._skipped = self._empty = self._left_out = 0

    def counted(self, scores: Iterable[SentenceScore]) -> Iterator[SentenceScore]:
        """The same scores, as they come."""
        for score in scores:
            self._total += score
            self._count(score.line, score.unknown_surfaces)
            yield score

    def skipped(self, line: int, unknown: tuple[str, ...]) -> None:
        """A sentence that was left out, because of this or because it is empty."""
        self._skipped += bool(unknown)
        self._empty += not unknown
        self._left_out += len(unknown)
        self._count(line, unknown)

    def say(self) -> None:
        """Write notes to stderr, if anything was unknown or left out."""
        if self._empty:
            note(f"empty sentences left out: {count(self._empty)}")
        if self._skipped:
            note(f"sentences left out for something unknown: {count(self._skipped)}")
        number = self._total.unknown + self._left_out
        if not number:
            return
        message = f"unknown to the model: {count(number)}"
        if self._total.unknown:
            message += f" ({self._total.unknown / self._total.tokens:.2%} of the tokens)"
        if self._counts:
            many = "" if len(self._counts) < _MOST_COUNTED else "more than "
            named = ", ".join(map(self._described, self._counts.most_common(_MOST_NAMED)))
            message += f", {many}{count(len(self._counts))} different: {named}"
        note(message)
        if not self._total.comparable:
            note("the figures leave out how that is spelt; --open-vocabulary puts it in")

    def _described(self, counted: tuple[str, int]) -> str:
        """Short names with their code points, which distinguish look-alikes."""
        name, times = counted
        codes = " ".join(f"U+{ord(character):04X}" for character in name)
        spelled = f" ({codes})" if len(name) <= _LONGEST_SPELLED else ""
        where = f", first in line {self._first[name]}" if self._in_lines else ""
        return f"{name!r}{spelled} {times} time{'s' * (times != 1)}{where}"

    def _count(self, line: int, unknown: tuple[str, ...]) -> None:
        for name in unknown:
            if name in self._first or len(self._first) < _MOST_COUNTED:
                self._counts[name] += 1
                self._first.setdefault(name, line)
