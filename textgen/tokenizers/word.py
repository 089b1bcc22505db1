"""The word tokenizer: one id per word and, with ``--split punctuation``, per adjacent symbol."""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from textgen.config import UNIT_TERMINATORS, Level, TokenizerConfig
from textgen.errors import CheckpointError
from textgen.tokenizers.base import (
    EOS,
    SPECIAL_TOKENS,
    UNK,
    ChunkCache,
    Continuation,
    Decoder,
    Ids,
    Mask,
    is_text,
    with_eos,
)
from textgen.tokenizers.pretokenization import (
    EMPTY,
    GLUE,
    JOINER,
    UNKNOWN,
    UNSPACED_CHUNKS,
    Block,
    ChunkStream,
    TokenForm,
    blocks,
    chunk_splitter,
    chunks,
    token_form,
    whitespace_spans,
)
from textgen.tokenizers.spelling import WordSpelling
from textgen.tokenizers.vocabulary import (
    FILE,
    SymbolTokenizer,
    load_symbols,
    most_frequent,
    save_symbols,
)
from textgen.tokenizers.word_table import WordTable

RARE_WORDS_FILE = "spelling.json"
_MOST_RARE, _LONGEST_RARE = 2**17, 64  # words, characters: bounds of the file
_MOST_CHUNKS, _MOST_TOKENS = 2**18, 2**20  # counted at a time: bounds of the memory
_MOST_LISTS = 2**10  # of chunks, between two checks of these bounds
_MOST_CACHED, _LONGEST_CACHED = 2**16, 64  # chunks, characters
_SHORTEST_BLOCK = 2**13  # characters: for fewer, the cache is faster if the words were seen
_NO_IDS = np.empty(0, dtype=np.uint32)


