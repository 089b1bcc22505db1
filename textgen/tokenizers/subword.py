"""Subwords: pieces of words that sentencepiece finds, and bytes for what has no piece.

sentencepiece is given line after line, one of more than 1024 characters in parts that start with
a space: over a longer text the sums of its scores would round, and ids would depend on what came
before. No piece reaches into a run of spaces from before it, so BPE, whose merges are slow, is
asked once for each such chunk, and remembers; unigram finds faster than one can remember.

What sentencepiece would confuse or drop (a literal ``▁``, control characters) is never a piece and
goes as bytes. Nothing is normalised, so ``decode(encode(text)) == text`` for every text without
lone surrogates.
"""

import codecs
import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from textgen import storage
from textgen.config import TokenizerConfig
from textgen.errors import CheckpointError
from textgen.tokenizers import sentencepieces
from textgen.tokenizers.base import (
    EOS,
    SPECIAL_TOKENS,
    UNK,
    Continuation,
    Decoder,
    Ids,
    Mask,
    Tokenizer,
    is_text,
)
from textgen.tokenizers.spelling import NothingUnknown
from textgen.tokenizers.vocabulary import ChunkMemory

FILE = "subword.model"
_LARGEST_MODEL = 2**28
_LONGEST_CHUNK = 1024
_PIECE = re.compile(f".{{1,{_LONGEST_CHUNK}}}(?= |\\Z)|.{{1,{_LONGEST_CHUNK}}}", re.DOTALL)
_BLOCK_CHARACTERS = 2**15  # what is split in one go, so that it stays in the processor's cache
_SEPARATORS = "\0\1\2\3\4\5\6\7\udc00"  # the last is in no text that is UTF-8


class SubwordTokenizer(Tokenizer):
    """sentencepiece's unigram or BPE pieces with byte fallback, under our special ids.

    >>> config = TokenizerConfig(level="subword", vocab_size=270)
    >>> tokenizer = SubwordTokenizer.learn(config, ["low lower\\n", "low slow\\n"])
    >>> [tokenizer.token(id) for id in tokenizer.encode("lower\\né")]
    ['low', 'e', 'r', '<EOS>', '<0xC3>', '<0xA9>']
    """

    level = "subword"

    def __init__(self, config: TokenizerConfig, model: bytes) -> None:
        """model: as sentencepiece writes it. Raises ValueError where it is not one of ours."""
        super().__init__(config)
        self._model = model
        self._processor = sentencepieces.processor(model)
        pieces = sentencepieces.pieces(self._processor)
        self._tokens = [*SPECIAL_TOKENS, *pieces]
        specials = [SPECIAL_TOKENS[UNK].encode(), self.terminator.encode()]
        self._bytes = [*specials, *sentencepieces.written(pieces)]
        literal = () if config.unk_literal is None else (config.unk_literal,)
        self._apart = (*literal, sentencepieces.SPACE)  # what sentencepiece is not shown
        self._parts = re.compile(f"({'|'.join(map(re.escape, self._apart))})")
        self._ends = {
            "": [],
            "\n": _byte_ids("\n"),
            **({self.terminator: [EOS]} if self.terminator else {}),
        }
        self._memory = ChunkMemory(self._work_out, self._ends)

    @classmethod
    def learn(cls, config: TokenizerConfig, texts: Iterable[str]) -> "SubwordTokenizer":
        model, notes = sentencepieces.learn(config, texts)
        tokenizer = cls(config, model)
        tokenizer.notes = notes
        return tokenizer

    @classmethod
    def load(cls, config: TokenizerConfig, files: dict[str, Path]) -> "SubwordTokenizer":
        if FILE not in files:
            raise CheckpointError("incomplete", why=f"there is no {FILE}")
        path = files[FILE]
        if path.stat().st_size > _LARGEST_MODEL:
            raise CheckpointError("not read", where=path, why="no model of textgen's is this large")
        model = path.read_bytes()
        try:
            return cls(config, model)
        except ValueError as error:
            why = storage.what_it_is(model) or str(error)
            raise CheckpointError("damaged", where=path, why=why) from error

    def save(self, folder: Path) -> None:
        (folder / FILE).write_bytes(self._model)

    @property
    def vocabulary_size(self) -> int:
        return len(self._tokens)

    def encode(self, text: str) -> Ids:
        if not text.isascii() and not is_text(text):
            text = text.encode("utf-8", "replace").decode()  # lone surrogates
        if self.config.subword_model == "bpe":
            return self._memory.ids(self._chunks(text))
        ids = array("I")
        for chunks in self._chunks(text):
            lines, ends = chunks[::2], chunks[1::2]
            for of_line, end in zip(self._work_out(lines), [*ends, ""], strict=False):
                ids.fromlist(of_line)
                ids.fromlist(self._ends[end])
        return np.frombuffer(ids, dtype=np.uint32)

    def _chunks(self, text: str) -> Iterator[list[str]]:
        """Lines and what ends them by turns; for BPE, each line cut before its words too."""
        mark = next(mark for mark in _SEPARATORS if mark not in text)
        if self.config.subword_model == "bpe":
            text = text.replace(" ", mark + " ").replace(" " + mark, " ")
        newline = mark + "\n" + mark
        if self.config.unit == "paragraph":
            end = mark + "\n\n" + mark
            text = end.join(lines.replace("\n", newline) for lines in text.split("\n\n"))
        else:
            text = text.replace("\n", newline)
        start = 0
        while (place := text.find("\n" + mark, start + _BLOCK_CHARACTERS) + 1) > 0:
            yield text[start:place].split(mark)
            start = place + 1
        yield text[start:].split(mark)

    def _work_out(self, chunks: list[str]) -> Iterable[list[int]]:
        joined = "\n".join(chunks)
        short = len(joined) <= _LONGEST_CHUNK or max(map(len, chunks)) <= _LONGEST_CHUNK
        if short and not any(part in joined for part in self._apart):
            return self._sentencepiece_ids(chunks)  # all at once, which halves the time
        return map(self._ids_of_parts, chunks)

    def _ids_of_parts(self, chunk: str) -> list[int]:
        ids: list[int] = []
        for piece in _PIECE.findall(chunk):
            for part in self._parts.split(piece):
                if part == self.config.unk_literal:
                    ids.append(UNK)
                elif part == sentencepieces.SPACE:
                    ids += _byte_ids(part)
                elif part:
                    ids += self._sentencepiece_ids([part])[0]
        return ids

    def _sentencepiece_ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self._processor.encode(texts, num_threads=1)
        return ids

    def token_texts(self, text: str) -> list[str]:
        """As every tokenizer; where the text has lone surrogates, ``?`` for each."""
        ids = self.encode(text).tolist()
        found = [text for id in ids if (text := self._texts[id]) is not None]
        if len(found) == len(ids):
            return found
        characters = codecs.getincrementaldecoder("utf-8")()
        literal = (self.config.unk_literal or "").encode()
        return [characters.decode(literal if id == UNK else self._bytes[id]) for id in ids]

    @cached_property
    def _texts(self) -> list[str | None]:
        """What each id stands for in a text, None for a part of a character."""
        literal = (self.config.unk_literal or "").encode()
        texts = [literal, *self._bytes[EOS:]]
        return [text.decode() if _is_utf8(text) else None for text in texts]

    def decode(self, ids: Sequence[int] | Ids) -> str:
        parts = map(self._bytes.__getitem__, np.asarray(ids, dtype=np.int64).tolist())
        return b"".join(parts).decode("utf-8", "replace")

    def decoder(self) -> "_SubwordDecoder":
        return _SubwordDecoder(self._forms)

    @cached_property
    def _forms(self) -> "_Forms":
        return _Forms(self._bytes)

    def continuation(self, prompt: str) -> Continuation:
        """How to go on from a prompt. A space at its end belongs to the word that comes: it is
        not encoded, and what can come is a piece that starts with it."""
        starts_word = any(piece.startswith(b" ") for piece in self._bytes)
        if not prompt.endswith(" ") or prompt.endswith("  ") or not starts_word:
            return super().continuation(prompt)
        start = super().continuation(prompt[:-1])
        assert isinstance(start.decoder, _SubwordDecoder)
        start.decoder.skip_space()
        return start

    def _spelling(self) -> NothingUnknown:
        return NothingUnknown()

    def token(self, id: int) -> str:
        return self._tokens[id]

    @property
    def fingerprint(self) -> str:
        decisive = [self.level, self.config.unit, self.config.unk_literal]
        digest = hashlib.sha256(storage.json_text(decisive).encode())
        digest.update(self._model)
        return digest.hexdigest()


