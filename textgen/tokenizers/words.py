"""How a line becomes words: by white space, or losslessly with joiner marks.

A line is split on single spaces into chunks, and each chunk on its own into tokens. With
``punctuation`` a token is a word (a run of letters, digits and combining marks of any script,
apostrophes inside it included) or any other single character. A space stands between two
tokens exactly where neither has a joiner mark ``￭`` on that side (as in OpenNMT's tokenizer):

    He said, "well-known (sic)."   ->   He said ￭, "￭ well ￭-￭ known (￭ sic ￭) ￭. ￭"

- A word carries no mark, so it has one id wherever it stands. The symbol beside it does.
- Of two symbols, the right one carries the mark, on its left.
- Where a space would be without a word (two spaces, or one at a line's end) stands ``％0020``,
  an empty token: ``a  b`` -> ``a ％0020 b``.
- A literal ``￭`` is the symbol ``％FFED``. No other token starts with ``％`` and goes on.
- A chunk of more than 1024 characters is cut every 1024, the parts joined by the token ``￭``;
  so are two words without a symbol between (only ``--unk-literal`` makes such).
- The newline (with units other than line) is a token that takes no spaces.

Text to chunks: what stands between single spaces, each newline a chunk of its own.

    "the king\\nsaid  no" -> ["the", "king", "\\n", "said", "", "no"]

An empty line has no chunk; a line of one space has two empty ones. With paragraphs the pair of
newlines that ends one is a single chunk.

What stretch of a text each of its tokens stands for, with the space before it.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

from textgen.config import UNIT_TERMINATORS, TokenizerConfig

JOINER = "\uffed"
EMPTY = "\uff050020"
GLUE = " "  # in the place of a chunk: the chunks before and after it are one
UNKNOWN = ""  # what ``--unk-literal`` names; no token is empty
LONGEST_CHUNK = 1024
_ESCAPED_JOINER = "\uff05FFED"
_APOSTROPHES = "'\u2019"
# Every combining mark that Unicode has is in one of these.
_MARK_BLOCKS = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))

SplitChunk = Callable[[str], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Written:
    """What a token writes, and on which sides it takes no space."""

    text: str
    joins_left: bool = False
    joins_right: bool = False


def written(token: str) -> Written:
    """What a token of the ``punctuation`` scheme writes.

    >>> written("\uffed,")
    Written(text=',', joins_left=True, joins_right=False)
    """
    if token in (JOINER, "\n"):
        return Written(token.strip(JOINER), joins_left=True, joins_right=True)
    if token == EMPTY:
        return Written("")
    core = token.removeprefix(JOINER).removesuffix(JOINER)
    text = JOINER if core == _ESCAPED_JOINER else core
    return Written(text, token.startswith(JOINER), token.endswith(JOINER))


def splitter(config: TokenizerConfig) -> SplitChunk:
    """The function from a chunk to its tokens. The newline is a chunk, and so is ``GLUE``."""
    literal = config.unk_literal

    def by_white_space(chunk: str) -> tuple[str, ...]:
        if chunk in ("\n", GLUE):
            return ()
        return tuple(UNKNOWN if part == literal else part for part in _parts(chunk))

    def by_punctuation(chunk: str) -> tuple[str, ...]:
        if chunk in ("\n", GLUE, ""):
            return ({"\n": "\n", GLUE: JOINER, "": EMPTY}[chunk],)
        if literal is None and len(chunk) <= LONGEST_CHUNK:  # most chunks are as simple as this
            if chunk.isalnum():
                return (chunk,)
            if chunk[-1] in ".,;:!?" and chunk[:-1].isalnum():
                return (chunk[:-1], JOINER + chunk[-1])
        tokens: list[str] = []
        for part in _parts(chunk):
            tokens += [JOINER] if tokens else []
            tokens += _marked(part, literal)
        return tuple(tokens)

    return by_punctuation if config.split == "punctuation" else by_white_space


def _parts(chunk: str) -> list[str]:
    """The chunk, cut where it is longer than any chunk of real text."""
    return [chunk[at : at + LONGEST_CHUNK] for at in range(0, len(chunk), LONGEST_CHUNK)]


def _marked(chunk: str, literal: str | None) -> list[str]:
    """The tokens of a chunk, each symbol with the marks that say where no space is."""
    # (word, symbol) each, one of them empty; both where it is what ``--unk-literal`` names
    parts = _pattern(chunk.isascii(), literal).findall(chunk)
    tokens: list[str] = []
    before_is_symbol = True  # or there is nothing before
    for (word, symbol), following in zip(parts, [*parts[1:], None], strict=True):
        if symbol:
            core = _ESCAPED_JOINER if symbol == JOINER else symbol
            left = JOINER if tokens else ""
            right = JOINER if following and not following[1] else ""
            tokens.append(left + core + right)
        else:
            if not before_is_symbol:
                tokens.append(JOINER)
            tokens.append(word or UNKNOWN)
        before_is_symbol = bool(symbol)
    return tokens


@cache
def _pattern(ascii_only: bool, literal: str | None) -> re.Pattern[str]:
    letter = "[0-9A-Za-z]" if ascii_only else rf"(?:[^\W_]|[{_combining_marks()}])"
    unknown = "(?!)"  # which matches nowhere
    if literal is not None:
        ends_in_word = re.search(letter + r"\Z", literal)
        unknown = re.escape(literal) + (f"(?!{letter})" if ends_in_word else "")
    word = rf"{letter}+(?:[{_APOSTROPHES}]{letter}+)*"
    return re.compile(f"{unknown}|({word})|(.)", re.DOTALL)


@cache
def _combining_marks() -> str:
    """The combining marks as the inside of a character class."""
    marks = [
        code
        for block in _MARK_BLOCKS
        for code in block
        if unicodedata.category(chr(code)).startswith("M")
    ]
    return "".join(map(chr, marks))


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


_MOST_CHUNKS = 2**16
_LONGEST_REMEMBERED = 64
_JOINTS = frozenset({"\n", "\n\n", GLUE})  # chunks that take no space on either side

Surfaces = Callable[[Iterable[list[str]]], list[str]]


def of_chunks(config: TokenizerConfig, split: SplitChunk) -> Surfaces:
    """The function from the lists of chunks of a text to the token_texts of their tokens.

    For ``punctuation``, which loses nothing: inside a chunk no token takes a space.
    """

    def work_out(chunk: str, spaced: bool) -> tuple[str, ...]:
        if chunk in _JOINTS:
            return (chunk.strip(GLUE),)
        texts = [written(token).text if token else config.unk_literal for token in split(chunk)]
        return (f"{' ' * spaced}{texts[0]}", *map(str, texts[1:]))

    remembered = lru_cache(_MOST_CHUNKS)(work_out)

    def token_texts(lists: Iterable[list[str]]) -> list[str]:
        found: list[str] = []
        spaced = False
        for chunks in lists:
            for chunk in chunks:
                short = len(chunk) <= _LONGEST_REMEMBERED
                found += (remembered if short else work_out)(chunk, spaced)
                spaced = chunk not in _JOINTS
        return found

    return token_texts


def between_spaces(config: TokenizerConfig, text: str) -> list[str]:
    """The words and terminators of a text, each with the white space before it.

    White space at the text's end goes with the last of them, if there is one.

    >>> between_spaces(TokenizerConfig(level="word", split="whitespace"), "a\\t b \\n c ")
    ['a', '\\t b', ' \\n', ' c ']
    """
    ends = [match.end() for match in _words(UNIT_TERMINATORS[config.unit]).finditer(text)]
    if ends:
        ends[-1] = len(text)
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@cache
def _words(terminator: str) -> re.Pattern[str]:
    word = f"[^\n {re.escape(OTHER_SPACES)}]{{1,{LONGEST_CHUNK}}}"
    return re.compile(f"{terminator}|{word}" if terminator else word)
