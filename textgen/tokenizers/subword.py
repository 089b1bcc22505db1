"""The subword tokenizer: pieces that sentencepiece learns, and bytes for everything else.

sentencepiece encodes one line at a time, and a line of more than 1024 characters in parts that
start with a space: over longer texts the sums of its scores would round, and ids would depend on
the text before. No piece extends into a run of spaces from before it, so BPE, whose merges are
slow, encodes each such chunk once and caches its ids; unigram is faster than the cache.

Characters that sentencepiece would confuse or drop (a literal ``▁``, control characters) are
never in a piece and become bytes. Nothing is normalized, so ``decode(encode(text)) == text`` for
every text without lone surrogates.
"""

import codecs
import hashlib
import io
import re
import struct
from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from textgen import storage
from textgen.config import Level, TokenizerConfig
from textgen.errors import CheckpointError, UsageError
from textgen.tokenizers.base import (
    EOS,
    SPECIAL_TOKENS,
    UNK,
    ChunkCache,
    Continuation,
    Decoder,
    Ids,
    Mask,
    Tokenizer,
    is_text,
)
from textgen.tokenizers.spelling import NothingUnknown

FILE = "subword.model"
_LARGEST_MODEL = 2**28
SPACE = "\u2581"  # how sentencepiece writes a space
_BYTES = 256
_FEWEST_PIECES = len(SPECIAL_TOKENS) + _BYTES
_LONGEST_PIECE = 16  # characters, the default of sentencepiece
_SAMPLE_CHARACTERS = 2**22
# Characters that sentencepiece reserves or cannot take: they are always encoded as bytes.
_NOT_LEARNED = "\x00-\x1f\x7f\u2581\u2585\ud800-\udfff"
_LEARNED_LINE = re.compile(r".{1,1000}(?= |$)|.{1,1000}")  # sentencepiece skips longer lines
_TOO_SMALL = re.compile(r"smaller than required_chars\D+\d+ vs (\d+)")
_LONGEST_CHUNK = 1024
_PART = re.compile(f".{{1,{_LONGEST_CHUNK}}}(?= |\\Z)|.{{1,{_LONGEST_CHUNK}}}", re.DOTALL)
_BLOCK_CHARACTERS = 2**15  # split at a time: a larger block does not fit the processor's cache
SCORE_STEP = 2.0**-8  # nats: 1024 scores from -64 on, in this step, fill the 24 bits of a float32
# Tags of Protocol Buffers: a piece of the model, and in it its name (text) and score (float32).
_PIECE, _NAME, _SCORE = 0x0A, 0x0A, 0x15
_SEPARATORS = "\0\1\2\3\4\5\6\7\udc00"  # the last is in no text that is UTF-8


