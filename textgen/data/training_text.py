"""The text that a model was trained on, read again; and how frequent words are in it."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from textgen.config import TrainingConfig
from textgen.data.batching import IdArray
from textgen.data.corpus import CorpusSource
from textgen.data.encoded import CorpusHeader, is_encoded, load_encoded
from textgen.data.lines import has_unspaced_script
from textgen.errors import DataError, ResourceError
from textgen.tokenizers.base import Tokenizer

_BLOCK_TOKENS = 2**18


def training_text(
    source: CorpusSource, training: TrainingConfig, corpus: CorpusHeader
) -> Iterator[str]:
    """The training part in pieces, as it was read for the training.

    Args:
        source: Where it is now.
        corpus: The header of what the model was trained on.

    Raises:
        ResourceError: It is not there, or was not kept.
        DataError: It has changed.
    """
    if "-" in source.corpora:
        raise ResourceError(
            "the training text is not kept",
            why="it was read from stdin",
            fix="name a file of it with --corpus",
        )
    if len(source.paths) == 1 and is_encoded(source.paths[0]):
        encoded, tokenizer = load_encoded(source.paths[0])
        fingerprint, pieces = encoded.header.fingerprint, _decoded(encoded.train, tokenizer)
    else:
        moved = "name where it is now with --corpus"
        opened = source.open(corpus.unit, training, if_moved=moved)
        fingerprint, pieces = opened.fingerprint, (piece for piece, _ in opened.train())
    if fingerprint != corpus.fingerprint:
        raise DataError(
            "the text has changed since the model was trained",
            where=", ".join(map(str, source.paths)),
            fix="name the text that it was trained on with --corpus",
        )
    yield from pieces


def _decoded(ids: IdArray, tokenizer: Tokenizer) -> Iterator[str]:
    decoder = tokenizer.decoder()
    for begin in range(0, len(ids), _BLOCK_TOKENS):
        yield "".join(map(decoder.feed, ids[begin : begin + _BLOCK_TOKENS].tolist()))
    yield decoder.finish()


def log_frequencies(
    pieces: Iterable[str], words: Iterable[str], *, spaced: bool
) -> Mapping[str, float]:
    """ln of the share that each of these words has among the words of a text.

    The words of a text are what stands between white space, without the punctuation around it;
    upper and lower case are one. A word that is not among them has no frequency.

    Args:
        spaced: Whether all words are delimited by white space; if not, those in scripts without
            spaces have no frequency: what stands between white space there is no word.

    >>> log_frequencies(["A cat, a ", "dog."], ["a", "Dog.", "cow"], spaced=True)
    {'a': -0.6931471805599453, 'Dog.': -1.3862943611198906}
    """
    bare = {word: _bare(word) for word in words if spaced or not has_unspaced_script(word)}
    wanted, counts, total = frozenset(bare.values()) - {""}, Counter[str](), 0
    for raw, count in _raw_counts(pieces):
        word = _bare(raw)
        total += count if word else 0
        if word in wanted:
            counts[word] += count
    return {word: math.log(counts[key] / total) for word, key in bare.items() if counts[key]}


def _raw_counts(pieces: Iterable[str]) -> Iterator[tuple[str, int]]:
    """What stands between white space in a text and how often, piece by piece."""
    rest = ""
    for piece in pieces:
        found = (rest + piece).split()
        # A piece may end within a word.
        rest = found.pop() if found and not piece[-1:].isspace() else ""
        yield from Counter(found).items()
    if rest:
        yield rest, 1


def _bare(word: str) -> str:
    """A word in lower case, without what is neither letter, digit nor mark at its edges."""
    begin, end = 0, len(word)
    while begin < end and not _is_of_word(word[begin]):
        begin += 1
    while begin < end and not _is_of_word(word[end - 1]):
        end -= 1
    return word[begin:end].casefold()


def _is_of_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] in "LNM"
