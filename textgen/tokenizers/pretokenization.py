"""Text to chunks to words: pre-tokenization by white space, or losslessly with joiner marks.

Chunks are separated by single spaces; each newline is a chunk of its own. An empty line
has no chunk, a line of one space has two empty ones. With ``--unit paragraph`` the pair of
newlines that ends a paragraph is one chunk.

    "the king\\nsaid  no" -> ["the", "king", "\\n", "said", "", "no"]

Each chunk is split into tokens. With ``--split punctuation`` a token is a word (a run of letters,
digits and combining marks of any script, with apostrophes inside) or any other single character.
There is a space between two tokens unless one of them has a joiner mark ``￭`` on that side (as in
OpenNMT's tokenizer):

    He said, "well-known (sic)."   ->   He said ￭, "￭ well ￭-￭ known (￭ sic ￭) ￭. ￭"

- A word has no mark, so it has one id everywhere. The adjacent symbol has the mark.
- Of two adjacent symbols, the right one has the mark, on its left.
- A space without a word (two spaces, or one at the end of a line) is the empty token ``％0020``:
  ``a  b`` -> ``a ％0020 b``.
- A literal ``￭`` is the symbol ``％FFED``. No other token of several characters starts with ``％``.
- A chunk of more than 1024 characters is split every 1024, and the parts are joined by the token
  ``￭``; so are two words without a symbol between them (possible only with ``--unk-literal``).
- The newline (with units other than line) is a token without spaces around it.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from textgen.config import UNIT_TERMINATORS, TokenizerConfig, Unit
from textgen.tokenizers.base import LONGEST_SYMBOL

JOINER = "\uffed"
EMPTY = "\uff050020"
GLUE = " "  # a chunk that joins the chunks before and after it to one
UNKNOWN = ""  # the token of ``--unk-literal``; no other token is empty
UNSPACED_CHUNKS = frozenset({"\n", "\n\n", GLUE})  # without a space on either side
LONGEST_CHUNK = LONGEST_SYMBOL
_LONGEST_PENDING = 2**16
_BLOCK_CHARACTERS = 2**17  # encoded at a time: a larger block does not fit the processor's cache
_BLOCK_END = re.compile(r"(?= )|\n(?!\n)")
_ESCAPED_JOINER = "\uff05FFED"
APOSTROPHES = "'\u2019"
_MARK_BLOCKS = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))  # with all combining marks
OTHER_SPACES = "\t\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + (
    "".join(map(chr, range(0x2000, 0x200B)))
)


@dataclass(frozen=True, slots=True)
class TokenForm:
    """The text of a token, and on which sides it has no space."""

    text: str
    joins_left: bool = False
    joins_right: bool = False


def token_form(token: str) -> TokenForm:
    """The form of a token of ``--split punctuation``.

    >>> token_form("\uffed,")
    TokenForm(text=',', joins_left=True, joins_right=False)
    """
    if token in (JOINER, "\n"):
        return TokenForm(token.strip(JOINER), joins_left=True, joins_right=True)
    if token == EMPTY:
        return TokenForm("")
    core = token.removeprefix(JOINER).removesuffix(JOINER)
    text = JOINER if core == _ESCAPED_JOINER else core
    return TokenForm(text, token.startswith(JOINER), token.endswith(JOINER))


def symbol_token(symbol: str, joins_left: bool, joins_right: bool) -> str:
    """The token of ``--split punctuation`` for a symbol of the text, as ``token_form`` reads it."""
    core = _ESCAPED_JOINER if symbol == JOINER else symbol
    return JOINER * joins_left + core + JOINER * joins_right


def is_word_character(char: str) -> bool:
    """Whether this is a letter, digit or combining mark of any script.

    >>> [is_word_character(char) for char in "é7_\u0301’"]
    [True, True, False, True, False]
    """
    return char.isalnum() or unicodedata.category(char).startswith("M")


def chunk_splitter(config: TokenizerConfig) -> Callable[[str], tuple[str, ...]]:
    """The function from a chunk to its tokens. The newline is a chunk, and so is ``GLUE``."""
    literal = config.unk_literal

    def by_white_space(chunk: str) -> tuple[str, ...]:
        if chunk in ("\n", GLUE):
            return ()
        return tuple(UNKNOWN if part == literal else part for part in _parts(chunk))

    def by_punctuation(chunk: str) -> tuple[str, ...]:
        if chunk in ("\n", GLUE, ""):
            return ({"\n": "\n", GLUE: JOINER, "": EMPTY}[chunk],)
        if literal is None and len(chunk) <= LONGEST_CHUNK:  # most chunks are of these two forms
            if chunk.isalnum():
                return (chunk,)
            if chunk[-1] in ".,;:!?" and chunk[:-1].isalnum():
                return (chunk[:-1], JOINER + chunk[-1])
        tokens: list[str] = []
        for part in _parts(chunk):
            tokens += [JOINER] if tokens else []
            tokens += _marked_tokens(part, literal)
        return tuple(tokens)

    return by_punctuation if config.split == "punctuation" else by_white_space


def _parts(chunk: str) -> list[str]:
    return [chunk[at : at + LONGEST_CHUNK] for at in range(0, len(chunk), LONGEST_CHUNK)]


def _marked_tokens(chunk: str, literal: str | None) -> list[str]:
    """The words and symbols of a chunk, the symbols with joiner marks."""
    # (word, symbol) pairs, one of them empty; both are empty for ``--unk-literal``.
    parts = token_pattern(chunk.isascii(), literal).findall(chunk)
    tokens: list[str] = []
    after_word = False
    for (word, symbol), following in zip(parts, [*parts[1:], None], strict=True):
        if symbol:
            tokens.append(symbol_token(symbol, bool(tokens), bool(following and not following[1])))
        else:
            tokens += [JOINER, word or UNKNOWN] if after_word else [word or UNKNOWN]
        after_word = not symbol
    return tokens


@cache
def token_pattern(ascii_only: bool, literal: str | None) -> re.Pattern[str]:
    """Matches a token of a chunk without marks: a word or a symbol, its two groups.

    Neither matches ``literal``, that of ``--unk-literal``. ascii_only: whether the chunk is ASCII.
    """
    letter = "[0-9A-Za-z]" if ascii_only else rf"(?:[^\W_]|[{_combining_marks()}])"
    unknown = "(?!)"  # matches nowhere
    if literal is not None:
        ends_in_word = re.search(letter + r"\Z", literal)
        unknown = re.escape(literal) + (f"(?!{letter})" if ends_in_word else "")
    word = rf"{letter}+(?:[{APOSTROPHES}]{letter}+)*"
    return re.compile(f"{unknown}|({word})|(.)", re.DOTALL)


@cache
def _combining_marks() -> str:
    codes = (chr(code) for block in _MARK_BLOCKS for code in block)
    return "".join(char for char in codes if unicodedata.category(char).startswith("M"))


@dataclass(frozen=True, slots=True)
class Block:
    """Some chunks of a text: the text of them, which is empty for ``GLUE``.

    in_line: the text begins with the space before its first chunk; else it begins a line, or
        continues a chunk that was too long to be pending.
    """

    text: str
    in_line: bool

    def chunks(self, unit: Unit) -> list[str]:
        if not self.text:
            return [GLUE]
        if unit == "paragraph":
            paragraphs = self.text.split("\n\n")
            spaced = " \n\n ".join(lines.replace("\n", " \n ") for lines in paragraphs)
        else:
            spaced = self.text.replace("\n", " \n ")
        if "\n  \n" in spaced:  # an empty line; twice, because neighbours share a newline
            spaced = spaced.replace("\n  \n", "\n \n").replace("\n  \n", "\n \n")
        if self.in_line or spaced.startswith(" \n"):
            spaced = spaced[1:]
        if spaced.endswith("\n "):
            spaced = spaced[:-1]
        return spaced.split(" ")


def chunks(config: TokenizerConfig, texts: Iterable[str]) -> Iterator[list[str]]:
    """The chunks of a text in pieces, in lists; they do not depend on how."""
    return (block.chunks(config.unit) for block in blocks(config, texts))


def blocks(config: TokenizerConfig, texts: Iterable[str]) -> Iterator[Block]:
    """The blocks of a text in pieces."""
    stream = ChunkStream(config)
    for text in texts:
        yield from stream.feed(text)
    yield from stream.finish()


class ChunkStream:
    """Splits a text that arrives in pieces into blocks of chunks.

    The pending text and ``_in_line`` are a block that is not complete.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        self._any_space = config.split == "whitespace"
        self._pending = ""
        self._in_line = False

    def feed(self, text: str) -> Iterator[Block]:
        """The blocks of chunks that are complete with this text."""
        if self._any_space:
            text = _without_other_spaces(text)
        text = self._pending + text
        newline, space = text.rfind("\n"), text.rfind(" ")
        end, in_line = 0, self._in_line  # of the complete chunks; whether the next is in a line
        if newline > space:
            end, in_line = newline + 1, False
        elif space > 0:
            end, in_line = space, text[space - 1] != "\n"
        if end:
            yield from self._blocks(text[:end])
        self._pending, self._in_line = text[end:], in_line
        if len(self._pending) > _LONGEST_PENDING:
            # Split as the complete chunk will be, which continues.
            start = int(self._in_line)
            end = start + (len(self._pending) - start - 1) // LONGEST_CHUNK * LONGEST_CHUNK
            yield from self._blocks(self._pending[:end])
            yield Block("", in_line=False)
            self._pending, self._in_line = self._pending[end:], False

    def finish(self) -> Iterator[Block]:
        """The blocks of the pending text."""
        if self._pending:
            yield from self._blocks(self._pending)
        self._pending, self._in_line = "", False

    def _blocks(self, text: str) -> Iterator[Block]:
        start, in_line = 0, self._in_line
        while next_end := _BLOCK_END.search(text, start + _BLOCK_CHARACTERS):
            end = next_end.end()
            yield Block(text[start:end], in_line)
            start, in_line = end, text[end - 1] != "\n"
        if start < len(text):
            yield Block(text[start:], in_line)


def _without_other_spaces(text: str) -> str:
    """The text with a space for each other white space, in parts that fit the processor's cache."""
    parts = [text[at : at + _BLOCK_CHARACTERS] for at in range(0, len(text), _BLOCK_CHARACTERS)]
    for at, part in enumerate(parts):
        for other in OTHER_SPACES:
            if other in part:
                parts[at] = parts[at].replace(other, " ")
    return "".join(parts)


def whitespace_spans(config: TokenizerConfig, text: str) -> list[str]:
    """The words and terminators of a text, each with the white space before it.

    White space at the end of the text belongs to the last of them, if there is one.

    >>> whitespace_spans(TokenizerConfig(level="word", split="whitespace"), "a\\t b \\n c ")
    ['a', '\\t b', ' \\n', ' c ']
    """
    word = f"[^\n {re.escape(OTHER_SPACES)}]{{1,{LONGEST_CHUNK}}}"
    terminator = UNIT_TERMINATORS[config.unit]
    pattern = f"{terminator}|{word}" if terminator else word
    ends = [match.end() for match in re.finditer(pattern, text)]
    if ends:
        ends[-1] = len(text)
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
