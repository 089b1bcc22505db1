"""N-best lists as recognisers write them."""

from collections.abc import Iterator

import pytest

from textgen.errors import DataError
from textgen.studies.rerank import nbest
from textgen.studies.rerank.nbest import Hypothesis, Utterance, read_nbest, read_references


def read(*lines: str) -> list[Utterance]:
    return list(read_nbest(lines, "list.txt"))


def test_lines_of_one_id_are_one_utterance() -> None:
    assert read("u1 the cat", "u1 a  cat ", "u2", "u1 again") == [
        Utterance("u1", (Hypothesis("u1", "the cat"), Hypothesis("u1", "a  cat"))),
        Utterance("u2", (Hypothesis("u2", ""),)),
        Utterance("u1", (Hypothesis("u1", "again"),)),
    ]


def test_tabs_separate_one_score_or_two() -> None:
    assert read("u1\t-3.5\tthe cat", "u1\t-1e2\t") == [
        Utterance("u1", (Hypothesis("u1", "the cat", -3.5), Hypothesis("u1", "", -100.0)))
    ]
    assert read("u1\t-3.5\t-7\tthe cat") == [
        Utterance("u1", (Hypothesis("u1", "the cat", -3.5, -7.0),))
    ]


def test_kaldis_ids_count_up_within_an_utterance() -> None:
    ids = ["a-b-1", "a-b-2", "c-1", "a-b-1", "a-b-2", "a-b-3"]
    utterances = read(*(f"{id} text" for id in ids))
    assert [each.id for each in utterances] == ["a-b", "c", "a-b"]
    assert [one.id for each in utterances for one in each.hypotheses] == ids


@pytest.mark.parametrize(
    "ids",
    [
        ["talk-1", "talk-1", "talk-2", "talk-2"],
        ["a-1", "b-1"],
        ["a-01", "a-02"],
        ["a-2", "a-3"],
        ["a-1", "a-2", "a"],
        ["-1", "-2"],
    ],
)
def test_other_ids_that_end_in_numbers_are_utterances_own(ids: list[str]) -> None:
    utterances = read(*(f"{id} text" for id in ids))
    assert [each.id for each in utterances] == list(dict.fromkeys(ids))


def test_an_utterance_is_given_before_the_next_but_a_few_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nbest, "_LOOK_AHEAD", 3)
    for form in ("u{0} text", "u{0}-1 text\nu{0}-2 text"):

        def lines(form: str = form) -> Iterator[str]:
            for number in range(3):
                yield from form.format(number).split("\n")
            raise AssertionError("read too far")

        assert next(read_nbest(lines(), "list.txt")).id == "u0"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"^empty \(list\.txt\)"),
        (["u1 a", ""], r"no utterance id \(list\.txt, line 2\)"),
        (["u1 a", " a"], r"no utterance id \(list\.txt, line 2\)"),
        (["u1\t-1\ta", "\t-1\ta"], r"no utterance id \(list\.txt, line 2\)"),
        (["u1\t-1\ta", "u 1\t-1\ta"], r"white space in the utterance id 'u 1' .*line 2"),
        (["u1\t-1\ta", "u1\t\ta"], r"no acoustic score \(list\.txt, line 2\)"),
        (["u1\tx\ta"], r"'x' is no acoustic score \(list\.txt, line 1\).*finite number"),
        (["u1\t-1\tinf\ta"], r"'inf' is no language model score \(list\.txt, line 1\)"),
        (["u1\ta"], r"2 columns in an n-best list \(list\.txt, line 1\).*write 'utterance-id"),
        (["u1\t-1\ta", "u1\t-1\t-2\ta"], r"4 columns where the first .* 3 \(list\.txt, line 2\)"),
        (["u1 a", "u1\t-1\ta"], r"3 columns where the first line has 1 \(list\.txt, line 2\)"),
    ],
)
def test_what_is_no_list_is_named_with_its_line(lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(*lines)


@pytest.mark.parametrize("stray", ["a", "a-1", "a-2", "a-4", "b-2"])
def test_numbers_that_stop_counting_up_are_named(
    monkeypatch: pytest.MonkeyPatch, stray: str
) -> None:
    monkeypatch.setattr(nbest, "_LOOK_AHEAD", 2)
    with pytest.raises(DataError, match=rf"'{stray}' does not follow 'a-2' \(list\.txt, line 3"):
        read("a-1 x", "a-2 x", f"{stray} x")


def test_references_are_read_by_their_ids() -> None:
    assert read_references(["u1 the cat ", "u2", "u3\ta"], "refs") == {
        "u1": "the cat",
        "u2": "",
        "u3": "a",
    }
    with pytest.raises(DataError, match=r"second reference for 'u1' \(refs, line 3\)"):
        read_references(["u1 a", "u2 a", "u1 a"], "refs")
    with pytest.raises(DataError, match=r"no utterance id \(refs, line 2\)"):
        read_references(["u1 a", " a"], "refs")
    with pytest.raises(DataError, match=r"empty \(refs\)"):
        read_references([], "refs")
