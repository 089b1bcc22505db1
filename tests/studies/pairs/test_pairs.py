"""Minimal pairs as files hold them, and how many are right."""

import json
from collections.abc import Iterable, Iterator
from itertools import count

import pytest

from textgen.errors import DataError
from textgen.results import Accuracy
from textgen.scoring.jobs import groups
from textgen.studies.pairs.pairs import Pair, PairScore, Tally, read_pairs, score_pairs


def read(*lines: str) -> list[Pair]:
    return list(read_pairs(lines, "pairs"))


def by_length(sentences: Iterable[str]) -> Iterator[float]:
    for sentence in sentences:
        yield -float(len(sentence))


def test_two_columns_need_no_header() -> None:
    assert read("the dogs are\tthe dogs is", 'a "b"\t{c') == [
        Pair(1, "the dogs are", "the dogs is"),
        Pair(2, 'a "b"', "{c"),
    ]


def test_a_header_names_the_columns_and_the_others_are_fields() -> None:
    assert read("UID\tsentence_bad\tn\tsentence_good", "agr\tb\t7\tg") == [
        Pair(2, "g", "b", {"UID": "agr", "n": "7"})
    ]


def test_json_lines_are_read_and_what_is_plain_in_them_is_a_field() -> None:
    record = {"sentence_good": "g\t", "sentence_bad": "é", "UID": "x", "pairID": 0}
    more = {"simple_LM_method": True, "none": None, "list": [1]}
    assert read(json.dumps(record | more), json.dumps(record)) == [
        Pair(1, "g\t", "é", {"UID": "x", "pairID": "0", "simple_LM_method": "true"}),
        Pair(2, "g\t", "é", {"UID": "x", "pairID": "0"}),
    ]


GOOD = '{"sentence_good": "g", "sentence_bad": "b"}'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"empty \(pairs\)"),
        (["sentence_good\tsentence_bad"], r"no pairs below the header \(pairs\)"),
        (["sentence_good\tx", "a\tb"], r"no column sentence_bad \(pairs, line 1\)"),
        (
            ["sentence_good\tsentence_bad\tsentence_bad"],
            r"more than one column sentence_bad \(pairs, line 1\)",
        ),
        (["a\tb", "a\tb\tc"], r"expected 2 columns, found 3 \(pairs, line 2\)"),
        (["a\tb", "\tb"], r"no sentence_good \(pairs, line 2\)"),
        (["a\tb", "a\t "], r"no sentence_bad \(pairs, line 2\)"),
        (["{"], r"not JSON \(pairs, line 1\)"),
        ([GOOD, "a\tb"], r"not JSON \(pairs, line 2\)"),
        ([GOOD, "[]"], r"not a JSON object \(pairs, line 2\)"),
        ([GOOD, '{"sentence_good": "g"}'], r"no sentence_bad \(pairs, line 2\)"),
        ([GOOD, GOOD.replace('"b"', "5")], r"sentence_bad is not text \(pairs, line 2\)"),
        ([GOOD, GOOD.replace('"g"', "null")], r"sentence_good is not text \(pairs, line 2\)"),
    ],
)
def test_what_is_no_pair_is_named_with_its_line(lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(*lines)


def test_a_pair_is_right_where_the_good_one_is_likelier_and_not_where_they_tie() -> None:
    pairs = [Pair(1, "a", "bb"), Pair(2, "aa", "b"), Pair(3, "a", "b")]
    scored = list(score_pairs(pairs, by_length))
    assert scored[0] == PairScore(pairs[0], -1.0, -2.0)
    assert [each.right for each in scored] == [True, False, False]
    tally = Tally()
    for each in scored:
        tally.add(each)
    assert tally.total == Accuracy(right=1, pairs=3, tied=1)
    assert tally.groups == {}


def test_pairs_without_end_are_scored_as_they_come() -> None:
    scored = score_pairs((Pair(line, "a", "b" * line) for line in count(1)), by_length)
    assert [next(scored).right for _ in range(3)] == [False, True, True]


def tallied(by: str | None, *fields: dict[str, str]) -> Tally:
    tally = Tally(by)
    for line, each in enumerate(fields, start=1):
        tally.add(PairScore(Pair(line, "g", "b", each), -float(line % 2), -0.5))
    return tally


def test_groups_are_those_of_the_finest_usual_field() -> None:
    both = [{"UID": "x", "field": "f"}, {"UID": "y", "field": "f"}, {"UID": "x", "field": "f"}]
    assert tallied(None, *both).groups == {"x": Accuracy(0, 2), "y": Accuracy(1, 1)}
    assert tallied("field", *both).groups == {"f": Accuracy(1, 3)}
    assert tallied(None, {"field": "f", "linguistics_term": "t"}).by == "linguistics_term"
    assert tallied(None, {"field": "f"}).by == "field"
    assert tallied(None, {"other": "f"}).by is None


def test_a_pair_without_the_field_is_named_with_its_line() -> None:
    with pytest.raises(DataError, match=r"no 'UID' \(line 2\): it has field; choose .*--by"):
        tallied(None, {"UID": "x"}, {"field": "f"})
    with pytest.raises(DataError, match=r"no 'topic' \(line 1\): it has no fields"):
        tallied("topic", {})


def test_intervals_are_wilsons() -> None:
    # (p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n) for 8 of 10.
    assert Accuracy(8, 10).interval == pytest.approx((0.49016, 0.94332), abs=1e-5)
    assert Accuracy(0, 10).interval == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert Accuracy(10, 10).interval == pytest.approx((0.72247, 1.0), abs=1e-5)
    assert Accuracy(8, 10).share == 0.8


def test_pairs_that_break_off_are_not_taken_for_all() -> None:
    def in_groups(sentences: Iterable[str]) -> Iterator[float]:
        for group in groups(sentences):  # as a model reads them
            yield from (-1.0 for _ in group)

    scored = score_pairs(read_pairs(["a\tb", "c\td", "e"], "p.tsv"), in_groups)
    assert [next(scored).pair.line for _ in range(2)] == [1, 2]
    with pytest.raises(DataError, match=r"p.tsv, line 3"):
        next(scored)
