"""Totals worked by hand and the order they make; two models mixed; n-gram models in files."""

import bz2
import gzip
import math
import sys
from collections.abc import Iterable, Iterator
from itertools import count, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen.errors import DataError, UsageError
from textgen.scoring.jobs import groups
from textgen.studies.rerank.config import MixingConfig, RerankingConfig
from textgen.studies.rerank.nbest import Hypothesis, Utterance
from textgen.studies.rerank.reranking import (
    LogProbs,
    Words,
    is_ngram_model,
    mixed,
    ngram_words,
    rerank,
)

NEW = {"a b": -2.0, "a c d": -3.0, "": -8.0}


def score(sentences: Iterable[str]) -> Iterator[float]:
    for sentence in sentences:
        yield NEW[sentence]


def utterance(*hypotheses: tuple[Any, ...]) -> Utterance:
    return Utterance("u", tuple(Hypothesis("u", *each) for each in hypotheses))


def ranked(given: Utterance, **weights: float) -> list[tuple[str, float]]:
    (result,) = rerank([given], score, RerankingConfig(**weights))
    assert {each.hypothesis for each in result.hypotheses} == set(given.hypotheses)
    assert all(each.log_prob == NEW[each.hypothesis.text] for each in result.hypotheses)
    return [(each.hypothesis.text, each.total) for each in result.hypotheses]


def test_two_scores_are_weighed_scaled_and_each_word_counted() -> None:
    given = utterance(("a c d", -9.0, -6.0), ("a b", -10.0, -4.0))
    assert ranked(given) == [("a b", -10 - 3), ("a c d", -9 - 4.5)]
    assert ranked(given, weight=0.25, lm_scale=2, length_penalty=0.5) == [
        ("a b", -10 + 2 * (0.75 * -4 + 0.25 * -2) + 0.5 * 2),
        ("a c d", -9 + 2 * (0.75 * -6 + 0.25 * -3) + 0.5 * 3),
    ]
    assert ranked(given, lm_scale=0) == [("a c d", -9.0), ("a b", -10.0)]
    assert ranked(given, weight=0) == [("a b", -14.0), ("a c d", -15.0)]


def test_without_an_old_score_the_new_one_is_all() -> None:
    assert ranked(utterance(("a c d", -9.0), ("a b", -10.5)), lm_scale=2) == [
        ("a b", -14.5),
        ("a c d", -15.0),
    ]
    assert ranked(utterance(("",), ("a c d",), ("a b",)), length_penalty=1.5) == [
        ("a c d", 1.5),
        ("a b", 1.0),
        ("", -8.0),
    ]
    with pytest.raises(UsageError, match=r"the list has no old scores.*leave it out"):
        ranked(utterance(("a b",)), weight=0.3)


def test_equals_keep_their_order() -> None:
    equals = ranked(utterance(("a b", -5.0), ("a c d", -4.0)))
    assert [text for text, _ in equals] == ["a b", "a c d"]


@pytest.mark.parametrize("weights", [{"weight": 0.0}, {"lm_scale": 0.0}])
def test_what_has_no_weight_does_not_count_though_it_be_infinite(
    monkeypatch: pytest.MonkeyPatch, weights: dict[str, float]
) -> None:
    monkeypatch.setitem(NEW, "a b", -float("inf"))
    given = utterance(("a c d", -9.0, -6.0), ("a b", -1.0, -4.0))
    assert [text for text, _ in ranked(given, **weights)] == ["a b", "a c d"]
    assert [text for text, _ in ranked(given)] == ["a c d", "a b"]


def test_a_list_without_end_is_reranked_as_it_comes() -> None:
    endless = (Utterance(str(number), (Hypothesis("", "a b"),)) for number in count())
    assert [each.id for each in islice(rerank(endless, score, RerankingConfig()), 3)] == [
        "0",
        "1",
        "2",
    ]


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (RerankingConfig, "weight", -0.1),
        (RerankingConfig, "lm_scale", -1),
        (RerankingConfig, "length_penalty", math.inf),
        (MixingConfig, "mix_weight", 1.1),
    ],
)
def test_weights_lie_in_their_ranges(config: Any, name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} must lie in"):
        config(**{name: value})


def test_a_list_that_breaks_off_is_not_taken_for_all() -> None:
    def in_groups(sentences: Iterable[str]) -> Iterator[float]:
        for group in groups(sentences):  # as a model reads them
            yield from (-1.0 for _ in group)

    def broken() -> Iterator[Utterance]:
        yield utterance(("a b",), ("c",))
        raise DataError("no score", where="list, line 3")

    given = rerank(broken(), in_groups, RerankingConfig())
    assert next(given).id == "u"
    with pytest.raises(DataError, match="line 3"):
        next(given)


