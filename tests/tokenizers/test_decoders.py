"""What the decoders of all tokenizers promise to those who write with them."""

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
        spellings = start.decoder.spellings()
        assert len(spellings) == tokenizer.vocabulary_size
        waited = start.decoder.waits
        written = start.decoder.feed(id)
        if not waited and not start.decoder.waits:
            assert written.encode() == spellings[id]


def test_the_text_of_a_corpus_always_fits(tokenizer: Tokenizer) -> None:
    decoder = tokenizer.decoder()
    for id in tokenizer.encode(TEXT).tolist():
        fitting = decoder.fitting()
        assert fitting is None or fitting[id]
        decoder.feed(id)


def test_the_same_place_has_the_same_objects(tokenizer: Tokenizer) -> None:
    one, other = tokenizer.decoder(), tokenizer.decoder()
    for id in tokenizer.encode(TEXT).tolist()[:40]:
        assert one.spellings() is other.spellings()
        assert one.fitting() is other.fitting()
        one.feed(id)
        other.feed(id)


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