class WordTokenizer(SymbolTokenizer):
    """One id per word, as ``pretokenization`` defines words.

    rare: words that were seen but not learned, training data of the spelling model.

    >>> config = TokenizerConfig(level="word", min_count=1)
    >>> tokenizer = WordTokenizer.learn(config, ["No, no.\\n"])
    >>> [tokenizer.token(id) for id in tokenizer.encode("no, No?\\n")]
    ['no', '￭,', 'No', '<UNK>', '<EOS>']
    """

    level: ClassVar[Level] = "word"

    def __init__(
        self, config: TokenizerConfig, symbols: Sequence[str], rare: Sequence[str] = ()
    ) -> None:
        super().__init__(config, symbols)
        self.rare = tuple(rare) if config.unk_literal is None else ()
        self._ids = {token: id for id, token in enumerate(symbols, start=2)}
        self._lossless = config.split == "punctuation"
        self._split = chunk_splitter(config)
        self._cached_chunk_texts = lru_cache(_MOST_CACHED)(self._chunk_texts)
        fixed = {self.terminator: [EOS]} if self.terminator else {}
        self._cache = ChunkCache(self._encode_chunks, fixed)

    @cached_property
    def _table(self) -> WordTable:
        return WordTable(self.config, self._ids)

    @classmethod
    def counts(cls, config: TokenizerConfig, texts: Iterable[str]) -> dict[str, int]:
        return _TokenCounter(config, texts).counts()

    @classmethod
    def learn(cls, config: TokenizerConfig, texts: Iterable[str]) -> "WordTokenizer":
        counter = _TokenCounter(config, texts)
        counts = counter.counts()
        symbols = most_frequent(counts, config)
        tokenizer = cls(config, symbols, most_frequent_rare(counts, symbols))
        if counter.dropped:
            tokenizer.notes = (
                f"words counted at most {counter.dropped} times were dropped while counting,"
                " to bound memory",
            )
        return tokenizer

    @classmethod
    def load(cls, config: TokenizerConfig, files: dict[str, Path]) -> "WordTokenizer":
        symbols = load_symbols(files, FILE, "symbols")
        if config.unk_literal is not None:
            return cls(config, symbols)
        rare = load_symbols(files, RARE_WORDS_FILE, "rare")
        if len(rare) > _MOST_RARE or any(len(word) > _LONGEST_RARE for word in rare):
            why = "it has more or longer words than textgen writes"
            raise CheckpointError("damaged", where=files[RARE_WORDS_FILE], why=why)
        if not frozenset(symbols).isdisjoint(rare):
            why = "a word in it is in the vocabulary, too"
            raise CheckpointError("damaged", where=files[RARE_WORDS_FILE], why=why)
        return cls(config, symbols, rare)

    def save(self, folder: Path) -> None:
        super().save(folder)
        if self.config.unk_literal is None:
            save_symbols(folder / RARE_WORDS_FILE, "rare", self.rare)

    def _with_symbols(
        self, config: TokenizerConfig, symbols: Sequence[str], learned: SymbolTokenizer
    ) -> Self:
        assert isinstance(learned, WordTokenizer)
        words = dict.fromkeys((*learned.symbols, *learned.rare, *self.rare))
        return type(self)(config, symbols, _possible_rare(words, symbols)[:_MOST_RARE])

    def symbol_text(self, symbol: str) -> str:
        if not self._lossless or symbol == UNKNOWN:
            return symbol
        return " " if symbol == EMPTY else token_form(symbol).text

    def _spelling(self) -> WordSpelling:
        return WordSpelling(self.symbols, self.rare)

    def encode(self, text: str) -> Ids:
        return self._encode_blocks(blocks(self.config, [text]))

    def _encode_blocks(self, blocks: Iterable[Block]) -> Ids:
        found = list(map(self._encode_block, blocks))
        return found[0] if len(found) == 1 else np.concatenate(found or [_NO_IDS])

    def _encode_block(self, block: Block) -> Ids:
        ids = self._table.ids(block) if len(block.text) >= _SHORTEST_BLOCK else None
        return self._cache.ids([block.chunks(self.config.unit)]) if ids is None else ids

    def _encode_chunks(self, chunks: list[str]) -> Iterator[list[int]]:
        id_of = self._ids.get
        return ([id_of(token, UNK) for token in self._split(chunk)] for chunk in chunks)

    def encode_pieces(self, pieces: Iterable[tuple[str, bool]]) -> Iterator[Ids]:
        stream = ChunkStream(self.config)
        for text, ends_document in pieces:
            yield self._encode_blocks(stream.feed(text))
            if ends_document:
                yield with_eos(self._encode_blocks(stream.finish()))
        yield self._encode_blocks(stream.finish())

    def token_texts(self, text: str) -> list[str]:
        if not self._lossless:
            return whitespace_spans(self.config, text)
        texts: list[str] = []
        spaced = False
        for chunk in chain.from_iterable(chunks(self.config, [text])):
            short = len(chunk) <= _LONGEST_CACHED
            texts += (self._cached_chunk_texts if short else self._chunk_texts)(chunk, spaced)
            spaced = chunk not in UNSPACED_CHUNKS
        return texts

    def _chunk_texts(self, chunk: str, spaced: bool) -> list[str]:
        """The token texts of a chunk; inside it no token has a space."""
        if chunk in UNSPACED_CHUNKS:
            return [chunk.strip(GLUE)]
        tokens = self._split(chunk)
        texts = [token_form(t).text if t else str(self.config.unk_literal) for t in tokens]
        return [" " * spaced + texts[0], *texts[1:]]

    def unknown_names(self, text: str) -> list[str]:
        literal = str(self.config.unk_literal)
        return [
            token or literal
            for chunk in chain.from_iterable(chunks(self.config, [text]))
            if not chunk or chunk != self.terminator
            for token in self._split(chunk)
            if token not in self._ids
        ]

    def decoder(self) -> "_WordDecoder":
        return _WordDecoder(self._texts)

    @cached_property
    def _texts(self) -> "_Texts":
        end = TokenForm(self.terminator, joins_left=True, joins_right=True)
        form = token_form if self._lossless else TokenForm
        return _Texts([TokenForm(SPECIAL_TOKENS[UNK]), end, *map(form, self.symbols)])

    def continuation(self, prompt: str) -> Continuation:
        """Prepare a prompt.

        A space at its end belongs to the next word: it is not encoded, and the next token must
        be one with a space before it. A symbol at its end, such as an opening bracket, is encoded
        in the more frequent of its two forms: followed by a space or by a word.
        """
        ids = self.encode(prompt)
        if self._lossless:
            spaced = prompt.endswith(" ")
        else:
            spaced = prompt[-1:].isspace() and not prompt.endswith("\n")
        if self._lossless and spaced:
            ids = ids[:-1]
        elif self._lossless and len(ids):
            last_chunk = prompt.rpartition(" ")[2].rpartition("\n")[2]
            if last_chunk:
                before_word = self._ids.get(self._split(last_chunk)[-1] + JOINER, UNK)
                if before_word != UNK and (before_word < ids[-1] or ids[-1] == UNK):
                    ids = np.append(ids[:-1], np.uint32(before_word))
        start = self._continuation(ids)
        if spaced:
            assert isinstance(start.decoder, _WordDecoder)
            start.decoder.skip_space()
        return start