class _Forms:
    """What each id writes, and which can come where."""

    def __init__(self, spellings: Sequence[bytes]) -> None:
        self.spellings = spellings
        self.starts_word = np.array([piece.startswith(b" ") for piece in spellings])
        self._fitting: dict[bytes, Mask] = {}

    @cached_property
    def without_space(self) -> list[bytes]:
        return [piece.removeprefix(b" ") for piece in self.spellings]

    def fitting(self, begun: bytes) -> Mask:
        """The ids that go on with a character of which these bytes have come."""
        if begun not in self._fitting:
            fits = [_is_utf8_so_far(begun + piece) for piece in self.spellings]
            self._fitting[begun] = np.array(fits)
        return self._fitting[begun]


class _SubwordDecoder(Decoder):
    """Holds back the bytes of a character until all of them have come."""

    def __init__(self, forms: _Forms) -> None:
        self._forms = forms
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._spaced = False

    def feed(self, id: int) -> str:
        written = self.spellings()[id]
        self._spaced = False
        return self._characters.decode(written)

    def finish(self) -> str:
        return self._characters.decode(b"", final=True)

    @property
    def waits(self) -> bool:
        return bool(self._characters.getstate()[0])

    def spellings(self) -> Sequence[bytes]:
        return self._forms.without_space if self._spaced else self._forms.spellings

    def fitting(self) -> Mask:
        if self._spaced:
            return self._forms.starts_word
        return self._forms.fitting(self._characters.getstate()[0])

    def copy(self) -> Self:
        other = super().copy()
        other._characters = codecs.getincrementaldecoder("utf-8")("replace")
        other._characters.setstate(self._characters.getstate())
        return other

    def skip_space(self) -> None:
        """Do not write the space that the next piece starts with: the text has it already."""
        self._spaced = True


def _is_utf8(written: bytes) -> bool:
    try:
        written.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_utf8_so_far(written: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(written)
    except UnicodeDecodeError:
        return False
    begun = decoder.getstate()[0]
    return not b"\xed\xa0" <= begun < b"\xee"  # a surrogate, which Python refuses a byte later


def _byte_ids(text: str) -> list[int]:
    return [len(SPECIAL_TOKENS) + byte for byte in text.encode()]
