"""Text to chunks: what stands between single spaces, each newline a chunk of its own.

    "the king\\nsaid  no" -> ["the", "king", "\\n", "said", "", "no"]

An empty line has no chunk; a line of one space has two empty ones. With paragraphs the pair of
newlines that ends one is a single chunk.
"""

from collections.abc import Iterable, Iterator

from textgen.config import TokenizerConfig
from textgen.tokenizers.splitting import GLUE, LONGEST_CHUNK

_LONGEST_HELD = 2**16
_BLOCK_CHARACTERS = 2**16  # what is split in one go, so that it stays in the processor's cache
OTHER_SPACES = "\t\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + (
    "".join(map(chr, range(0x2000, 0x200B)))
)


def chunks(config: TokenizerConfig, text: str) -> Iterator[list[str]]:
    """The chunks of a text, a list at a time."""
    return chunks_of_pieces(config, [text])


def chunks_of_pieces(config: TokenizerConfig, texts: Iterable[str]) -> Iterator[list[str]]:
    """The chunks of a text that comes in pieces, the same wherever it was cut."""
    stream = ChunkStream(config)
    for text in texts:
        yield from stream.feed(text)
    yield from stream.finish()


class ChunkStream:
    """Takes text as it comes and holds back a chunk whose end has not come.

    What it holds starts with the space that is before it where ``_in_line`` is true; otherwise
    it starts a line, or goes on with a chunk too long to be held.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        self._unit = config.unit
        self._any_space = config.split == "whitespace"
        self._held = ""
        self._in_line = False

    def feed(self, text: str) -> Iterator[list[str]]:
        """The chunks that are settled once this text is known, a list at a time."""
        if self._any_space:
            text = _with_plain_spaces(text)
        text = self._held + text
        end, in_line = _settled(text, self._in_line)
        if end:
            yield from self._lists(text[:end])
        self._held, self._in_line = text[end:], in_line
        if len(self._held) > _LONGEST_HELD:
            yield from self._part_of_chunk()

    def finish(self) -> Iterator[list[str]]:
        """The chunks that were held back."""
        if self._held:
            yield from self._lists(self._held)
        self._held, self._in_line = "", False

    def _part_of_chunk(self) -> Iterator[list[str]]:
        # Cut where the splitter would cut the whole chunk, which has at least one more character.
        start = int(self._in_line)
        end = start + (len(self._held) - start - 1) // LONGEST_CHUNK * LONGEST_CHUNK
        yield from self._lists(self._held[:end])
        yield [GLUE]
        self._held, self._in_line = self._held[end:], False

    def _lists(self, text: str) -> Iterator[list[str]]:
        if self._unit == "paragraph":
            paragraphs = text.split("\n\n")
            spaced = " \n\n ".join(lines.replace("\n", " \n ") for lines in paragraphs)
        else:
            spaced = text.replace("\n", " \n ")
        if "\n  \n" in spaced:  # an empty line; twice, because neighbours share a newline
            spaced = spaced.replace("\n  \n", "\n \n").replace("\n  \n", "\n \n")
        if self._in_line or spaced.startswith(" \n"):
            spaced = spaced[1:]
        if spaced.endswith("\n "):
            spaced = spaced[:-1]
        start = 0
        while (end := spaced.find(" ", start + _BLOCK_CHARACTERS)) >= 0:
            yield spaced[start:end].split(" ")
            start = end + 1
        yield spaced[start:].split(" ")


def _settled(text: str, in_line: bool) -> tuple[int, bool]:
    """How many characters need no more to be split, and whether the next is inside a line."""
    newline, space = text.rfind("\n"), text.rfind(" ")
    if newline > space:
        return newline + 1, False
    if space <= 0:
        return 0, in_line
    return space, text[space - 1] != "\n"


def _with_plain_spaces(text: str) -> str:
    for space in OTHER_SPACES:
        if space in text:
            text = text.replace(space, " ")
    return text
