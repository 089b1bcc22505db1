"""The words that were seen but not learned, from which the spelling of unknown words is known."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from textgen.errors import CheckpointError
from textgen.tokenizers import vocabulary

FILE = "spelling.json"
_KEY = "rare"
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


def save(folder: Path, words: Sequence[str]) -> None:
    vocabulary.save_list(folder / FILE, _KEY, words)


def load(files: Mapping[str, Path], known: Collection[str]) -> list[str]:
    """The words; none where they were not stored yet. Raises CheckpointError."""
    if FILE not in files:
        return []
    words = vocabulary.load_list(files[FILE], _KEY)
    if not all(words) or not frozenset(known).isdisjoint(words):
        raise CheckpointError("damaged", where=files[FILE], why="a word in it is empty or known")
    return words
