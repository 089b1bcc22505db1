"""The list of symbols that character and word tokenizers learn, and its file.

The words that were seen but not learned, from which the spelling of unknown words is known.

From chunks of text to ids by remembering: a text's chunks are mostly old acquaintances.
"""

import hashlib
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from textgen import storage
from textgen.config import TokenizerConfig
from textgen.errors import CheckpointError
from textgen.tokenizers.base import SPECIAL_TOKENS, Ids, is_text

FILE = "vocabulary.json"
_FORMAT = 1
_KEY = "symbols"


def ranked(counts: Mapping[str, int], config: TokenizerConfig) -> list[str]:
    """The symbols to learn: by descending count, ties by code point; the rare ones left out.

    >>> ranked({"b": 2, "a": 2, "c": 9, "d": 1}, TokenizerConfig(min_count=2))
    ['c', 'a', 'b']
    """
    kept = [symbol for symbol, count in counts.items() if count >= config.least_count]
    kept.sort(key=lambda symbol: (-counts[symbol], symbol))
    largest = config.largest_vocabulary
    return kept if largest is None else kept[: largest - len(SPECIAL_TOKENS)]


def save(folder: Path, symbols: Sequence[str]) -> None:
    save_list(folder / FILE, _KEY, symbols)


def load(files: Mapping[str, Path]) -> tuple[list[str], Path]:
    """The symbols and the file they are in. Raises CheckpointError."""
    if FILE not in files:
        raise CheckpointError("incomplete", why=f"there is no {FILE}")
    return load_list(files[FILE], _KEY), files[FILE]


def save_list(path: Path, key: str, symbols: Sequence[str]) -> None:
    storage.write_json(path, {"format": _FORMAT, key: list(symbols)})


def load_list(path: Path, key: str) -> list[str]:
    """The symbols that a file has under a key, each once. Raises CheckpointError."""
    value = storage.read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError("damaged", where=path, why="not a vocabulary")
    storage.check_format(value.get("format"), _FORMAT, path)
    symbols = value.get(key)
    if not isinstance(symbols, list) or not all(map(is_text, symbols)):
        raise CheckpointError("damaged", where=path, why="its symbols are not text")
    if len(set(symbols)) != len(symbols):
        raise CheckpointError("damaged", where=path, why="a symbol occurs twice")
    return symbols


def fingerprint(config: TokenizerConfig, symbols: Sequence[str]) -> str:
    """SHA-256 over what decides how text is encoded."""
    split = config.split if config.level == "word" else None
    decisive = [config.level, config.unit, split, config.unk_literal, list(symbols)]
    return hashlib.sha256(storage.json_text(decisive).encode()).hexdigest()


RARE_WORDS_FILE = "spelling.json"
_RARE_KEY = "rare"
# So that the file stays small, whatever the text.
_MOST = 2**17
_LONGEST = 64


def left_out(counts: Mapping[str, int], known: Collection[str]) -> list[str]:
    """The words that are counted but not known: by descending count, ties as they came.

    By code point, those kept of very many would all begin with the same few letters.

    >>> left_out({"b": 1, "a": 1, "c": 2, "d": 9}, known=["d"])
    ['c', 'b', 'a']
    """
    words = kept(counts, known)
    words.sort(key=counts.__getitem__, reverse=True)
    return words[:_MOST]


def merged(lists: Iterable[Iterable[str]], known: Collection[str]) -> list[str]:
    """The words of several lists that are not known, each once, the first lists first."""
    return kept(dict.fromkeys(word for words in lists for word in words), known)[:_MOST]


def kept(words: Iterable[str], known: Collection[str]) -> list[str]:
    """Those that are not known and no longer than words are."""
    known = frozenset(known)
    return [word for word in words if len(word) <= _LONGEST and word not in known]


def save_rare_words(folder: Path, words: Sequence[str]) -> None:
    save_list(folder / RARE_WORDS_FILE, _RARE_KEY, words)


def load_rare_words(files: Mapping[str, Path], known: Collection[str]) -> list[str]:
    """The words; none where they were not stored yet. Raises CheckpointError."""
    if RARE_WORDS_FILE not in files:
        return []
    words = load_list(files[RARE_WORDS_FILE], _RARE_KEY)
    if not all(words) or not frozenset(known).isdisjoint(words):
        raise CheckpointError(
            "damaged", where=files[RARE_WORDS_FILE], why="a word in it is empty or known"
        )
    return words


WorkOut = Callable[[list[str]], Iterable[Iterable[int]]]

_MOST_CHUNKS = 2**18
_LONGEST_CHUNK = 64


class ChunkMemory:
    """A chunk's ids, worked out when it is first met and remembered while there is room.

    They are kept as the bytes of uint32, because joining bytes beats every loop over numbers.
    work_out: the ids of each of some chunks. fixed: the chunks that are no text, as a newline.
    """

    def __init__(self, work_out: WorkOut, fixed: Mapping[str, Iterable[int]]) -> None:
        self._work_out = work_out
        self._fixed = {chunk: _bytes(ids) for chunk, ids in fixed.items()}
        self._known = dict(self._fixed)

    def ids(self, lists: Iterable[list[str]]) -> Ids:
        """The ids of all the chunks in these lists."""
        parts = []
        for chunks in lists:
            found = list(map(self._known.get, chunks))
            if None in found:
                new = self._meet([c for c, ids in zip(chunks, found, strict=True) if ids is None])
                found = [
                    new[c] if ids is None else ids for c, ids in zip(chunks, found, strict=True)
                ]
            parts.append(b"".join(found))  # type: ignore[arg-type]
        return np.frombuffer(b"".join(parts), dtype=np.uint32)

    def _meet(self, chunks: list[str]) -> dict[str, bytes]:
        """Work out the ids of all that is new together, and remember what is short."""
        distinct = list(dict.fromkeys(chunks))
        new = dict(zip(distinct, map(_bytes, self._work_out(distinct)), strict=True))
        if len(self._known) >= _MOST_CHUNKS:
            self._known = dict(self._fixed)
        self._known.update((c, ids) for c, ids in new.items() if len(c) <= _LONGEST_CHUNK)
        return new


def _bytes(ids: Iterable[int]) -> bytes:
    return array("I", ids).tobytes()
