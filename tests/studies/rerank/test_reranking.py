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

from textgen.errors import DataError, ResourceError, UsageError
from textgen.scoring.jobs import groups
from textgen.studies.rerank.config import MixingConfig, RerankingConfig
from textgen.studies.rerank.nbest import Hypothesis, Utterance
from textgen.studies.rerank.reranking import (
    LogProbs,
    NgramModel,
    Words,
    is_ngram_model,
    mixed,
    rerank,
    sentence_sums,
)

NEW = {"a b": -2.0, "a c d": -3.0, "": -8.0}


def score(sentences: Iterable[str]) -> Iterator[float]:
    for sentence in sentences:
        yield NEW[sentence]


def utterance(*hypotheses: tuple[Any, ...]) -> Utterance:
    return Utterance("u", tuple(Hypothesis("u", *each) for each in hypotheses))


def ranked(given: Utterance, **weights: float) -> list[tuple[str, float]]:
    (result,) = rerank([given], score, RerankingConfig(**weights))
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


def test_each_hypothesis_keeps_its_scores_and_equals_keep_their_order() -> None:
    (result,) = rerank([utterance(("a b", -10.0, -4.0))], score, RerankingConfig(weight=0.25))
    (best,) = result.hypotheses
    assert best.hypothesis == Hypothesis("u", "a b", -10.0, -4.0)
    assert (best.log_prob, best.lm, best.total) == (-2.0, -3.5, -13.5)
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
    assert [each.id for each in islice(rerank(endless, score), 3)] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        *((RerankingConfig, "weight", value) for value in (-0.1, 1.1)),
        *((RerankingConfig, "lm_scale", value) for value in (-1, math.nan)),
        (RerankingConfig, "length_penalty", math.inf),
        *((MixingConfig, "mix_weight", value) for value in (-0.1, 1.1, math.nan)),
    ],
)
def test_weights_lie_in_their_ranges(config: Any, name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} must lie in"):
        config(**{name: value})


def test_a_list_that_breaks_off_is_not_taken_for_all() -> None:
    """A model reads it some at a time, and scores what came before the error."""

    def in_groups(sentences: Iterable[str]) -> Iterator[float]:
        for group in groups(sentences):
            yield from (-1.0 for _ in group)

    def broken() -> Iterator[Utterance]:
        yield utterance(("a b",), ("c",))
        raise DataError("no score", where="list, line 3")

    given = rerank(broken(), in_groups)
    assert next(given).id == "u"
    with pytest.raises(DataError, match="line 3"):
        next(given)


def always(*probabilities: float) -> Words:
    """These for each sentence, whatever it is."""

    def words(sentences: Iterable[str]) -> Iterator[LogProbs]:
        with np.errstate(divide="ignore"):
            log_probs = np.log(np.array(probabilities))
        for _ in sentences:
            yield log_probs

    return words


def one(words: Words) -> list[float]:
    (log_probs,) = words(["a b"])
    return np.exp(log_probs).tolist()


def test_each_words_probability_is_the_mean_of_both() -> None:
    first, second = always(0.5, 0.2, 0.8), always(0.1, 0.4, 0.6)
    assert one(mixed(first, second)) == pytest.approx([0.3, 0.3, 0.7])
    quarter = mixed(first, second, MixingConfig(mix_weight=0.25))
    assert one(quarter) == pytest.approx([0.4, 0.25, 0.75])


def test_a_model_without_a_share_does_not_count_and_one_with_it_may_know_nothing() -> None:
    first, second = always(0.5, 0.2), always(0.0, 0.4)
    assert one(mixed(first, second, MixingConfig(mix_weight=0.0))) == pytest.approx([0.5, 0.2])
    assert one(mixed(first, second, MixingConfig(mix_weight=1.0))) == pytest.approx([0.0, 0.4])
    assert one(mixed(first, second)) == pytest.approx([0.25, 0.3])


def test_a_sentence_is_the_sum_of_its_words_and_sentences_are_mixed_as_they_come() -> None:
    score = sentence_sums(mixed(always(0.5, 0.2), always(0.1, 0.4)))
    assert list(islice(score(repeat("x")), 2)) == pytest.approx([2 * math.log(0.3)] * 2)


def test_models_of_other_words_are_refused() -> None:
    with pytest.raises(UsageError, match="2 words in a sentence, the other 1"):
        one(mixed(always(0.5, 0.5, 0.5), always(0.5, 0.5)))


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
    model = NgramModel(arpa)
    assert capfd.readouterr() == ("", "")  # KenLM shows no progress
    assert model.order == 2
    known, backed_off, unknown, empty, spaced = model.words(
        ["the cat", "cat cat", "the dog", "", " the\u00a0\u3000cat\u2003"]
    )
    assert known.dtype == np.float64
    assert (known / LN_10).tolist() == pytest.approx([-0.2, -0.3, -0.4])
    assert (backed_off / LN_10).tolist() == pytest.approx([-0.3 - 0.8, -0.1 - 0.8, -0.4])
    assert (unknown / LN_10).tolist() == pytest.approx([-0.2, -0.2 - 1.5, -1.0])
    assert (empty / LN_10).tolist() == pytest.approx([-0.3 - 1.0])
    assert spaced.tolist() == known.tolist()


@pytest.mark.parametrize(
    "content", [gzip.compress(ARPA.encode()), bz2.compress(ARPA.encode()), MAGIC]
)
def test_a_compressed_arpa_file_and_a_binary_are_recognized(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model").write_bytes(content)
    assert is_ngram_model(tmp_path / "model")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"the cat\n\\data\\\n",
        b"\\data\\ and more",
        b"\x1f\x8b",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03garbage",
        b"BZhgarbage",
        b"\xfd7zXZgarbage",
        gzip.compress(b"the cat\n", mtime=0),
    ],
)
def test_another_file_is_refused_before_it_is_loaded(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert not is_ngram_model(path)
    with pytest.raises(DataError, match=r"no n-gram model \(.*other\): it begins neither"):
        NgramModel(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"no such file \(.*gone"):
        NgramModel(tmp_path / "gone")
    with pytest.raises(ResourceError, match="cannot read"):
        NgramModel(tmp_path)


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
        NgramModel(path)
    message = str(raised.value)
    assert reason in message
    assert "threw" not in message
    assert ".cc" not in message
    assert "\n" not in message


def test_a_missing_kenlm_is_named(arpa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(UsageError, match=r"kenlm .*small\.arpa.*pip install 'textgen\[kenlm\]'"):
        NgramModel(arpa)
