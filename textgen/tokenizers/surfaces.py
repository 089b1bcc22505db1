"""What stretch of a text each of its tokens stands for, with the space before it."""

import re
from collections.abc import Callable, Iterable
from functools import cache, lru_cache

from textgen.config import UNIT_TERMINATORS, TokenizerConfig
from textgen.tokenizers.chunks import OTHER_SPACES
from textgen.tokenizers.splitting import GLUE, LONGEST_CHUNK, SplitChunk, written

_MOST_CHUNKS = 2**16
_LONGEST_REMEMBERED = 64
_JOINTS = frozenset({"\n", "\n\n", GLUE})  # chunks that take no space on either side

Surfaces = Callable[[Iterable[list[str]]], list[str]]


def of_chunks(config: TokenizerConfig, split: SplitChunk) -> Surfaces:
    """The function from the lists of chunks of a text to the surfaces of their tokens.

    For ``punctuation``, which loses nothing: inside a chunk no token takes a space.
    """

    def work_out(chunk: str, spaced: bool) -> tuple[str, ...]:
        if chunk in _JOINTS:
            return (chunk.strip(GLUE),)
        texts = [written(token).text if token else config.unk_literal for token in split(chunk)]
        return (f"{' ' * spaced}{texts[0]}", *map(str, texts[1:]))

    remembered = lru_cache(_MOST_CHUNKS)(work_out)

    def surfaces(lists: Iterable[list[str]]) -> list[str]:
        found: list[str] = []
        spaced = False
        for chunks in lists:
            for chunk in chunks:
                short = len(chunk) <= _LONGEST_REMEMBERED
                found += (remembered if short else work_out)(chunk, spaced)
                spaced = chunk not in _JOINTS
        return found

    return surfaces


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
