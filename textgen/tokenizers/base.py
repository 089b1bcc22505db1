"""The interface of tokenizers and decoders, and the cache of ids that two of them share."""

import copy
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from textgen.config import UNIT_TERMINATORS, Level, TokenizerConfig
from textgen.errors import UsageError
from textgen.tokenizers.spelling import Spelling

UNK, EOS = 0, 1
SPECIAL_TOKENS = ("<UNK>", "<EOS>")
LONGEST_SYMBOL = 1024
"""Characters: what is longer is cut where a text is learned, and refused where it is read back."""

Ids = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]


class Decoder(ABC):
    """Ids to text, one at a time; the concatenated results are what ``decode`` gives."""

    @abstractmethod
    def feed(self, id: int) -> str:
        """The text that is complete with this id; it may be empty."""

    def finish(self) -> str:
        """The rest of the text, where the ids end within a character."""
        return ""

    @property
    def mid_character(self) -> bool:
        """Whether the ids so far end within a character."""
        return False

    @property
    def joined(self) -> bool:
        """Whether the next token is written without its space; ``next_bytes`` depends on it."""
        return False

    @property
    def context(self) -> Hashable:
        """What ``next_bytes`` and ``next_mask`` depend on.

        Decoders of one tokenizer with equal contexts give equal results.
        """
        return self.joined

    @abstractmethod
    def next_bytes(self) -> Sequence[bytes]:
        """The text that each id would add here, in UTF-8 (vocabulary,)."""

    def next_mask(self) -> Mask | None:
        """The ids that can come next (vocabulary,) in a text as it is encoded; None: all."""
        return None

    def copy(self) -> Self:
        """An independent decoder in the same state; the vocabulary is shared."""
        return copy.copy(self)


@dataclass(frozen=True)
class Continuation:
    """A prompt prepared for generation.

    Attributes:
        ids: the input of the model.
        decoder: turns the generated ids into the text after the prompt.
    """

    ids: Ids
    decoder: Decoder


