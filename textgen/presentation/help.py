"""The help pages: what a command is for, its options in panels, examples to copy."""

from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from textgen.presentation.console import out_console, show

_WIDEST = 100
_NARROW = 64
_LEFT_SHARE = 0.42


@dataclass(frozen=True)
class HelpRow:
    """One option, argument or command. remark: choices and default, shown faintly."""

    name: str
    value: str
    text: str
    remark: str = ""


@dataclass(frozen=True)
class HelpPage:
    """examples: pairs of what for and how; where the former is empty it is the one before's."""

    usage: str
    text: str
    panels: tuple[tuple[str, tuple[HelpRow, ...]], ...]
    examples: tuple[tuple[str, str], ...] = ()


def show_help(page: HelpPage) -> None:
    """Write a help page to stdout. A line of over a hundred columns is tiring: none is longer."""
    width = min(out_console().width, _WIDEST)
    show(help_page(page, width), widest=_WIDEST)


def help_page(page: HelpPage, width: int) -> RenderableType:
    rows = [row for _, panel in page.panels for row in panel]
    longest = max((len(_left(row).plain) for row in rows), default=0)
    left = min(longest, int(width * _LEFT_SHARE))
    usage = Text.assemble(("Usage: ", "label"), (page.usage, "heading"))
    parts: list[RenderableType] = [Padding(usage, (1, 1, 1, 1)), Padding(_prose(page.text), (0, 1))]
    parts.append(Text())
    parts += [
        _panel(title, _rows(panel, left, narrow=width < _NARROW)) for title, panel in page.panels
    ]
    if page.examples:
        parts.append(Padding(_examples(page.examples), (0, 1)))
    return Group(*parts)


def _prose(text: str) -> RenderableType:
    """Paragraphs, filled to the width; an indented one is kept line by line."""
    blocks: list[RenderableType] = []
    for paragraph in text.strip().split("\n\n"):
        if blocks:
            blocks.append(Text())
        kept = paragraph.startswith("  ")
        blocks.append(Text(paragraph if kept else " ".join(paragraph.split())))
    return Group(*blocks)


def _left(row: HelpRow) -> Text:
    return Text.assemble((row.name, "accent"), (f" {row.value}" if row.value else "", "label"))


def _right(row: HelpRow) -> Text:
    text = Text(row.text)
    if row.remark:
        text.append(f" [{row.remark}]", "faint")
    return text


def _rows(rows: tuple[HelpRow, ...], left: int, *, narrow: bool) -> RenderableType:
    """Name and text side by side; one under the other where there is no room for that."""
    if narrow:
        return Group(
            *(part for row in rows for part in (_left(row), Padding(_right(row), (0, 0, 0, 4))))
        )
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=left)
    table.add_column(ratio=1)
    for row in rows:
        table.add_row(_left(row), _right(row))
    return table


def _panel(title: str, body: RenderableType) -> Panel:
    return Panel(body, title=title, title_align="left", border_style="faint", box=box.ROUNDED)


def _examples(examples: tuple[tuple[str, str], ...]) -> RenderableType:
    parts: list[RenderableType] = [Text("Examples", style="heading")]
    for purpose, command in examples:
        if purpose:
            parts.append(Padding(Text(purpose, style="label"), (0, 0, 0, 2)))
        parts.append(Padding(Text(command, style="accent"), (0, 0, 0, 4)))
    return Group(*parts)