class SubwordTokenizer(Tokenizer):
    """Unigram or BPE pieces of sentencepiece with byte fallback, after our special tokens.

    >>> config = TokenizerConfig(level="subword", vocab_size=270)
    >>> tokenizer = SubwordTokenizer.learn(config, ["low lower\\n", "low slow\\n"])
    >>> [tokenizer.token(id) for id in tokenizer.encode("lower\\né")]
    ['low', 'e', 'r', '<EOS>', '<0xC3>', '<0xA9>']
    """

    level: ClassVar[Level] = "subword"

    def __init__(self, config: TokenizerConfig, model: bytes) -> None:
        """model: a serialized sentencepiece model. Raises ValueError if textgen did not make it."""
        super().__init__(config)
        self._model = model
        self._processor, pieces = _load_processor(model)
        self._tokens = [*SPECIAL_TOKENS, *pieces]
        self._texts = [
            SPECIAL_TOKENS[UNK].encode(),
            self.terminator.encode(),
            *(bytes([byte]) for byte in range(_BYTES)),
            *(piece.replace(SPACE, " ").encode() for piece in pieces[_BYTES:]),
        ]
        literal = () if config.unk_literal is None else (config.unk_literal,)
        self._not_in_pieces = (*literal, SPACE)
        self._split = re.compile(f"({'|'.join(map(re.escape, self._not_in_pieces))})").split
        self._line_ends = {
            "": [],
            "\n": _byte_ids("\n"),
            **({self.terminator: [EOS]} if self.terminator else {}),
        }
        self._cache = ChunkCache(self._encode_chunks, self._line_ends)

    @classmethod
    def learn(cls, config: TokenizerConfig, texts: Iterable[str]) -> "SubwordTokenizer":
        """Learn the pieces from an even sample of the lines, of at most 4 million characters.

        The vocabulary is smaller than ``--vocab-size`` if the text supports no more, and larger
        than its default if the characters of the text need it.

        Raises:
            UsageError: ``--vocab-size`` is too small for the characters of the text.
        """
        lines, step = _sampled_lines(texts)
        learnable = list(_learnable(lines, config)) or [" "]
        size = config.largest_vocabulary or _FEWEST_PIECES
        try:
            model = _train(learnable, size, config)
        except RuntimeError as error:
            needed = _TOO_SMALL.search(str(error))
            if needed is None:
                raise
            least = int(needed[1])
            if config.vocab_size is not None:
                raise UsageError(
                    f"--vocab-size {size} is too small for this text",
                    why=f"<UNK>, <EOS>, 256 bytes and its characters are {least} tokens",
                    fix=f"give at least {least}",
                ) from error
            model = _train(learnable, least, config)
        tokenizer = cls(config, model)
        found = tokenizer.vocabulary_size
        notes = [f"the vocabulary is {found}: the text supports no more"] if found < size else []
        if step > 1:
            notes.append(f"the pieces were learned from one line in {step}")
        tokenizer.notes = tuple(notes)
        return tokenizer

    @classmethod
    def load(cls, config: TokenizerConfig, files: dict[str, Path]) -> "SubwordTokenizer":
        path = storage.require(files, FILE)
        if path.stat().st_size > _LARGEST_MODEL:
            raise CheckpointError("not read", where=path, why="no model of textgen's is this large")
        model = path.read_bytes()
        with storage.reading(path):
            if not model:  # which sentencepiece would not load, and report on stderr
                raise ValueError("it is empty")
            return cls(config, model)

    def save(self, folder: Path) -> None:
        (folder / FILE).write_bytes(self._model)

    @property
    def vocabulary_size(self) -> int:
        return len(self._tokens)

    def pieces(self) -> list[tuple[str, float]]:
        """The pieces after the bytes, in the order of their ids, each with its score.

        The score of a unigram piece is its ln p; of two BPE pieces, the higher is merged first.
        """
        ids = range(_FEWEST_PIECES, self.vocabulary_size)
        return [(self._tokens[id], self._processor.get_score(id)) for id in ids]

    def encode(self, text: str) -> Ids:
        if not text.isascii() and not is_text(text):
            text = text.encode("utf-8", "replace").decode()  # lone surrogates
        if self.config.subword_model == "bpe":
            return self._cache.ids(self._chunks(text))
        ids = array("I")
        for chunks in self._chunks(text):
            lines, ends = chunks[::2], chunks[1::2]
            for of_line, end in zip(self._encode_chunks(lines), [*ends, ""], strict=False):
                ids.fromlist(of_line)
                ids.fromlist(self._line_ends[end])
        return np.frombuffer(ids, dtype=np.uint32)

    def _chunks(self, text: str) -> Iterator[list[str]]:
        """Lines and their ends alternately; for BPE, lines are also split before words."""
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

    def _encode_chunks(self, chunks: list[str]) -> Iterable[list[int]]:
        joined = "\n".join(chunks)
        short = len(joined) <= _LONGEST_CHUNK or max(map(len, chunks)) <= _LONGEST_CHUNK
        if short and not any(text in joined for text in self._not_in_pieces):
            return self._sentencepiece_ids(chunks)  # one call for all takes half the time
        return map(self._encode_in_parts, chunks)

    def _encode_in_parts(self, chunk: str) -> list[int]:
        ids: list[int] = []
        for part in _PART.findall(chunk):
            for text in self._split(part):
                if text == self.config.unk_literal:
                    ids.append(UNK)
                elif text == SPACE:
                    ids += _byte_ids(text)
                elif text:
                    ids += self._sentencepiece_ids([text])[0]
        return ids

    def _sentencepiece_ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self._processor.encode(texts, num_threads=1)
        return ids

    def token_texts(self, text: str) -> list[str]:
        """As of every tokenizer; a lone surrogate of the text is ``?``."""
        characters = codecs.getincrementaldecoder("utf-8")()
        literal = (self.config.unk_literal or "").encode()
        ids = self.encode(text).tolist()
        return [characters.decode(literal if id == UNK else self._texts[id]) for id in ids]

    def decode(self, ids: Sequence[int] | Ids) -> str:
        texts = [self._texts[id] for id in np.asarray(ids, dtype=np.int64).tolist()]
        return b"".join(texts).decode("utf-8", "replace")

    def decoder(self) -> "_SubwordDecoder":
        return _SubwordDecoder(self._pieces)

    @cached_property
    def _pieces(self) -> "_Pieces":
        return _Pieces(self._texts)

    def continuation(self, prompt: str) -> Continuation:
        """Prepare a prompt.

        A space at its end belongs to the next word: it is not encoded, and the next token must
        be a piece that starts with it.
        """
        starts_word = any(piece.startswith(b" ") for piece in self._texts)
        if not prompt.endswith(" ") or prompt.endswith("  ") or not starts_word:
            return super().continuation(prompt)
        start = super().continuation(prompt[:-1])
        assert isinstance(start.decoder, _SubwordDecoder)
        start.decoder.skip_space()
        return start

    def scored_pieces(self) -> list[tuple[str, float]]:
        """The pieces that are no bytes, by id, with the scores that sentencepiece gives them."""
        ids = range(_FEWEST_PIECES, self.vocabulary_size)
        return [(self._tokens[id], self._processor.get_score(id)) for id in ids]

    def _spelling(self) -> NothingUnknown:
        return NothingUnknown()

    def token(self, id: int) -> str:
        return self._tokens[id]

    def text_of(self, id: int) -> str:
        if id < len(SPECIAL_TOKENS):
            return SPECIAL_TOKENS[id]
        try:
            return self._texts[id].decode()
        except UnicodeDecodeError:
            return self._tokens[id]

    @property
    def fingerprint(self) -> str:
        decisive = [self.level, self.config.unit, self.config.unk_literal]
        digest = hashlib.sha256(storage.json_text(decisive).encode())
        digest.update(self._model)
        return digest.hexdigest()


