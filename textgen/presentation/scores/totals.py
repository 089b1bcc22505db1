"""What is said to a person of sums: a line, a small table a unit, footnotes, a comparison."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from textgen.config import LogBase
from textgen.metrics import in_base, perplexity
from textgen.presentation.columns import Cell, Column, Columns
from textgen.presentation.console import say
from textgen.presentation.numbers import count, figure, fixed, times
from textgen.presentation.scores.base import Shown, base_name, log_name
from textgen.results import ScoreSum

_ROOM_FOR_COUNTS = 48  # columns
_UNITS = {"e": " (nats)", "2": " (bits)"}


def sum_line(score: ScoreSum, shown: Shown) -> Text:
    """What a row of the table of sentences says, in one line."""
    log_prob = fixed(shown.log(score.log_prob), 3)
    without = f" ({figure(score.perplexity_without_unknown)})" if score.unknown else ""
    unknown = f" ({count(score.unknown)} unk)" if score.unknown else ""
    last: list[str | tuple[str, str]] = [f"  {bits(score)}", (" bits/char", "label")]
    return Text.assemble(
        (f"  {shown.log_name} ", "label"),
        f"{log_prob}  {count(score.tokens)}",
        (f" token{'' if score.tokens == 1 else 's'}", "label"),
        (unknown, "unknown"),
        ("  pseudo-perplexity " if score.pseudo else "  perplexity ", "label"),
        f"{figure(score.perplexity)}{without}",
        *([] if score.pseudo else last),
    )


def bits(score: ScoreSum) -> str:
    """Bits a character, with the mark of what does not compare."""
    return fixed(score.bits_per_character, 3) + mark(score)


def mark(score: ScoreSum) -> str:
    """What stands after a figure that does not compare between models."""
    return "" if score.comparable else "*"


def per_unit(total: ScoreSum, shown: Shown, console: Console) -> str:
    """The same sum a token, a word, a character and a byte: models of other tokens compare."""
    units = {
        "token": total.tokens,
        "word": total.words,
        "character": total.characters,
        "byte": total.bytes,
    }
    if total.pseudo:
        units = {"token": total.tokens}
    counted = console.width >= _ROOM_FOR_COUNTS
    columns = (
        Column("", 13, right=False),
        *([Column("count", 9)] if counted else []),
        Column(shown.log_name, 12 if shown.pseudo else 8),
        Column("pseudo-perplexity" if shown.pseudo else "perplexity", 17 if shown.pseudo else 11),
    )
    table = Columns(columns, console)
    rows = [table.row([(column.name, "label") for column in columns])]
    for name, units_counted in units.items():
        if units_counted:
            each = total.log_prob / units_counted
            starred = mark(total) if name != "token" else ""
            cells: Sequence[Cell] = (
                (f"per {name}", "label"),
                *([count(units_counted)] if counted else []),
                fixed(shown.log(each), 3),
                figure(perplexity(-each)) + (starred or " "),
            )
            rows.append(table.row(cells))
    return "".join(rows)


def footnotes(total: ScoreSum, shown: Shown) -> Sequence[Text]:
    """What the figures are of."""
    base = base_name(shown.base)
    said = f"Logarithms are to base {base}{_UNITS.get(base, '')}."
    said += " Each sentence's <EOS> is counted." if shown.eos else " <EOS> is not counted."
    if shown.level != "sentence" and not shown.pseudo:
        said += f" A {shown.level}'s bits are its surprisal, -log2 p."
    notes = [Text(said, style="label")]
    if shown.pseudo:
        said = "Each token is given all others of its sentence: no probability of the text."
        notes.append(Text(said, style="label"))
    if total.unknown:
        many = f"{count(total.unknown)} unknown token{'s' if total.unknown != 1 else ''}"
        notes.append(Text("( ) without the unknown tokens, which are <UNK>.", style="warning"))
        if total.pseudo:
            pass
        elif total.comparable:
            said = f"The spelling of {many} is in the figures: they are comparable."
            notes.append(Text(said, style="label"))
        else:
            said = f"* not comparable between models: without the spelling of {many}."
            notes.append(Text(said, style="warning"))
    return notes


def sentence_count(sentences: int) -> str:
    return f"{count(sentences)} sentence{'' if sentences == 1 else 's'}"


def comparison(first: ScoreSum, second: ScoreSum, base: LogBase) -> Text:
    """Which of two texts is likelier and by how much: in the base, as odds, and a token."""
    difference = first.log_prob - second.log_prob
    if difference == 0:
        return Text("Both are equally likely.")
    scores = (first, second) if difference > 0 else (second, first)
    name, called = "first" if difference > 0 else "second", log_name(base)
    by = fixed(in_base(abs(difference), base), 2)
    if first.pseudo:
        return Text(f"The {name} fits better: its pseudo {called} is greater by {by}.", "good")
    said = Text.assemble(
        (f"The {name} is {times(abs(difference))} times likelier", "good"),
        f": its {called} is greater by {by}.\n",
    )
    each = [fixed(in_base(score.log_prob, base) / max(1, score.tokens), 3) for score in scores]
    said.append(f"Per token its {called} is {each[0]} and the other's {each[1]}")
    tokens = [count(score.tokens) for score in scores]
    over = f"{tokens[0]} and {tokens[1]}" if tokens[0] != tokens[1] else f"{tokens[0]} each"
    said.append(f" (tokens: {over}).")
    if not (first.comparable and second.comparable):
        said.append("\nUnknown tokens stand for anything unseen: compare with care.", "warning")
    return said


def say_totals(total: ScoreSum, sentences: int, base: LogBase) -> None:
    """The totals on stderr, for a format on stdout that has no room for them."""
    log_prob = fixed(in_base(total.log_prob, base), 2)
    pseudo = ("pseudo ", "pseudo-") if total.pseudo else ("", "")
    last = "" if total.pseudo else f", {bits(total)} bits a character"
    say(
        Text(
            f"{sentence_count(sentences)}, {count(total.tokens)} tokens, {count(total.unknown)}"
            f" unknown, {pseudo[0]}{log_name(base)} {log_prob},"
            f" {pseudo[1]}perplexity {figure(total.perplexity)}{last}",
            style="label",
            no_wrap=True,
        )
    )