class Tokenizer(ABC):
    """Text to ids and back.

    ``decode(encode(text)) == text`` for every text over the learned symbols (character,
    lossless word) and for any text (subword). ``<EOS>`` stands for the terminator of the unit:
    ``"\\n"`` for lines, ``"\\n\\n"`` (leftmost pairs) for paragraphs; the end of a document has
    no text.

    Attributes:
        terminator: the text of ``<EOS>``.
        notes: messages for the user about how the tokenizer was learned.
    """

    level: ClassVar[Level]
    notes: tuple[str, ...] = ()

    def __init__(self, config: TokenizerConfig) -> None:
        """Raises UsageError if ``--unk-literal`` is not a word."""
        self.config = config
        self.terminator = UNIT_TERMINATORS[config.unit]
        literal = config.unk_literal
        if literal is not None and (literal.split() != [literal] or not is_symbol(literal)):
            raise UsageError(f"--unk-literal must be one word, got {literal[:40]!r}")

    @classmethod
    @abstractmethod
    def learn(cls, config: TokenizerConfig, texts: Iterable[str]) -> "Tokenizer":
        """Learn from a text in pieces, as a ``Corpus`` splits it."""

    @classmethod
    @abstractmethod
    def load(cls, config: TokenizerConfig, files: dict[str, Path]) -> "Tokenizer":
        """Read what ``save`` wrote. Raises CheckpointError."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the files of this tokenizer into a folder, without its configuration."""

    @property
    @abstractmethod
    def vocabulary_size(self) -> int:
        """The number of ids, special tokens included."""

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """The ids of a text; each terminator in it becomes ``<EOS>``, nothing is appended."""

    def encode_pieces(self, pieces: Iterable[tuple[str, bool]]) -> Iterator[Ids]:
        """The ids of a text in pieces, which do not depend on where a ``Corpus`` splits it.

        Args:
            pieces: (text, whether it ends a document and so with ``<EOS>``).
        """
        for text, ends_document in pieces:
            ids = self.encode(text)
            yield with_eos(ids) if ends_document else ids

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """The text of some ids. ``<EOS>`` gives the terminator, ``<UNK>`` gives ``<UNK>``."""
        decoder = self.decoder()
        text = "".join(map(decoder.feed, np.asarray(ids, dtype=np.int64).tolist()))
        return text + decoder.finish()

    @abstractmethod
    def decoder(self) -> Decoder:
        """A decoder at the start of a text."""

    def continuation(self, prompt: str) -> Continuation:
        """Prepare a prompt, so that it is encoded as the beginning of a longer text would be."""
        return self._continuation(self.encode(prompt))

    def _continuation(self, ids: Ids) -> Continuation:
        decoder = self.decoder()
        for id in ids.tolist():
            decoder.feed(id)
        return Continuation(ids, decoder)

    def unknown_in(self, text: str) -> tuple[str, ...]:
        """The distinct characters or words of a text that are unknown, the most frequent first."""
        return ()

    @abstractmethod
    def token_texts(self, text: str) -> list[str]:
        """The span of the text that each of ``encode(text)`` stands for; joined, the text.

        A space belongs to the token after it, a terminator to ``<EOS>``. Of the ids of one
        character, the last has the character and the others have empty spans. With ``--split
        whitespace``, white space belongs to the word after it; at the end of the text to the
        last word, and it is lost if there is none.
        """

    def unknown_names(self, text: str) -> list[str]:
        """The unknown symbol of each ``<UNK>`` in ``encode(text)``, or ``--unk-literal``."""
        places = np.flatnonzero(self.encode(text) == UNK).tolist()
        token_texts = self.token_texts(text) if places else []
        return [token_texts[place] for place in places]

    @cached_property
    def spelling(self) -> Spelling | None:
        """p(symbol | ``<UNK>``); None with ``--unk-literal``, which hides the symbol."""
        return None if self.config.unk_literal is not None else self._spelling()

    @abstractmethod
    def _spelling(self) -> Spelling: ...

    @abstractmethod
    def token(self, id: int) -> str:
        """The entry of the vocabulary, which may have marks for the space beside it."""

    def text_of(self, id: int) -> str:
        """The text of an id, for people; of a special token and of a part of a character its name.

        >>> from textgen.tokenizers.word import WordTokenizer
        >>> tokenizer = WordTokenizer(TokenizerConfig(level="word"), ["\uffed,"])
        >>> tokenizer.token(2), tokenizer.text_of(2)
        ('￭,', ',')
        """
        return self.token(id)

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines how text is encoded."""


class ChunkCache:
    """The ids of chunks of text, such as words: most chunks of a text have occurred before.

    Ids are stored as the bytes of uint32, because joining bytes is faster than any loop.

    Args:
        encode: computes the ids of each of some chunks.
        fixed: the ids of chunks that ``encode`` is not given, such as newlines.
    """

    _MOST_CHUNKS = 2**18
    _LONGEST_CHUNK = 64

    def __init__(
        self,
        encode: Callable[[list[str]], Iterable[Iterable[int]]],
        fixed: Mapping[str, Iterable[int]],
    ) -> None:
        self._encode = encode
        self._fixed = {chunk: array("I", ids).tobytes() for chunk, ids in fixed.items()}
        self._cache = dict(self._fixed)

    def ids(self, lists: Iterable[list[str]]) -> Ids:
        """The ids of all chunks of these lists, concatenated."""
        parts: list[bytes] = []
        for chunks in lists:
            found = list(map(self._cache.get, chunks))
            if None in found:
                new = self._add([c for c, ids in zip(chunks, found, strict=True) if ids is None])
                parts += [
                    new[c] if ids is None else ids for c, ids in zip(chunks, found, strict=True)
                ]
            else:
                parts.append(b"".join(found))  # type: ignore[arg-type]
        return np.frombuffer(b"".join(parts), dtype=np.uint32)

    def _add(self, chunks: list[str]) -> dict[str, bytes]:
        chunks = list(dict.fromkeys(chunks))
        new = {
            chunk: array("I", ids).tobytes()
            for chunk, ids in zip(chunks, self._encode(chunks), strict=True)
        }
        if len(self._cache) >= self._MOST_CHUNKS:
            self._cache = dict(self._fixed)
        self._cache |= {c: ids for c, ids in new.items() if len(c) <= self._LONGEST_CHUNK}
        return new


def is_text(value: object) -> bool:
    """Whether this is a string that UTF-8 can encode: without lone surrogates."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_symbol(value: object) -> bool:
    """Whether this is text that can be a symbol of a vocabulary: neither empty nor too long."""
    return is_text(value) and 0 < len(str(value)) <= LONGEST_SYMBOL


def with_eos(ids: Ids) -> Ids:
    """The ids followed by ``<EOS>``."""
    return np.append(ids, np.uint32(EOS))
