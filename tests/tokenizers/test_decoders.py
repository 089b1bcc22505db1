"""What the decoders of all tokenizers promise to those who write with them."""

from collections.abc import Hashable

import pytest

from textgen.config import TokenizerConfig
from textgen.tokenizers.base import UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer

TEXT = 'the king said, (so) "the" café.\nwide wider widest €\n' * 4
LEVELS: list[dict[str, object]] = [
    {"level": "char"},
    {"level": "word", "min_count": 1},
    {"level": "word", "min_count": 1, "split": "whitespace"},
    {"level": "subword", "vocab_size": 290},
    {"level": "subword", "vocab_size": 290, "subword_model": "bpe"},
]


@pytest.fixture(params=LEVELS, ids=lambda options: "-".join(map(str, options.values())))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return learn_tokenizer(TokenizerConfig.from_options(request.param), [(TEXT, False)])


@pytest.mark.parametrize("prompt", ["", "the", "the ", "the king said,", "wide (", "€\n"])
def test_a_decoder_writes_what_it_said_an_id_would_write(tokenizer: Tokenizer, prompt: str) -> None:
    start = tokenizer.continuation(prompt)
    for id in tokenizer.encode(TEXT).tolist():
        spellings = start.decoder.next_bytes()
        assert len(spellings) == tokenizer.vocabulary_size
        waited = start.decoder.mid_character
        written = start.decoder.feed(id)
        if not waited and not start.decoder.mid_character:
            assert written.encode() == spellings[id]


def test_the_text_of_a_corpus_always_fits(tokenizer: Tokenizer) -> None:
    decoder = tokenizer.decoder()
    for id in tokenizer.encode(TEXT).tolist():
        fitting = decoder.next_mask()
        assert fitting is None or fitting[id]
        decoder.feed(id)


def test_equal_contexts_have_equal_successors(tokenizer: Tokenizer) -> None:
    decoder = tokenizer.decoder()
    seen: dict[Hashable, tuple[object, object]] = {}
    by_joined: dict[bool, object] = {}
    for id in tokenizer.encode(TEXT).tolist():
        mask = decoder.next_mask()
        successors = (decoder.next_bytes(), None if mask is None else mask.tolist())
        assert seen.setdefault(decoder.context, successors) == successors
        assert by_joined.setdefault(decoder.joined, successors[0]) == successors[0]
        decoder.feed(id)


def test_a_copy_goes_its_own_way(tokenizer: Tokenizer) -> None:
    start = tokenizer.continuation("the ")
    copy = start.decoder.copy()
    ids = tokenizer.encode("the king king").tolist()[len(start.ids) :]
    texts = ["".join(map(decoder.feed, ids)) for decoder in (start.decoder, copy)]
    assert texts == ["king king"] * 2


def test_what_is_unknown_is_named_once_each(tokenizer: Tokenizer) -> None:
    text = "the ñ ñandú, ж said\n"
    unknown = tokenizer.unknown_in(text)
    assert bool(unknown) == (UNK in tokenizer.encode(text).tolist())
    if unknown:
        assert len(set(unknown)) == len(unknown)
        assert all(tokenizer.encode(each).tolist() == [UNK] for each in unknown)
    assert tokenizer.unknown_in(TEXT) == ()
