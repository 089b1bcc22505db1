"""Accuracies of minimal pairs as they are shown."""

import json

import pytest

from textgen.results import Accuracy, Pair, PairScore
from textgen.studies.pairs.view import FORMATS

SCORED = PairScore(Pair(3, "the dogs are", "the dogs is", {"UID": "agr"}), -10.5, -12.0)
GROUPS = {"b\te": Accuracy(8, 10), "agr": Accuracy(10, 10, 0)}
TOTAL = Accuracy(18, 20, 1)


def written(form: str, capsys: pytest.CaptureFixture[str], by: str | None = "UID") -> list[str]:
    writer = FORMATS[form]()
    writer.pair(SCORED)
    writer.end(TOTAL, by, GROUPS if by else {})
    return capsys.readouterr().out.splitlines()


def test_json_has_a_line_a_pair_and_one_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    pair, total = map(json.loads, written("json", capsys))
    assert pair == {
        "line": 3,
        "sentence_good": "the dogs are",
        "sentence_bad": "the dogs is",
        "fields": {"UID": "agr"},
        "log_prob_good": -10.5,
        "log_prob_bad": -12.0,
        "right": True,
    }
    low, high = TOTAL.interval
    figures = {"accuracy": 0.9, "low": low, "high": high, "right": 18, "tied": 1, "pairs": 20}
    assert {name: total["total"][name] for name in figures} == figures
    assert total["total"]["by"] == "UID"
    assert total["total"]["groups"]["b\te"]["right"] == 8


def test_tsv_has_a_row_a_group_and_one_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [line.split("\t") for line in written("tsv", capsys)]
    assert rows[0] == ["UID", "accuracy", "low", "high", "right", "tied", "pairs"]
    assert [row[0] for row in rows[1:]] == ["agr", r"b\te", "total"]
    assert rows[2][1] == "0.8"
    assert rows[3][4:] == ["18", "1", "20"]
    assert [line.split("\t")[0] for line in written("tsv", capsys, None)] == ["group", "total"]


def test_a_table_begins_with_the_hardest_and_tells_of_ties(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = written("table", capsys)
    assert lines[0].split() == ["UID", "accuracy", "95", "%", "interval", "right", "pairs"]
    assert " ".join(lines[1].split()) == r"b\te 80.0 % 49.0 – 94.3 % 8 10"
    assert " ".join(lines[2].split()) == "agr 100.0 % 72.2 – 100.0 % 10 10"
    assert lines[3].split()[:3] == ["all", "90.0", "%"]
    assert "1 pair is equally likely: not right." in lines[5]


def test_a_table_without_groups_has_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    lines = written("table", capsys, None)
    assert [line.split()[0] for line in lines[:2]] == ["accuracy", "all"]