class _Pieces:
    """The text of each id in UTF-8, and which ids can come where."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.texts = texts
        self.starts_word = np.array([text.startswith(b" ") for text in texts])
        self._valid_after: dict[bytes, Mask] = {}

    @cached_property
    def without_space(self) -> list[bytes]:
        return [text.removeprefix(b" ") for text in self.texts]

    def valid_after(self, pending: bytes) -> Mask:
        """The ids that continue a character with these first bytes."""
        if pending not in self._valid_after:
            valid = [_begins_utf8(pending + text) for text in self.texts]
            self._valid_after[pending] = np.array(valid)
        return self._valid_after[pending]


class _SubwordDecoder(Decoder):
    """Buffers the bytes of a character until it is complete."""

    def __init__(self, pieces: _Pieces) -> None:
        self._pieces = pieces
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._space_given = False

    def feed(self, id: int) -> str:
        text = self.next_bytes()[id]
        self._space_given = False
        return self._characters.decode(text)

    def finish(self) -> str:
        return self._characters.decode(b"", final=True)

    @property
    def mid_character(self) -> bool:
        return bool(self._characters.getstate()[0])

    @property
    def joined(self) -> bool:
        return self._space_given

    @property
    def context(self) -> Hashable:
        return self._space_given, self._characters.getstate()[0]

    def next_bytes(self) -> Sequence[bytes]:
        return self._pieces.without_space if self._space_given else self._pieces.texts

    def next_mask(self) -> Mask:
        if self._space_given:
            return self._pieces.starts_word
        return self._pieces.valid_after(self._characters.getstate()[0])

    def copy(self) -> Self:
        other = super().copy()
        other._characters = codecs.getincrementaldecoder("utf-8")("replace")
        other._characters.setstate(self._characters.getstate())
        return other

    def skip_space(self) -> None:
        """Omit the space that the next piece starts with, which the text already has."""
        self._space_given = True


def _begins_utf8(data: bytes) -> bool:
    """Whether some text in UTF-8 begins with these bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return False
    pending = decoder.getstate()[0]
    return not b"\xed\xa0" <= pending < b"\xee"  # a surrogate, which Python refuses a byte later


def _byte_ids(text: str) -> list[int]:
    return [len(SPECIAL_TOKENS) + byte for byte in text.encode()]


