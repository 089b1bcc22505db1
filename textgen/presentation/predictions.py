"""What may come next, as a bar chart."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from textgen.presentation.numbers import figure, share
from textgen.presentation.tokens import token_text, visible
from textgen.results import Prediction

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LONGEST_BAR = 40


def prediction_bars(prediction: Prediction, most: int, width: int) -> RenderableType:
    """A line for each of the likeliest choices, and one for the rest."""
    shown = prediction.choices[:most]
    rows = [(token_text(choice.text, choice.id), choice.probability) for choice in shown]
    rest = 1 - sum(probability for _, probability in rows)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    widest = max((text.cell_len for text, _ in rows), default=0)
    room = max(8, min(_LONGEST_BAR, width - widest - 14))
    largest = max((probability for _, probability in rows), default=1.0)
    for text, probability in rows:
        table.add_row(text, share(probability), Text(_bar(probability / largest, room), "accent"))
    if rest > 1e-9:
        table.add_row(Text("all others", "label"), Text(share(rest), "label"), "")
    if prediction.entropy is None:
        return table
    bits = figure(prediction.entropy, 3)
    return Group(table, Text(f"entropy {bits} bits", "label"))


def numbered_choices(prediction: Prediction) -> str:
    """The choices by number, a line each."""
    return "".join(
        f"{number:>4}  {visible(choice.text, choice.id)}  {share(choice.probability)}\n"
        for number, choice in enumerate(prediction.choices, start=1)
    )


def _bar(share_: float, room: int) -> str:
    """A bar of up to ``room`` cells, to an eighth of one."""
    eighths = round(share_ * room * 8)
    whole, part = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[part] if part else "")
