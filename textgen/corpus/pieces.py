"""Text in blocks to text in pieces, cut where no tokenizer minds."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from textgen.config import Unit

PIECE_CHARACTERS = 2**20


class Piece(NamedTuple):
    """A stretch of a corpus. ends_document: with ``--unit document``, a file ends here."""

    text: str
    ends_document: bool


def cut(blocks: Iterable[str], unit: Unit, largest: int = PIECE_CHARACTERS) -> Iterator[str]:
    """The same text in pieces of at most ``largest`` characters.

    Where the pieces end depends on the text alone, not on the blocks. A piece ends after its
    last terminator; without one, after its last newline; without that, before its last run of
    spaces; without that, at ``largest`` characters. So an over-long sentence is cut by its own
    text, counted from its own start. A pair of newlines that ends a paragraph stays whole.
    """
    rest = ""
    for block in blocks:
        rest += block
        while len(rest) > largest:
            place = _place(rest, unit, largest)
            yield rest[:place]
            rest = rest[place:]
    if rest:
        yield rest


def _place(text: str, unit: Unit, largest: int) -> int:
    if unit == "paragraph":
        pair = text.rfind("\n\n", 0, largest)
        if pair >= 0:
            run = len(text[:pair].rstrip("\n"))  # pairs are counted from the start of their run
            return run + (pair + 2 - run) // 2 * 2
        largest -= text[largest - 1] == "\n"
    newline = text.rfind("\n", 0, largest)
    if newline >= 0:
        return newline + 1
    space = text.rfind(" ", 1, largest)
    before_spaces = len(text[: space + 1].rstrip(" ")) if space > 0 else 0
    return before_spaces or largest
