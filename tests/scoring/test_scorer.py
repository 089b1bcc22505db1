"""Texts to scores: every option, and probabilities that are ones."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from textgen.config import ScoringConfig, TokenizerConfig
from textgen.data.lines import Text
from textgen.errors import DataError, UsageError
from textgen.scoring.jobs import groups
from textgen.scoring.scorer import Scorer, SentenceReader, Skipped
from textgen.tokenizers.registry import learn_tokenizer

KINDS = ["char", "word", "spaced", "subword"]


def test_all_strings_of_six_symbols_sum_to_one(make_model: Any) -> None:
    model = make_model(4, dtype=torch.float64)
    strings = [np.array(each, np.uint16) for each in itertools.product(range(4), repeat=6)]
    log_probs = [read[:, 0].sum() for read in SentenceReader(model).read(strings)]
    assert math.fsum(map(math.exp, log_probs)) == pytest.approx(1, abs=1e-12)


def test_prefixes_are_the_sums_of_what_goes_on_from_them(make_model: Any) -> None:
    model = make_model(4, dtype=torch.float64)
    strings = list(itertools.product(range(4), repeat=4))
    whole = SentenceReader(model).read([np.array(each, np.uint16) for each in strings])
    for length in (1, 2, 3):
        for prefix in itertools.product(range(4), repeat=length):
            together = math.fsum(
                math.exp(read[:, 0].sum())
                for string, read in zip(strings, whole, strict=True)
                if string[:length] == prefix
            )
            (alone,) = SentenceReader(model).read([np.array(prefix, np.uint16)])
            assert together == pytest.approx(math.exp(alone[:, 0].sum()), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_carried_context_equals_one_long_sentence(
    make_tokenizer: Any, scorer: Any, kind: str
) -> None:
    tokenizer = make_tokenizer(kind)
    texts = ["the cat sat.", "", "the dogs were tired.", "a cat"]
    scored = list(scorer(tokenizer, context="document").scores(groups(texts)))
    ids = tokenizer.encode("".join(text + "\n" for text in texts))
    (read,) = SentenceReader(scorer(tokenizer)._reader._model).read([ids])
    assert sum(each.log_prob for each in scored) == pytest.approx(read.sum(), abs=1e-9)
    assert sum(each.tokens for each in scored) == len(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_a_continuation_has_the_probability_of_both_over_that_of_its_prefix(
    make_tokenizer: Any, score: Any, kind: str
) -> None:
    tokenizer = make_tokenizer(kind)
    (whole,) = score(tokenizer, ["the dogs were tired."])
    (prefix,) = score(tokenizer, ["the dogs"], eos=False)
    (rest,) = score(tokenizer, [" were tired."], prefix="the dogs", eos=True)
    assert rest.log_prob == pytest.approx(whole.log_prob - prefix.log_prob, abs=1e-9)
    assert (rest.text, rest.prefix) == (" were tired.", "the dogs")
    assert rest.characters == len(" were tired.") + 1
    (pair,) = score(tokenizer, [("the dogs", " were tired.")], eos=True)
    assert pair == rest


def test_the_end_is_counted_of_sentences_and_not_of_continuations(
    make_tokenizer: Any, score: Any
) -> None:
    tokenizer = make_tokenizer("char")
    counted = [score(tokenizer, [text])[0].tokens for text in ("cat", ("the ", "cat"))]
    assert counted == [4, 3]
    assert score(tokenizer, ["cat"], eos=False)[0].tokens == 3
    assert score(tokenizer, [("the ", "cat")], eos=True)[0].tokens == 4


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


def test_of_a_character_that_takes_several_tokens_all_are_scored(
    make_tokenizer: Any, score: Any
) -> None:
    tokenizer = make_tokenizer("subword")
    for prefix, text in (("the cat", "żx"), ("ż", "ż"), ("the ż", " cat")):
        (whole,) = score(tokenizer, [prefix + text])
        (before,) = score(tokenizer, [prefix], eos=False)
        (after,) = score(tokenizer, [(prefix, text)], eos=True)
        assert after.log_prob == pytest.approx(whole.log_prob - before.log_prob, abs=1e-9)
        assert after.tokens == whole.tokens - before.tokens


def test_what_is_unknown_in_a_very_long_text_is_counted_and_not_named(
    make_tokenizer: Any, score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.scoring.scorer._LONGEST_NAMED", 5)
    short, long = score(make_tokenizer("char"), ["ż", "the żółw"])
    assert (short.unknown, short.unknown_surfaces) == (1, ("ż",))
    assert (long.unknown, long.unknown_surfaces) == (3, ())


def test_a_prefix_may_have_sentences_before(make_tokenizer: Any, score: Any) -> None:
    tokenizer = make_tokenizer("char")
    (after,) = score(tokenizer, [("the cat sat.\nthe ", "dogs")], eos=True)
    carried = score(tokenizer, ["the cat sat.", "the dogs"], context="document", level="token")
    expected = math.fsum(part.log_prob for part in carried[1].parts[4:])
    assert after.log_prob == pytest.approx(expected, abs=1e-9)


def test_what_is_unknown_may_be_an_error_that_says_where(make_tokenizer: Any, score: Any) -> None:
    with pytest.raises(DataError, match=r"'żółw' \(line 2\)"):
        score(make_tokenizer("word"), ["the cat", "the żółw"], on_unknown="error")


def test_what_is_unknown_or_empty_may_be_left_out(make_tokenizer: Any, scorer: Any) -> None:
    given = groups(["the cat", "the żółw", "", "the dogs"])
    skipping = scorer(make_tokenizer("word"), on_unknown="skip", skip_empty=True)
    one, two, three, four = skipping.scores(given)
    assert (one.text, four.text, four.line) == ("the cat", "the dogs", 4)
    assert two == Skipped(Text(2, "the żółw"), ("żółw",))
    assert three == Skipped(Text(3, ""), ())


def test_what_is_left_out_is_no_context(make_tokenizer: Any, score: Any) -> None:
    tokenizer = make_tokenizer("word")
    texts = ["the cat", "the dogs"]
    without = score(tokenizer, texts, context="document")
    options = {"context": "document", "on_unknown": "skip"}
    scored = score(tokenizer, [texts[0], "żółw", texts[1]], **options)
    assert [each.log_prob for each in scored] == [each.log_prob for each in without]


def test_an_empty_sentence_is_its_end_and_is_counted(make_tokenizer: Any, score: Any) -> None:
    (empty,) = score(make_tokenizer("char"), [""])
    assert (empty.tokens, empty.words, empty.characters) == (1, 1, 1)


def test_a_newline_in_a_sentence_is_refused(make_tokenizer: Any, score: Any) -> None:
    with pytest.raises(UsageError, match="not one sentence"):
        score(make_tokenizer("char"), ["the\ncat"])


def test_neither_order_nor_company_changes_a_score(make_tokenizer: Any, score: Any) -> None:
    tokenizer = make_tokenizer("char")
    texts = [("the cat sat. " * (1 + i * 7 % 30))[: 3 + i * 11 % 90] for i in range(100)]
    forward = {each.text: each.log_prob for each in score(tokenizer, texts)}
    backward = {each.text: each.log_prob for each in score(tokenizer, reversed(texts))}
    alone = {text: score(tokenizer, [text])[0].log_prob for text in texts[::9]}
    assert max(abs(forward[text] - backward[text]) for text in texts) < 1e-9
    assert max(abs(forward[text] - alone[text]) for text in alone) < 1e-9


def test_nothing_is_added_to_a_line_that_is_a_million_tokens_long(
    make_tokenizer: Any, make_model: Any
) -> None:
    """Neither underflow nor a sum that loses its parts; what is kept is what was given."""
    tokenizer = make_tokenizer("char")
    model = make_model(tokenizer.vocabulary_size, hidden=(2,), embedding=2)
    text = "the cat sat. " * 76924
    (scored,) = Scorer(model, tokenizer, ScoringConfig()).scores(groups([text]))
    assert isinstance(scored.log_prob, float)
    assert scored.tokens == len(text) + 1 > 1_000_000
    part = text[: 13 * 1000]
    (beginning,) = Scorer(model, tokenizer, ScoringConfig(eos=False)).scores(groups([part]))
    assert scored.log_prob / scored.tokens == pytest.approx(
        beginning.log_prob / beginning.tokens, rel=1e-2
    )
    assert math.isfinite(scored.perplexity)


@pytest.mark.parametrize("kind", ["char", "word", "spaced"])
def test_what_is_unknown_may_have_the_probability_of_its_spelling(
    make_tokenizer: Any, score: Any, kind: str
) -> None:
    tokenizer = make_tokenizer(kind)
    text = "the zebra were żółw"
    names = tokenizer.unknown_names(text)
    assert names
    for level in ("sentence", "word", "token", "character"):
        (plain,) = score(tokenizer, [text, "the cat"][:1], level=level)
        spelt, known = score(tokenizer, [text, "the cat"], level=level, open_vocabulary=True)
        expected = tokenizer.spelling.log_probs(names).sum()
        assert spelt.log_prob - plain.log_prob == pytest.approx(expected, abs=1e-9)
        assert spelt.unknown_log_prob - plain.unknown_log_prob == pytest.approx(expected, abs=1e-9)
        assert spelt.comparable
        assert not plain.comparable
        assert known.log_prob == score(tokenizer, ["the cat"])[0].log_prob
        if level != "sentence":
            assert math.fsum(part.log_prob for part in spelt.parts) == pytest.approx(
                spelt.log_prob, abs=1e-9
            )


def test_an_open_vocabulary_gives_all_strings_together_no_more_than_one(
    make_model: Any, scorer: Any
) -> None:
    """All sentences of up to three characters, of known words and of others: nothing is counted
    twice, and of what a first word may be nothing is lost but what is longer."""
    config = TokenizerConfig(level="word", split="whitespace", min_count=2)
    tokenizer = learn_tokenizer(config, [("a a b b ab c\n", False)])
    assert tokenizer.vocabulary_size == 4
    scoring = scorer(tokenizer, open_vocabulary=True, eos=False)
    words = ["".join(each) for n in (1, 2, 3) for each in itertools.product("abc", repeat=n)]
    mass = math.fsum(math.exp(each.log_prob) for each in scoring.scores(groups(words)))
    (empty,) = scorer(tokenizer).scores(groups([""]))
    spelling = tokenizer.spelling
    short = [word for word in words if word not in ("a", "b")]
    left = 1 - math.fsum(np.exp(spelling.log_probs(short)))
    p_unknown = math.exp(next(scorer(tokenizer, eos=False).scores(groups(["zzz"]))).log_prob)
    assert mass + math.exp(empty.log_prob) + p_unknown * left == pytest.approx(1, abs=1e-9)
    assert 0 < left < 1


def test_where_the_unknown_has_no_spelling_none_can_be_asked(score: Any) -> None:
    config = TokenizerConfig(level="word", unk_literal="<unk>")
    tokenizer = learn_tokenizer(config, [("a <unk> b\n", False)])
    with pytest.raises(UsageError, match="--open-vocabulary"):
        score(tokenizer, ["a"], open_vocabulary=True)
