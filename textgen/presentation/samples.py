"""Samples for people, on a terminal piece by piece; and predictions."""

import sys

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text

from textgen.presentation.console import Drawn, emit, note, show, shown
from textgen.presentation.numbers import count, figure, share
from textgen.presentation.tables import token_text, visible
from textgen.results import Prediction, Sample, by_text

_SEPARATOR = "---------------\n"  # between samples in a file or a pipe, as in nanoGPT
_LONGEST_BAR = 40

RUNNING = "\n\t\u200c\u200d\ufe0e\ufe0f"
"""What is not escaped in a text that comes in pieces: joiners act on the pieces around them."""


class SampleWriter:
    """Writes one sample after another to stdout, each after its prompt.

    On a terminal the prompt is bold and control characters are escaped; in a file or a pipe the
    text is exactly what the model generated, with a newline at its end. Samples are written in
    the order of their numbers, whichever is finished first.

    Attributes:
        streams: Whether pieces are written before a sample is finished: on a terminal.
    """

    def __init__(self, samples: int) -> None:
        self.streams = sys.stdout.isatty()
        self._samples = samples
        self._waiting: dict[int, Sample] = {}
        self._begun: int | None = None
        self._ended = 0  # the number of finished samples
        self._last = ""

    def piece(self, index: int, prompt: str, text: str) -> None:
        """Write a piece of the sample with this index."""
        if index != self._begun:
            self._begin(index, prompt)
        if text:
            emit(Drawn(shown(text, keep=RUNNING)) if self.streams else text)
            self._last = text

    def sample(self, sample: Sample) -> None:
        """Write a finished sample and those that wait for it, except pieces already written."""
        self._waiting[sample.index] = sample
        while (ready := self._waiting.pop(self._ended, None)) is not None:
            if ready.index != self._begun:
                self._begin(ready.index, ready.prompt)
                self._write(ready)
            self._ended += 1

    def _begin(self, index: int, prompt: str) -> None:
        self.end()
        if self._samples > 1 and self.streams:
            title = Text(f"{count(index + 1)} of {count(self._samples)}", style="label")
            show(Rule(title, style="faint", align="left"))
        elif index > 0:
            emit(_SEPARATOR)
        self._begun, self._last = index, prompt
        if self.streams:
            self._emit(Text(shown(prompt, keep="\n\t"), style="bold"))
        else:
            emit(prompt)

    def _write(self, sample: Sample) -> None:
        """Write a finished text; on a terminal, copied stretches are marked."""
        novelty = sample.novelty
        if novelty is None or not self.streams:
            self.piece(sample.index, sample.prompt, sample.text)
        else:
            text, end = Text(), 0
            for start, stop in (*novelty.stretches, (len(sample.text),) * 2):
                text.append(shown(sample.text[end:start], keep="\n\t"))
                text.append(shown(sample.text[start:stop], keep="\n\t"), style="copied")
                end = stop
            self._emit(text)
            self._last = sample.text or self._last
        if novelty is not None:
            self.end()
            drawn = f"; drawn {count(sample.drawn)} times" if sample.drawn > 1 else ""
            note(
                f"sample {count(sample.index + 1)}: {share(novelty.copied_share)} copied,"
                f" the longest stretch {count(novelty.longest_copied)} characters{drawn}"
            )

    def _emit(self, text: Text) -> None:
        text.no_wrap = True
        show(text, ended=False)

    def end(self) -> None:
        """End the last line."""
        if self._begun is not None and not self._last.endswith("\n"):
            emit("\n")
            self._last = "\n"


def prediction_bars(prediction: Prediction, most: int, width: int) -> RenderableType:
    """A line for each of the most probable choices, and one for the rest."""
    choices = by_text(prediction.choices)[:most]
    names = [token_text(choice.text, choice.id) for choice in choices]
    columns = (Column(no_wrap=True), Column(justify="right", no_wrap=True), Column(no_wrap=True))
    table = Table.grid(*columns, padding=(0, 2, 0, 0))
    widest = max((name.cell_len for name in names), default=0)
    room = max(8, min(_LONGEST_BAR, width - widest - 14))
    largest = max((choice.probability for choice in choices), default=1.0)
    for name, choice in zip(names, choices, strict=True):
        bar = Bar(largest, 0, choice.probability, width=room, color="cyan")
        table.add_row(name, share(choice.probability), bar)
    rest = 1 - sum(choice.probability for choice in choices)
    if rest > 1e-9:
        table.add_row(Text("all others", "label"), Text(share(rest), "label"), "")
    if prediction.entropy is None:
        return table
    return Group(table, Text(f"entropy {figure(prediction.entropy, 3)} bits", "label"))


def numbered_choices(prediction: Prediction) -> str:
    """The choices by number, one per line."""
    return "".join(
        f"{number:>4}  {visible(choice.text, choice.id)}  {share(choice.probability)}\n"
        for number, choice in enumerate(prediction.choices, start=1)
    )
