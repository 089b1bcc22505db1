"""What every tokenizer is: text to ids and back, over ``<UNK>``, ``<EOS>`` and learned symbols."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from textgen.config import UNIT_TERMINATORS, TokenizerConfig
from textgen.errors import UsageError
from textgen.tokenizers.spelling import Spelling

UNK, EOS = 0, 1
SPECIAL_TOKENS = ("<UNK>", "<EOS>")

Ids = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]


class Decoder(ABC):
    """Ids to text one at a time; all that it returns, joined, is what ``decode`` gives."""

    @abstractmethod
    def feed(self, id: int) -> str:
        """The text that is settled once this id is known; it may be empty."""

    def finish(self) -> str:
        """The text that waited for an id that did not come."""
        return ""

    @property
    def waits(self) -> bool:
        """Whether what was fed ends within a character."""
        return False

    @abstractmethod
    def spellings(self) -> Sequence[bytes]:
        """What each id would write here, in UTF-8; the same object wherever it is the same."""

    def fitting(self) -> Mask | None:
        """Which ids can come here (vocabulary,), so that a text is read as it is written.

        None: all can. The same object wherever it is the same.
        """
        return None

    def copy(self) -> Self:
        """Another decoder at the same place; the vocabulary is shared, not copied."""
        return copy.copy(self)

    def __deepcopy__(self, memo: object) -> Self:
        return self.copy()


@dataclass(frozen=True)
class Continuation:
    """How to go on from a prompt.

    ids: what the model reads. decoder: turns what it then writes into the text after the prompt.
    """

    ids: Ids
    decoder: Decoder


class Tokenizer(ABC):
    """Text to ids and back.

    ``decode(encode(text)) == text`` for every text over the learned symbols (character,
    lossless word) and for every text at all (subword). ``<EOS>`` stands for the terminator
    of the unit: ``"\\n"`` for lines, ``"\\n\\n"`` (leftmost pairs) for paragraphs; a document's
    end has no text.
    """

    level: ClassVar[str]
    notes: tuple[str, ...] = ()  # what a person should hear about how it was learned

    def __init__(self, config: TokenizerConfig) -> None:
        self.config = config
        self.terminator = UNIT_TERMINATORS[config.unit]
        literal = config.unk_literal
        if literal is not None and (literal.split() != [literal] or not is_text(literal)):
            raise UsageError(f"--unk-literal must be one word, got {literal!r}")

    @classmethod
    @abstractmethod
    def learn(cls, config: TokenizerConfig, texts: Iterable[str]) -> "Tokenizer":
        """The tokenizer for a text that comes in pieces, as ``corpus`` cuts them."""

    @classmethod
    @abstractmethod
    def load(cls, config: TokenizerConfig, files: dict[str, Path]) -> "Tokenizer":
        """The tokenizer whose ``save`` wrote these files. Raises CheckpointError."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the tokenizer's own files into a folder (its config is the caller's)."""

    @property
    @abstractmethod
    def vocabulary_size(self) -> int:
        """Ids run from 0 to this, special tokens included."""

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """The ids of a text; each terminator in it becomes ``<EOS>``, nothing is appended."""

    def encode_pieces(self, pieces: Iterable[tuple[str, bool]]) -> Iterator[Ids]:
        """The ids of a text that comes in ``corpus`` pieces, wherever they were cut.

        ``<EOS>`` is appended where a piece ends a document.
        """
        for text, ends_document in pieces:
            ids = self.encode(text)
            yield with_eos(ids) if ends_document else ids

    @abstractmethod
    def decode(self, ids: Sequence[int] | Ids) -> str:
        """The text of some ids. ``<EOS>`` gives the terminator, ``<UNK>`` gives ``<UNK>``."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """A decoder at the start of a text."""

    def continuation(self, prompt: str) -> Continuation:
        """How to go on from a prompt: as near as can be to a prefix of a text like it."""
        ids = self.encode(prompt)
        decoder = self.decoder()
        for id in ids.tolist():
            decoder.feed(id)
        return Continuation(ids, decoder)

    def unknown_in(self, text: str) -> tuple[str, ...]:
        """The characters or words of a text that encode to ``<UNK>``, each once."""
        return ()

    @abstractmethod
    def token_texts(self, text: str) -> list[str]:
        """For each of ``encode(text)`` the stretch of the text it stands for; joined, the text.

        A space goes with the token after it, and a terminator in the text is ``<EOS>``'s. Of a
        character that takes several ids, the last has it and the others have nothing. With
        ``--split whitespace``, white space goes with the word after it, as it is in the text;
        at the text's end with the last word, and it is lost where there is none.
        """

    def unknown_names(self, text: str) -> list[str]:
        """For each ``<UNK>`` among ``encode(text)``, in order, the symbol that is unknown.

        Where ``--unk-literal`` names the unknown, it is that.
        """
        places = np.flatnonzero(self.encode(text) == UNK).tolist()
        token_texts = self.token_texts(text) if places else []
        return [token_texts[place] for place in places]

    @cached_property
    def spelling(self) -> Spelling | None:
        """The probability of what ``<UNK>`` stands for.

        None where ``--unk-literal`` names the unknown: what it was is not in the text.
        """
        return None if self.config.unk_literal is not None else self._spelling()

    @abstractmethod
    def _spelling(self) -> Spelling:
        """That of a text in which no literal stands for the unknown."""

    @abstractmethod
    def token(self, id: int) -> str:
        """How one id is shown to a person."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over everything that decides how text is encoded."""


def is_text(value: object) -> bool:
    """Whether this is a string that UTF-8 can hold: no lone surrogate in it."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def with_eos(ids: Ids) -> Ids:
    return np.append(ids, np.uint32(EOS))


def pairs_to_eos(ids: Ids, newline: int, eos: int = EOS) -> Ids:
    """The ids in which each leftmost pair of ``newline`` has become one ``<EOS>``.

    >>> pairs_to_eos(np.array([5, 9, 9, 9, 6], dtype=np.uint32), newline=9).tolist()
    [5, 1, 9, 6]
    """
    places = np.flatnonzero(ids == newline)
    if len(places) < 2:
        return ids
    adjacent = np.diff(places) == 1
    starts_run = np.concatenate(([True], ~adjacent))
    index = np.arange(len(places))
    run_start = np.maximum.accumulate(np.where(starts_run, index, 0))
    is_first = ((index - run_start) % 2 == 0)[:-1] & adjacent
    paired = ids.copy()
    paired[places[:-1][is_first]] = eos
    kept = np.ones(len(ids), dtype=np.bool_)
    kept[places[1:][is_first]] = False
    return paired[kept]
