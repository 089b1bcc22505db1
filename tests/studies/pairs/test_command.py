"""``textgen pairs``: its options, and what each layout shows."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from textgen.results import Accuracy

# The stand-in gives each character, and the end, a probability of 1/4: the shorter is likelier.
GOOD, TIED, BAD = ("the dog", "the dogs"), ("a", "b"), ("the dogs", "the dog")
PAIRS = [*[("agr", GOOD)] * 10, *[("b\te", GOOD)] * 8, ("b\te", TIED), ("b\te", BAD)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = ({"sentence_good": g, "sentence_bad": b, "UID": uid} for uid, (g, b) in PAIRS)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def ungrouped(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text("a b\tb a c\n", encoding="utf-8")
    return path


def test_json_has_a_line_per_pair_and_one_for_the_total(run: Any, library: Any, file: Path) -> None:
    out = run("pairs", "x", file, "--format", "json", "--jobs", "2").out
    pair, *_, total = (json.loads(line) for line in out.splitlines())
    assert pair == {
        "line": 1,
        "sentence_good": "the dog",
        "sentence_bad": "the dogs",
        "fields": {"UID": "agr"},
        "log_prob_good": pytest.approx(-11.0904, abs=1e-4),
        "log_prob_bad": pytest.approx(-12.4766, abs=1e-4),
        "right": True,
    }
    low, high = Accuracy(18, 20).interval
    figures = {"accuracy": 0.9, "low": low, "high": high, "right": 18, "tied": 1, "pairs": 20}
    assert {name: total["total"][name] for name in figures} == figures
    assert total["total"]["by"] == "UID"
    assert total["total"]["groups"]["b\te"]["right"] == 8
    assert library.calls["scores"]["jobs"] == 2


def test_tsv_has_a_row_per_group_and_the_total_is_beside_it(
    run: Any, library: Any, file: Path, ungrouped: Path
) -> None:
    ended = run("pairs", "x", file, "--format", "tsv")
    rows = list(csv.reader(io.StringIO(ended.out, newline=""), delimiter="\t"))
    assert rows[0] == ["UID", "accuracy", "low", "high", "right", "tied", "pairs"]
    assert [row[0] for row in rows[1:]] == ["agr", "b\te"]
    assert rows[2][1] == "0.8"
    assert rows[2][4:] == ["8", "1", "10"]
    assert "right: 18 of 20, 90.0 %" in ended.err
    lines = run("pairs", "x", ungrouped, "--format", "tsv").out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["group", "all"]


def test_a_table_begins_with_the_hardest_group_and_reports_ties(
    run: Any, library: Any, file: Path, ungrouped: Path
) -> None:
    lines = run("pairs", "x", file).out.splitlines()
    assert [" ".join(line.split()) for line in lines[:3]] == [
        "UID accuracy 95 % interval right pairs",
        r"b\te 80.0 % 49.0 – 94.3 % 8 10",
        "agr 100.0 % 72.2 – 100.0 % 10 10",
    ]
    assert lines[3].split()[:3] == ["all", "90.0", "%"]
    assert "the good sentence is the likelier" in lines[4]
    assert "1 pair is equally likely: not right." in lines[5]
    lines = run("pairs", "x", ungrouped).out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["accuracy", "all"]


def test_figures_of_a_model_without_probabilities_are_named_pseudo(
    run: Any, library: Any, monkeypatch: pytest.MonkeyPatch, ungrouped: Path
) -> None:
    monkeypatch.setattr(type(library.load("x")), "is_causal", False)
    out = run("pairs", "x", ungrouped, "--format", "json").out
    assert "pseudo_log_prob_good" in json.loads(out.splitlines()[0])
    assert "likelier" not in run("pairs", "x", ungrouped).out


def test_an_option_of_score_is_no_option_here(run: Any, library: Any, file: Path) -> None:
    ended = run("pairs", "x", file, "--log-base", "2")
    assert ended.code == 2 and "no such option: --log-base" in ended.err
    assert not library.calls