class _Texts:
    """The text of each id, without a space before it (joined) and with one where it has one."""

    def __init__(self, forms: Sequence[TokenForm]) -> None:
        self.joined = [form.text for form in forms]
        self.spaced = [form.text if form.joins_left else " " + form.text for form in forms]
        self.joins_right = [form.joins_right for form in forms]
        self.has_space = np.array([not form.joins_left for form in forms])

    @cached_property
    def in_utf8(self) -> tuple[list[bytes], list[bytes]]:
        """Of ``spaced`` and of ``joined``."""
        return [text.encode() for text in self.spaced], [text.encode() for text in self.joined]


class _WordDecoder(Decoder):
    def __init__(self, texts: _Texts) -> None:
        self._texts = texts
        self._joined = True  # there is no space at the start of a text
        self._space_given = False

    def feed(self, id: int) -> str:
        text = (self._texts.joined if self._joined else self._texts.spaced)[id]
        self._joined, self._space_given = self._texts.joins_right[id], False
        return text

    @property
    def joined(self) -> bool:
        return self._joined

    @property
    def context(self) -> Hashable:
        return self._joined, self._space_given

    def next_bytes(self) -> Sequence[bytes]:
        return self._texts.in_utf8[self._joined]

    def next_mask(self) -> Mask | None:
        return self._texts.has_space if self._space_given else None

    def skip_space(self) -> None:
        """Omit the space before the next token, which the text already has."""
        self._joined = self._space_given = True


class _TokenCounter:
    """Counts the tokens of a text of any length in bounded memory.

    dropped: the count up to which rare tokens were dropped to bound the memory, usually 0.
    """

    def __init__(self, config: TokenizerConfig, texts: Iterable[str]) -> None:
        self.dropped = 0
        self._split = chunk_splitter(config)
        self._terminator = UNIT_TERMINATORS[config.unit]
        self._chunks: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._lists = 0
        for some in chunks(config, texts):
            self._add(some)

    def _add(self, chunks: list[str]) -> None:
        self._chunks.update(chunks)
        self._lists += 1
        if len(self._chunks) > _MOST_CHUNKS or self._lists > _MOST_LISTS:
            self._split_chunks()

    def counts(self) -> dict[str, int]:
        """The counts of all tokens that can be symbols."""
        self._split_chunks()
        return {
            token: count
            for token, count in self._tokens.items()
            if token != UNKNOWN and is_text(token)
        }

    def _split_chunks(self) -> None:
        if self._terminator:
            del self._chunks[self._terminator]
        for chunk, count in self._chunks.items():
            for token in self._split(chunk):
                self._tokens[token] += count
        self._chunks.clear()
        self._lists = 0
        while len(self._tokens) > _MOST_TOKENS:
            self.dropped += 1
            frequent = {token: n for token, n in self._tokens.items() if n > self.dropped}
            self._tokens = Counter(frequent)


def most_frequent_rare(counts: Mapping[str, int], symbols: Collection[str]) -> list[str]:
    """The words that are counted but not symbols, by descending count, ties in their order.

    Sorted by code point, the words at the limit would all begin with the same few letters.

    >>> most_frequent_rare({"b": 1, "a": 1, "c": 2, "d": 9}, ["d"])
    ['c', 'b', 'a']
    """
    words = sorted(_possible_rare(counts, symbols), key=counts.__getitem__, reverse=True)
    return words[:_MOST_RARE]


def _possible_rare(words: Iterable[str], symbols: Collection[str]) -> list[str]:
    known = frozenset(symbols)
    return [word for word in words if len(word) <= _LONGEST_RARE and word not in known]
