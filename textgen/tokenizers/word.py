"""Words: one id a word and, with ``--split punctuation``, one a symbol beside it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from textgen.config import UNIT_TERMINATORS, TokenizerConfig
from textgen.errors import CheckpointError
from textgen.tokenizers import vocabulary
from textgen.tokenizers import words as token_texts
from textgen.tokenizers.base import (
    EOS,
    SPECIAL_TOKENS,
    UNK,
    Continuation,
    Decoder,
    Ids,
    Mask,
    is_text,
)
from textgen.tokenizers.spelling import WordSpelling
from textgen.tokenizers.symbols import SymbolTokenizer
from textgen.tokenizers.vocabulary import ChunkMemory
from textgen.tokenizers.words import (
    JOINER,
    UNKNOWN,
    ChunkStream,
    Written,
    chunks,
    chunks_of_pieces,
    splitter,
    written,
)

_MOST_CHUNKS, _MOST_TOKENS = 2**18, 2**20  # counted at a time, so that memory stays bounded
_MOST_LISTS = 2**10  # between two looks at the counts


class WordTokenizer(SymbolTokenizer):
    """One id a word, as ``splitting`` says what a word is.

    >>> config = TokenizerConfig(level="word", min_count=1)
    >>> tokenizer = WordTokenizer.learn(config, ["No, no.\\n"])
    >>> [tokenizer.token(id) for id in tokenizer.encode("no, No?\\n")]
    ['no', '￭,', 'No', '<UNK>', '<EOS>']
    """

    level = "word"

    def __init__(
        self, config: TokenizerConfig, symbols: Sequence[str], rare: Sequence[str] = ()
    ) -> None:
        """rare: words that were seen but not learned, of which ``spelling`` learns."""
        super().__init__(config, symbols)
        self.rare = tuple(rare) if config.unk_literal is None else ()
        self._ids = {token: id for id, token in enumerate(symbols, start=2)}
        lossless = config.split == "punctuation"
        end = Written(self.terminator, joins_left=True, joins_right=True)
        self._written = [Written(SPECIAL_TOKENS[UNK]), end]
        self._written += [written(token) if lossless else Written(token) for token in symbols]
        self._split = splitter(config)
        self._surfaces = token_texts.of_chunks(config, self._split)
        fixed = {self.terminator: [EOS]} if self.terminator else {}
        self._memory = ChunkMemory(self._work_out, fixed)

    @classmethod
    def learn(cls, config: TokenizerConfig, texts: Iterable[str]) -> "WordTokenizer":
        counts = _Counts(config)
        for some in chunks_of_pieces(config, texts):
            counts.add(some)
        tokens = counts.tokens()
        symbols = vocabulary.ranked(tokens, config)
        tokenizer = cls(config, symbols, vocabulary.left_out(tokens, symbols))
        if counts.forgotten:
            tokenizer.notes = (
                f"words counted at most {counts.forgotten} times were dropped on the way,"
                " to bound memory",
            )
        return tokenizer

    @classmethod
    def load(cls, config: TokenizerConfig, files: dict[str, Path]) -> "WordTokenizer":
        symbols, where = vocabulary.load(files)
        if not all(symbols):
            raise CheckpointError("damaged", where=where, why="a symbol is empty")
        return cls(config, symbols, vocabulary.load_rare_words(files, symbols))

    def save(self, folder: Path) -> None:
        super().save(folder)
        if self.config.unk_literal is None:
            vocabulary.save_rare_words(folder, self.rare)

    def _grown(
        self, config: TokenizerConfig, symbols: Sequence[str], learned: SymbolTokenizer
    ) -> Self:
        assert isinstance(learned, WordTokenizer)
        lists = (learned.symbols, learned.rare, self.rare)
        return type(self)(config, symbols, vocabulary.merged(lists, symbols))

    def _spelling(self) -> WordSpelling:
        return WordSpelling(self.symbols, self.rare)

    def encode(self, text: str) -> Ids:
        return self._memory.ids(chunks(self.config, text))

    def _work_out(self, chunks: list[str]) -> Iterator[list[int]]:
        id_of = self._ids.get
        return ([id_of(token, UNK) for token in self._split(chunk)] for chunk in chunks)

    def encode_pieces(self, pieces: Iterable[tuple[str, bool]]) -> Iterator[Ids]:
        stream = ChunkStream(self.config)
        for text, ends_document in pieces:
            yield self._memory.ids(stream.feed(text))
            if ends_document:
                yield np.append(self._memory.ids(stream.finish()), np.uint32(EOS))
        yield self._memory.ids(stream.finish())

    def token_texts(self, text: str) -> list[str]:
        if self.config.split == "whitespace":
            return token_texts.between_spaces(self.config, text)
        return self._surfaces(chunks(self.config, text))

    def unknown_names(self, text: str) -> list[str]:
        literal = str(self.config.unk_literal)
        return [
            token or literal
            for some in chunks(self.config, text)
            for chunk in some
            if not chunk or chunk != self.terminator
            for token in self._split(chunk)
            if token not in self._ids
        ]

    def decode(self, ids: Sequence[int] | Ids) -> str:
        decoder = self.decoder()
        return "".join(map(decoder.feed, np.asarray(ids, dtype=np.int64).tolist()))

    def decoder(self) -> "_WordDecoder":
        return _WordDecoder(self._forms)

    @cached_property
    def _forms(self) -> "_Forms":
        return _Forms(self._written)

    def continuation(self, prompt: str) -> Continuation:
        """How to go on from a prompt.

        A space at its end belongs to the word that comes: it is not encoded, and what can come
        is a token that takes a space. A symbol at its end, such as an opening bracket, is read
        in the more frequent of its forms: with a space after it or with a word.
        """
        ids = self.encode(prompt).copy()
        lossless = self.config.split == "punctuation"
        spaced = prompt[-1:] == " " if lossless else prompt[-1:].isspace() and prompt[-1:] != "\n"
        if spaced:
            ids = ids[:-1] if lossless else ids
        elif lossless and len(ids):
            ids[-1] = self._likelier_form(
                prompt.rpartition(" ")[2].rpartition("\n")[2], int(ids[-1])
            )
        decoder = self.decoder()
        for id in ids.tolist():
            decoder.feed(id)
        if spaced:
            decoder.skip_space()
        return Continuation(ids, decoder)

    def _likelier_form(self, chunk: str, id: int) -> int:
        """The id of the chunk's last symbol, as encoded or as before a word: the frequent one."""
        if not chunk:
            return id
        before_word = self._ids.get(self._split(chunk)[-1] + JOINER, UNK)
        return before_word if UNK < before_word < id or id == UNK else id


