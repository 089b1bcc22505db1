"""Texts to scores: reading, sums, every option, and probabilities that are ones."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from textgen.config import TokenizerConfig
from textgen.data.lines import Text
from textgen.errors import DataError, UsageError
from textgen.inference.likelihood import Alternatives, Document, Entropy, Rank
from textgen.models import Model
from textgen.results import ScoreSum, SentenceScore
from textgen.scoring import scorer as module
from textgen.scoring.jobs import groups
from textgen.scoring.scorer import (
    DocumentReader,
    EncodedText,
    Reader,
    SentenceReader,
    Skipped,
    sentence_score,
)
from textgen.tokenizers.base import EOS, UNK
from textgen.tokenizers.registry import learn_tokenizer

KINDS = ["char", "word", "spaced", "subword"]
Ids = npt.NDArray[np.uint16]
EXACT = {torch.float32: 1e-5, torch.float64: 1e-10}


@pytest.fixture
def double(make_model: Any) -> Model:
    model: Model = make_model(dtype=torch.float64)
    return model


def sentences(*lengths: int, seed: int = 0) -> list[Ids]:
    """Sentences of so many tokens, <EOS> among them."""
    random = np.random.default_rng(seed)
    return [np.append(random.integers(2, 11, n - 1), EOS).astype(np.uint16) for n in lengths]


def mixed(count: int) -> list[Ids]:
    return sentences(*np.random.default_rng(1).integers(1, 60, count).tolist())


def log_probs(reader: Reader, given: Sequence[Ids]) -> list[npt.NDArray[np.float64]]:
    return [read[:, 0] for read in reader.read(given)]


@pytest.mark.parametrize(
    ("dtype", "given", "long", "batch_tokens"),
    [
        (torch.float32, mixed(80), None, None),
        (torch.float64, mixed(100), 40, 100),
        (torch.float64, sentences(3, 5000, 2, 4096, 4097, 1), None, None),
    ],
    ids=["float32", "small batches", "long sentences"],
)
def test_batched_equals_one_by_one_in_the_order_given(
    make_model: Any,
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    given: list[Ids],
    long: int | None,
    batch_tokens: int | None,
) -> None:
    if long is not None:
        monkeypatch.setattr(module, "_LONG", long)
        monkeypatch.setattr(module, "_BATCH_TOKENS", batch_tokens)
    model = make_model(dtype=dtype)
    results = SentenceReader(model).read(given)
    for ids, read in zip(given, results, strict=True):
        assert (read.shape, read.dtype) == ((len(ids), 1), np.float64)
        assert np.abs(read[:, 0] - Document(model, first=EOS).read(ids)).max() < EXACT[dtype]


@pytest.mark.parametrize(
    ("reader", "part"), [(SentenceReader, 10), (DocumentReader, 1), (DocumentReader, 4)]
)
def test_statistics_are_those_of_each_token_whatever_stands_beside_it(
    double: Model, reader: Callable[..., Reader], part: int
) -> None:
    given = [*sentences(400, seed=3), *mixed(9)]
    reading = reader(double, (Entropy(), Rank(), Alternatives(3)))
    parts = [given[begin : begin + part] for begin in range(0, len(given), part)]
    read = [each for some in parts for each in reading.read(some)]
    for index, ids in enumerate(given):
        before = np.concatenate(given[:index]) if reader is DocumentReader and index else ids[:0]
        inputs = np.concatenate([[EOS], before, ids])[:-1].astype(np.int64)
        logits, _ = double(torch.from_numpy(inputs).unsqueeze(1), double.start(1))
        p = logits[-len(ids) :, 0].softmax(-1).detach().numpy()  # (tokens, vocabulary)
        came = p[np.arange(len(ids)), ids]
        assert np.abs(read[index][:, 0] - np.log(came)).max() < 1e-9
        assert np.abs(read[index][:, 1] + (p * np.log(p)).sum(-1)).max() < 1e-9
        assert (read[index][:, 2] == 1 + (p > came[:, None]).sum(-1)).all()
        best = np.argsort(-p, axis=-1)[:, :3]
        assert (read[index][:, 3:6] == best).all()
        most_probable = np.log(np.take_along_axis(p, best, -1))
        assert np.abs(read[index][:, 6:] - most_probable).max() < 1e-9


def test_logits_of_1e30_give_numbers(model: Model) -> None:
    with torch.no_grad():
        model.get_parameter("output.weight").mul_(1e30)
    (read,) = SentenceReader(model, (Entropy(), Rank())).read(sentences(20))
    assert not np.isnan(read).any()
    assert (read[:, 1] >= 0).all()


def test_prefixes_are_the_sums_of_their_continuations_and_all_strings_sum_to_one(
    make_model: Any,
) -> None:
    reader = SentenceReader(make_model(4, dtype=torch.float64))
    mass = np.ones(1)  # of all strings of a length, in order
    for length in range(1, 7):
        strings = itertools.product(range(4), repeat=length)
        read = log_probs(reader, [np.array(each, np.uint16) for each in strings])
        found = np.exp([each.sum() for each in read])
        np.testing.assert_allclose(found.reshape(-1, 4).sum(-1), mass, rtol=1e-12)
        mass = found


# Sums


def encoded(ids: Sequence[int], text: str = "") -> EncodedText:
    """All scored; what is unknown is a question mark."""
    ended, texts = ids[-1] == EOS, ("?",) * len(ids)
    return EncodedText(Text(3, text), np.array(ids, np.uint16), slice(None), ended, texts)


def summed(log_probs: Sequence[float], ids: Sequence[int], characters: int = 4) -> SentenceScore:
    """The score of a text of so many characters, the newline counted."""
    return sentence_score(encoded(ids, "x" * (characters - 1)), np.array(log_probs), "line")


def test_a_sentence_worked_by_hand() -> None:
    # p = 1/2 and 1/4, an unknown of 1/16, <EOS> of 1/2: 8 bits over 4 tokens.
    by_hand = [math.log(p) for p in (1 / 2, 1 / 4, 1 / 16, 1 / 2)]
    sentence = summed(by_hand, [5, 6, UNK, EOS], characters=16)
    assert sentence.log_prob == pytest.approx(-8 * math.log(2))
    assert (sentence.tokens, sentence.unknown, sentence.characters) == (4, 1, 16)
    assert sentence.perplexity == pytest.approx(2 ** (8 / 4))
    assert sentence.perplexity_without_unknown == pytest.approx(2 ** (4 / 3))
    assert sentence.bits_per_character == pytest.approx(8 / 16)
    assert (sentence.line, sentence.text, sentence.unknown_texts) == (3, "x" * 15, ("?",))


def test_words_and_bytes_are_counted_with_the_end() -> None:
    text = " né à  Gand "
    sentence = sentence_score(encoded([5, 5, EOS], text), np.array([-3.0, -3.0, -2.0]), "line")
    assert (sentence.words, sentence.characters, sentence.bytes) == (4, 13, 15)
    assert sentence.perplexity_per_word == pytest.approx(math.exp(8 / 4))
    assert sentence.bits_per_byte == pytest.approx(8 / math.log(2) / 15)
    without = sentence_score(encoded([5, 5], text), np.array([-3.0, -3.0]), "line")
    assert (without.tokens, without.words, without.characters, without.bytes) == (2, 3, 12, 14)


def test_a_text_is_comparable_unless_something_in_it_is_not_spelled() -> None:
    values = np.array([-1.0, -1.0])
    assert not sentence_score(encoded([UNK, EOS]), values, "line").comparable
    assert sentence_score(encoded([UNK, EOS]), values, "line", spelled=True).comparable
    assert summed([-1.0], [EOS]).comparable


def test_sums_add_what_they_count() -> None:
    one, other = summed([-1.0, -2.0], [UNK, EOS]), summed([-4.0], [EOS], characters=1)
    total = ScoreSum() + one + other
    assert total == ScoreSum(-7.0, 3, 1, -1.0, characters=5, words=3, bytes=5)


def test_what_has_no_tokens_or_no_known_ones_has_no_perplexity_of_them() -> None:
    nothing = ScoreSum() + ScoreSum()
    assert nothing == ScoreSum()
    assert math.isnan(nothing.perplexity)
    assert math.isnan(nothing.bits_per_character)
    unknown = summed([-1.0, -2.0], [UNK, UNK])
    assert math.isnan(nothing.perplexity_without_unknown)
    assert math.isnan(unknown.perplexity_without_unknown)
    assert unknown.perplexity == pytest.approx(math.exp(1.5))


def test_a_million_improbable_tokens_neither_underflow_nor_lose_the_sum() -> None:
    count, log_prob = 1_000_000, math.log(1e-30)
    sentence = summed(np.full(count, log_prob), np.full(count, 5), characters=count + 1)
    assert sentence.log_prob == pytest.approx(count * log_prob, rel=1e-12)
    assert sentence.perplexity == pytest.approx(1e30, rel=1e-9)
    assert sentence.bits_per_character == pytest.approx(30 * math.log2(10), rel=1e-12)
    values = np.full(count, -70.0)
    values[::2] -= 1e-7
    assert summed(values, np.full(count, 5)).log_prob + 70e6 == pytest.approx(-0.05, abs=1e-6)


def test_scores_of_1e30_have_an_infinite_perplexity_and_no_error() -> None:
    sentence = summed([-1e30], [EOS])
    assert sentence.perplexity == math.inf
    assert math.isfinite(sentence.bits_per_character)


# Scorer


@pytest.mark.parametrize("kind", KINDS)
def test_a_carried_context_equals_one_long_sentence(
    make_tokenizer: Any, score: Any, scorer: Any, kind: str
) -> None:
    tokenizer = make_tokenizer(kind)
    texts = ["the cat sat.", "", "the dogs were tired.", "a cat"]
    scored = score(tokenizer, texts, context="document")
    ids = tokenizer.encode("".join(text + "\n" for text in texts))
    (read,) = SentenceReader(scorer(tokenizer)._reader._model).read([ids])
    assert sum(each.log_prob for each in scored) == pytest.approx(read.sum(), abs=1e-9)
    assert sum(each.tokens for each in scored) == len(ids)


@pytest.mark.parametrize(
    ("kind", "prefix", "text"),
    [
        *((kind, "the dogs", " were tired.") for kind in KINDS),
        *(("subword", *texts) for texts in (("the cat", "żx"), ("ż", "ż"), ("the ż", " cat"))),
    ],
)
def test_a_continuation_has_the_probability_of_both_over_that_of_its_prefix(
    make_tokenizer: Any, score: Any, kind: str, prefix: str, text: str
) -> None:
    """Of a character that takes several tokens, too."""
    tokenizer = make_tokenizer(kind)
    (whole,) = score(tokenizer, [prefix + text])
    (before,) = score(tokenizer, [prefix], eos=False)
    (rest,) = score(tokenizer, [text], prefix=prefix, eos=True)
    assert rest.log_prob == pytest.approx(whole.log_prob - before.log_prob, abs=1e-9)
    assert rest.tokens == whole.tokens - before.tokens
    assert (rest.text, rest.prefix, rest.characters) == (text, prefix, len(text) + 1)
    assert score(tokenizer, [(prefix, text)], eos=True) == [rest]


@pytest.mark.parametrize(
    ("given", "eos", "tokens"),
    [("cat", None, 4), (("the ", "cat"), None, 3), ("cat", False, 3), (("the ", "cat"), True, 4)],
)
def test_the_end_is_counted_of_sentences_and_not_of_continuations(
    make_tokenizer: Any, score: Any, given: Any, eos: bool | None, tokens: int
) -> None:
    assert score(make_tokenizer("char"), [given], eos=eos)[0].tokens == tokens


def test_an_empty_prefix_is_a_prefix(make_tokenizer: Any, score: Any) -> None:
    """What comes after nothing is the start of a sentence, which need not end there."""
    tokenizer = make_tokenizer("char")
    (after_nothing,) = score(tokenizer, ["cat"], prefix="")
    assert after_nothing.log_prob == score(tokenizer, ["cat"], eos=False)[0].log_prob
    assert after_nothing.prefix == ""


def test_a_token_across_the_end_of_the_prefix_is_scored_whole(
    make_tokenizer: Any, score: Any
) -> None:
    tokenizer = make_tokenizer("word", min_count=1)
    (cut,) = score(tokenizer, [("the do", "gs")], level="token")
    assert [part.span for part in cut.parts] == [" dogs"]


def test_what_is_unknown_in_a_very_long_text_is_counted_and_not_named(
    make_tokenizer: Any, score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_NAMED", 5)
    short, long = score(make_tokenizer("char"), ["ż", "the żółw"])
    assert (short.unknown, short.unknown_texts) == (1, ("ż",))
    assert (long.unknown, long.unknown_texts) == (3, ())


def test_a_prefix_may_have_sentences_before(make_tokenizer: Any, score: Any) -> None:
    tokenizer = make_tokenizer("char")
    (after,) = score(tokenizer, [("the cat sat.\nthe ", "dogs")], eos=True)
    carried = score(tokenizer, ["the cat sat.", "the dogs"], context="document", level="token")
    expected = math.fsum(part.log_prob for part in carried[1].parts[4:])
    assert after.log_prob == pytest.approx(expected, abs=1e-9)


def test_what_is_unknown_or_empty_may_be_left_out_or_an_error(
    make_tokenizer: Any, scorer: Any
) -> None:
    texts = ["the cat", "the żółw", "", "the dogs"]
    skipping = scorer(make_tokenizer("word"), on_unknown="skip", skip_empty=True)
    one, two, three, four = skipping.scores(groups(texts))
    assert (one.text, four.text, four.line) == ("the cat", "the dogs", 4)
    assert two == Skipped(Text(2, "the żółw"), ("żółw",))
    assert three == Skipped(Text(3, ""), ())
    with pytest.raises(DataError, match=r"'żółw' \(line 2\)"):
        list(scorer(make_tokenizer("word"), on_unknown="error").scores(groups(texts)))


def test_what_is_left_out_is_no_context(make_tokenizer: Any, score: Any) -> None:
    tokenizer = make_tokenizer("word")
    without = score(tokenizer, ["the cat", "the dogs"], context="document")
    texts = ["the cat", "żółw", "the dogs"]
    scored = score(tokenizer, texts, context="document", on_unknown="skip")
    assert [each.log_prob for each in scored] == [each.log_prob for each in without]


def test_an_empty_sentence_is_its_end_and_is_counted(
    make_tokenizer: Any, score: Any, scorer: Any, distributions: Any
) -> None:
    tokenizer = make_tokenizer("char")
    (empty,) = score(tokenizer, [""])
    assert (empty.tokens, empty.words, empty.characters) == (1, 1, 1)
    (p,) = distributions(scorer(tokenizer)._reader._model, [])
    assert empty.log_prob == pytest.approx(math.log(p[EOS]), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_is_its_sentences_one_after_another_and_ends_once(
    kind: str, make_tokenizer: Any, score: Any
) -> None:
    tokenizer = make_tokenizer(kind)
    sentences = ["the cat", "", "a dog: no!"]
    (ended, not_ended, open_end, with_parts, after) = (
        score(tokenizer, [given], documents=True, **options)[0]
        for given, options in [
            ("the cat\n\na dog: no!\n", {}),
            ("the cat\n\na dog: no!", {}),
            ("the cat\n\na dog: no!", {"eos": False}),
            ("the cat\n\na dog: no!", {"level": "token"}),
            (("the cat", "\n\na dog: no!\n"), {}),
        ]
    )
    expected = sum((each for each in score(tokenizer, sentences, context="document")), ScoreSum())
    for found in (ended, not_ended, with_parts):
        assert found.log_prob == pytest.approx(expected.log_prob, abs=1e-9)
        counts = found.tokens, found.characters, found.bytes
        assert counts == (expected.tokens, expected.characters, expected.bytes)
    assert [part.ends for part in with_parts.parts].count(True) == 3
    assert open_end.tokens == ended.tokens - 1
    assert open_end.characters == ended.characters - 1
    (before,) = score(tokenizer, ["the cat"], eos=False)
    assert before.log_prob + after.log_prob == pytest.approx(ended.log_prob, abs=1e-9)


def test_a_newline_in_a_sentence_is_refused(make_tokenizer: Any, score: Any) -> None:
    with pytest.raises(UsageError, match="not one sentence"):
        score(make_tokenizer("char"), ["the\ncat"])


@pytest.mark.parametrize("kind", ["char", "word", "spaced"])
def test_what_is_unknown_may_have_the_probability_of_its_spelling(
    make_tokenizer: Any, score: Any, kind: str
) -> None:
    tokenizer = make_tokenizer(kind)
    text = "the zebra were żółw"
    names = tokenizer.unknown_names(text)
    assert names
    expected = tokenizer.spelling.log_probs(names).sum()
    for level in ("sentence", "word", "token", "character"):
        (plain,) = score(tokenizer, [text], level=level)
        spelt, known = score(tokenizer, [text, "the cat"], level=level, open_vocabulary=True)
        assert spelt.log_prob - plain.log_prob == pytest.approx(expected, abs=1e-9)
        assert spelt.unknown_log_prob - plain.unknown_log_prob == pytest.approx(expected, abs=1e-9)
        assert spelt.comparable
        assert not plain.comparable
        assert known.log_prob == score(tokenizer, ["the cat"])[0].log_prob
        if level != "sentence":
            total = math.fsum(part.log_prob for part in spelt.parts)
            assert total == pytest.approx(spelt.log_prob, abs=1e-9)


def test_an_open_vocabulary_gives_all_strings_together_no_more_than_one(scorer: Any) -> None:
    """All sentences of up to three characters, of known words and of others: nothing is counted
    twice, and of what a first word may be nothing is lost but what is longer."""
    config = TokenizerConfig(level="word", split="whitespace", min_count=2)
    tokenizer = learn_tokenizer(config, [("a a b b ab c\n", False)])
    assert tokenizer.vocabulary_size == 4
    scoring = scorer(tokenizer, open_vocabulary=True, eos=False)
    words = ["".join(each) for n in (1, 2, 3) for each in itertools.product("abc", repeat=n)]
    mass = math.fsum(math.exp(each.log_prob) for each in scoring.scores(groups(words)))
    (empty,) = scorer(tokenizer).scores(groups([""]))
    assert tokenizer.spelling is not None
    short = [word for word in words if word not in ("a", "b")]
    left = 1 - math.fsum(np.exp(tokenizer.spelling.log_probs(short)))
    p_unknown = math.exp(next(scorer(tokenizer, eos=False).scores(groups(["zzz"]))).log_prob)
    assert mass + math.exp(empty.log_prob) + p_unknown * left == pytest.approx(1, abs=1e-9)
    assert 0 < left < 1


def test_where_the_unknown_has_no_spelling_none_can_be_asked(score: Any) -> None:
    config = TokenizerConfig(level="word", unk_literal="<unk>")
    tokenizer = learn_tokenizer(config, [("a <unk> b\n", False)])
    with pytest.raises(UsageError, match="--open-vocabulary"):
        score(tokenizer, ["a"], open_vocabulary=True)
