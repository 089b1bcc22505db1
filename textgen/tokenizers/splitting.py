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
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from textgen.config import TokenizerConfig

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