class _Forms:
    """What each id writes, with the space before it where it takes one, and without."""

    def __init__(self, written: Sequence[Written]) -> None:
        self.joined = [token.text for token in written]
        self.apart = [t.text if t.joins_left else " " + t.text for t in written]
        self.joins_right = [token.joins_right for token in written]
        self.takes_space = np.array([not token.joins_left for token in written])

    @cached_property
    def joined_bytes(self) -> list[bytes]:
        return [text.encode() for text in self.joined]

    @cached_property
    def apart_bytes(self) -> list[bytes]:
        return [text.encode() for text in self.apart]


class _WordDecoder(Decoder):
    def __init__(self, forms: _Forms) -> None:
        self._forms = forms
        self._joined = True  # at the start of a text, no space comes first
        self._spaced = False

    def feed(self, id: int) -> str:
        text = (self._forms.joined if self._joined else self._forms.apart)[id]
        self._joined, self._spaced = self._forms.joins_right[id], False
        return text

    def spellings(self) -> Sequence[bytes]:
        return self._forms.joined_bytes if self._joined else self._forms.apart_bytes

    def fitting(self) -> Mask | None:
        return self._forms.takes_space if self._spaced else None

    def skip_space(self) -> None:
        """Write no space before the next token, which takes one: the text has it already."""
        self._joined = self._spaced = True


class _Counts:
    """How often each token occurs in a text of any length, in bounded memory.

    forgotten: the count up to which rare tokens had to be dropped on the way, mostly 0.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        self.forgotten = 0
        self._split = splitter(config)
        self._end = UNIT_TERMINATORS[config.unit]
        self._chunks: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._lists = 0  # whose chunks were not yet split

    def add(self, chunks: list[str]) -> None:
        self._chunks.update(chunks)
        self._lists += 1
        if len(self._chunks) > _MOST_CHUNKS or self._lists > _MOST_LISTS:
            self._settle()

    def tokens(self) -> dict[str, int]:
        """The counts of all that can be a symbol."""
        self._settle()
        return {
            token: n for token, n in self._tokens.items() if token != UNKNOWN and is_text(token)
        }

    def _settle(self) -> None:
        if self._end:
            del self._chunks[self._end]
        for chunk, count in self._chunks.items():
            for token in self._split(chunk):
                self._tokens[token] += count
        self._chunks.clear()
        self._lists = 0
        while len(self._tokens) > _MOST_TOKENS:
            self.forgotten += 1
            kept = {token: n for token, n in self._tokens.items() if n > self.forgotten}
            self._tokens = Counter(kept)
