"""Samples as they are written: on a terminal piece by piece, elsewhere each when it is whole."""

import sys

from rich.rule import Rule
from rich.text import Text

from textgen.presentation.console import emit, laid_out, note, out_console, shown
from textgen.presentation.numbers import count, share
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
                self._begin(ready.index, ready.prompt)
                self._write(ready)
            self._ended += 1

    def _write(self, sample: Sample) -> None:
        """A whole text, what is copied of it marked on a terminal."""
        if sample.novelty is None or not self._terminal:
            self.piece(sample.index, sample.prompt, sample.text)
        else:
            text, end = Text(end=""), 0
            for start, stop in sample.novelty.stretches:
                text.append(shown(sample.text[end:start], keep="\n\t"))
                text.append(shown(sample.text[start:stop], keep="\n\t"), style="copied")
                end = stop
            text.append(shown(sample.text[end:], keep="\n\t"))
            text.no_wrap = True
            emit(laid_out(self._console, text).removesuffix("\n"))
            self._last = sample.text or self._last
        if sample.novelty is not None:
            self.end()
            note(_novelty(sample))

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


def _novelty(sample: Sample) -> str:
    assert sample.novelty is not None
    copied = sample.novelty
    line = (
        f"sample {count(sample.index + 1)}: {share(copied.copied_share)} copied,"
        f" the longest stretch {count(copied.longest_copied)} characters"
    )
    return line + (f"; drawn {count(sample.drawn)} times" if sample.drawn > 1 else "")
