"""Samples as they are written: on a terminal piece by piece, elsewhere each when it is whole."""

import sys

from rich.rule import Rule
from rich.text import Text

from textgen.presentation.console import emit, laid_out, out_console, shown
from textgen.presentation.numbers import count
from textgen.results import Sample

_SEPARATOR = "---------------\n"
"""Between samples where no person watches; nanoGPT's."""


class SampleWriter:
    """Writes one sample after another to stdout, each begun with its prompt.

    On a terminal the prompt is bold, and what would drive the terminal is escaped; in a file
    or a pipe the text is exactly what the model wrote, with a newline at its end. Samples come
    in the order of their numbers, whichever is finished first.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._terminal = sys.stdout.isatty()
        self._console = out_console()
        self._waiting: dict[int, Sample] = {}
        self._begun: int | None = None
        self._ended = 0  # so many samples
        self._last = ""

    @property
    def streams(self) -> bool:
        """Whether pieces are worth having before a sample is whole."""
        return self._terminal

    def piece(self, index: int, prompt: str, text: str) -> None:
        """Write a piece of the sample with this index."""
        if index != self._begun:
            self._begin(index, prompt)
        if text:
            emit(shown(text, keep="\n\t") if self._terminal else text)
            self._last = text

    def sample(self, sample: Sample) -> None:
        """Write a whole sample, and those that waited for it; its pieces are not written again."""
        self._waiting[sample.index] = sample
        while (ready := self._waiting.pop(self._ended, None)) is not None:
            if ready.index != self._begun:
                self.piece(ready.index, ready.prompt, ready.text)
            self._ended += 1

    def end(self) -> None:
        """End the last line."""
        if self._begun is not None and not self._last.endswith("\n"):
            emit("\n")
            self._last = "\n"

    def _begin(self, index: int, prompt: str) -> None:
        self.end()
        if self._samples > 1 and self._terminal:
            title = Text(f"{count(index + 1)} of {count(self._samples)}", style="label")
            emit(laid_out(self._console, Rule(title, style="faint", align="left")))
        elif index > 0:
            emit(_SEPARATOR)
        self._begun, self._last = index, prompt
        if prompt and self._terminal:
            bold = Text(shown(prompt, keep="\n\t"), style="bold", no_wrap=True, end="")
            emit(laid_out(self._console, bold).removesuffix("\n"))
        else:
            emit(prompt)