def _load_processor(model: bytes) -> tuple[Any, list[str]]:
    """The sentencepiece processor of a model, and its pieces by id, from the first byte on.

    Raises ValueError if textgen did not make the model.
    """
    import sentencepiece

    if not model:
        raise ValueError("it is empty")
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        ids = range(len(SPECIAL_TOKENS), processor.get_piece_size())
        pieces = [processor.id_to_piece(id) for id in ids]
        specials = [getattr(processor, f"{name}_id")() for name in ("unk", "eos", "bos", "pad")]
        are_bytes = [processor.is_byte(id) for id in range(min(_FEWEST_PIECES, ids.stop))]
        never_used = any(processor.is_unused(id) or processor.is_control(id) for id in ids)
    except (RuntimeError, UnicodeDecodeError, TypeError) as error:
        raise ValueError(f"sentencepiece does not read it ({error})") from error
    names = [f"<0x{byte:02X}>" for byte in range(_BYTES)]
    bytes_come_first = are_bytes == [False] * len(SPECIAL_TOKENS) + [True] * _BYTES
    if specials != [UNK, EOS, -1, -1] or pieces[:_BYTES] != names or not bytes_come_first:
        raise ValueError("it is a sentencepiece model, but not one of textgen's")
    too_long = any(len(piece) > _LONGEST_PIECE for piece in pieces)
    distinct = len(set(pieces)) == len(pieces) and all(pieces) and SPACE in pieces
    if never_used or too_long or not distinct:
        raise ValueError("its pieces are not as textgen learns them")
    return processor, pieces


def _sampled_lines(texts: Iterable[str]) -> tuple[list[str], int]:
    """Every n-th line, with the least power of two n for which they are few enough; and n."""
    sample: list[str] = []
    step, characters, line_number = 1, 0, 0
    for text in texts:
        lines = text.split("\n")
        chosen = lines[-line_number % step :: step]
        line_number += len(lines)
        sample += chosen
        characters += sum(map(len, chosen))
        while characters > _SAMPLE_CHARACTERS and len(sample) > 1:
            sample, step = sample[::2], step * 2
            characters = sum(map(len, sample))
    return sample, step


def _learnable(lines: Iterable[str], config: TokenizerConfig) -> Iterator[str]:
    """The lines, split at what can be in no piece: reserved and rare characters, the literal."""
    lines = list(lines)
    pattern = f"[{_NOT_LEARNED}]+"
    if config.unk_literal is not None:
        pattern += f"|{re.escape(config.unk_literal)}"
    if config.least_count > 1:
        counts = Counter[str]()
        for line in lines:
            counts.update(line)
        rare = [char for char, count in counts.items() if count < config.least_count]
        pattern += "".join(f"|{re.escape(char)}" for char in rare)
    for line in lines:
        for part in re.split(pattern, line):
            yield from _LEARNED_LINE.findall(part)


def _train(lines: Iterable[str], size: int, config: TokenizerConfig) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type=config.subword_model,
        vocab_size=size,
        hard_vocab_limit=False,
        byte_fallback=True,
        required_chars=SPACE,  # without its own piece, a space would be the bytes of "▁"
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        unk_id=UNK,
        eos_id=EOS,
        bos_id=-1,
        pad_id=-1,
        num_threads=1,  # the sums of several threads would round differently
        minloglevel=2,  # no output
    )
    trained = model.getvalue()
    return with_round_scores(trained) if config.subword_model == "unigram" else trained


def with_round_scores(model: bytes) -> bytes:
    """A sentencepiece model whose scores are multiples of ``SCORE_STEP``.

    sentencepiece adds scores in float32, where sums of 1024 such are exact: of two ways to split a
    word that are equally probable, such as "...", ".", the first is taken wherever the word stands.
    Else it depends on how the sum of all that is before the word was rounded.
    """
    rounded, at = bytearray(model), 0
    while at < len(model) and model[at] == _PIECE:
        length, start = _varint(model, at + 1)
        name_length, name = _varint(model, start + 1)
        score = name + name_length + 1
        assert model[start] == _NAME and model[score - 1] == _SCORE
        (value,) = struct.unpack_from("<f", model, score)
        struct.pack_into("<f", rounded, score, round(value / SCORE_STEP) * SCORE_STEP)
        at = start + length
    return bytes(rounded)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a byte, 7 bits in each, and the place after it."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at