def always(*probabilities: float) -> Words:
    """These for the words of each sentence, whatever it is."""

    def words(sentences: Iterable[str]) -> Iterator[LogProbs]:
        with np.errstate(divide="ignore"):
            log_probs = np.log(np.array(probabilities))
        for _ in sentences:
            yield log_probs

    return words


@pytest.mark.parametrize(
    ("first", "second", "weight", "product"),
    [
        ((0.5, 0.2, 0.8), (0.1, 0.4, 0.6), 0.5, 0.3 * 0.3 * 0.7),
        ((0.5, 0.2, 0.8), (0.1, 0.4, 0.6), 0.25, 0.4 * 0.25 * 0.75),
        ((0.5, 0.2), (0.0, 0.4), 0.0, 0.5 * 0.2),
        ((0.5, 0.2), (0.0, 0.4), 0.5, 0.25 * 0.3),
        ((0.0, 0.4), (0.5, 0.2), 1.0, 0.5 * 0.2),
    ],
)
def test_a_sentence_has_the_product_of_the_means_of_each_words_probabilities(
    first: tuple[float, ...], second: tuple[float, ...], weight: float, product: float
) -> None:
    score = mixed(always(*first), always(*second), MixingConfig(mix_weight=weight))
    endless = repeat("x")  # mixed as they come
    assert list(islice(score(endless), 2)) == pytest.approx([math.log(product)] * 2)


def test_models_of_other_words_are_refused() -> None:
    score = mixed(always(0.5, 0.5, 0.5), always(0.5, 0.5), MixingConfig())
    with pytest.raises(UsageError, match="2 words in a sentence, the other 1"):
        next(score(["a b"]))


ARPA = """
\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-99\t<s>\t-0.3
-1.0\t</s>
-1.5\t<unk>
-0.5\tthe\t-0.2
-0.8\tcat\t-0.1

\\2-grams:
-0.2\t<s> the
-0.3\tthe cat
-0.4\tcat </s>
-0.7\tthe the

\\end\\
"""
LN_10 = math.log(10)
MAGIC = b"mmap lm http://kheafield.com/code format version 5\n\0"


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "small.arpa"
    path.write_text(ARPA, encoding="utf-8")
    return path


def test_each_word_and_the_end_have_their_natural_log_probability(
    arpa: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("kenlm")
    words = ngram_words(arpa)
    assert capfd.readouterr() == ("", "")  # KenLM shows no progress
    known, backed_off, unknown, empty, spaced = words(
        ["the cat", "cat cat", "the dog", "", " the\u00a0\u3000cat\u2003"]
    )
    assert known.dtype == np.float64
    assert (known / LN_10).tolist() == pytest.approx([-0.2, -0.3, -0.4])
    assert (backed_off / LN_10).tolist() == pytest.approx([-0.3 - 0.8, -0.1 - 0.8, -0.4])
    assert (unknown / LN_10).tolist() == pytest.approx([-0.2, -0.2 - 1.5, -1.0])
    assert (empty / LN_10).tolist() == pytest.approx([-0.3 - 1.0])
    assert spaced.tolist() == known.tolist()


@pytest.mark.parametrize(
    ("content", "is_model"),
    [
        (gzip.compress(ARPA.encode()), True),
        (bz2.compress(ARPA.encode()), True),
        (MAGIC, True),
        (b"", False),
        (b"the cat\n\\data\\\n", False),
        (b"\\data\\ and more", False),
        (b"\x1f\x8b", False),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03garbage", False),
        (b"BZhgarbage", False),
        (b"\xfd7zXZgarbage", False),
        (gzip.compress(b"the cat\n", mtime=0), False),
    ],
)
def test_another_file_than_an_arpa_file_or_a_binary_is_refused_before_it_is_loaded(
    tmp_path: Path, content: bytes, is_model: bool
) -> None:
    path = tmp_path / "model"
    path.write_bytes(content)
    assert is_ngram_model(path) == is_model
    if not is_model:
        with pytest.raises(DataError, match=r"no n-gram model \(.*model\): it begins neither"):
            ngram_words(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (ARPA[:120].encode(), "End of file in the 2-gram"),
        (ARPA.replace("-0.8", "x0.8").encode(), 'Could not parse "x0.8" into a float'),
        (MAGIC.replace(b"5", b"9") + bytes(3000), "Binary file has version 9"),
        (MAGIC + bytes(3000), "the test values don't match"),
    ],
)
def test_a_damaged_model_is_reported_in_one_line_without_kenlms_source(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    pytest.importorskip("kenlm")
    path = tmp_path / "damaged (1)"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^damaged n-gram model") as raised:
        ngram_words(path)
    message = str(raised.value)
    assert reason in message
    assert not any(each in message for each in ("threw", ".cc", "\n"))


def test_a_missing_kenlm_is_named(arpa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(UsageError, match=r"kenlm .*small\.arpa.*pip install 'textgen-lm\[kenlm\]'"):
        ngram_words(arpa)
