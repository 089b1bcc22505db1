"""What is said beside a file of ids, and how it is read back without trust."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from textgen import storage
from textgen.config import UNIT_TERMINATORS, Unit
from textgen.errors import CheckpointError

FORMAT = 1
_DTYPES = ("<u2", "<u4")

T = TypeVar("T")


@dataclass(frozen=True)
class PartCounts:
    """What one part of a corpus holds. sentences: ``<EOS>`` in it; unknown: ``<UNK>`` in it."""

    tokens: int
    characters: int
    sentences: int
    unknown: int

    def __add__(self, other: "PartCounts") -> "PartCounts":
        return PartCounts(
            self.tokens + other.tokens,
            self.characters + other.characters,
            self.sentences + other.sentences,
            self.unknown + other.unknown,
        )


@dataclass(frozen=True)
class CorpusHeader:
    """What is in a file of ids: ``train`` first, then ``valid``, each id of type ``dtype``.

    boundary: where the validation part starts, in characters of the normalised text.
    fingerprint: the corpus's; tokenizer_fingerprint: of the tokenizer that made the ids.
    """

    unit: Unit
    dtype: str
    boundary: int
    train: PartCounts
    valid: PartCounts
    fingerprint: str
    tokenizer_fingerprint: str
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_header(path: Path) -> CorpusHeader:
    """The header in a file that may hold anything. Raises CheckpointError."""
    value = storage.read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError("damaged", where=path, why="not a corpus header")
    storage.check_format(value.get("format"), FORMAT, path)
    try:
        header = CorpusHeader(
            unit=_choice(value["unit"], UNIT_TERMINATORS),
            dtype=_choice(value["dtype"], _DTYPES),
            boundary=_count(value["boundary"]),
            train=_counts(value["train"]),
            valid=_counts(value["valid"]),
            fingerprint=_text(value["fingerprint"]),
            tokenizer_fingerprint=_text(value["tokenizer_fingerprint"]),
            sources=tuple(map(_text, value["sources"])),
            notes=tuple(map(_text, value["notes"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        why = f"its header is not as textgen writes it ({error})"
        raise CheckpointError("damaged", where=path, why=why) from error
    return header


def _counts(value: Any) -> PartCounts:
    return PartCounts(**{name: _count(count) for name, count in value.items()})


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError(f"{value!r} is not a count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _choice(value: Any, choices: Collection[T]) -> T:
    if value not in choices:
        raise ValueError(f"{value!r} is not one of {', '.join(map(str, choices))}")
    return cast(T, value)
