"""Our own layouts at every level: columns, keys, footnotes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from textgen.presentation.formats import Shown
from textgen.presentation.formats.table import comparison
from textgen.results import ScoreSum

LN2 = math.log(2)


def test_json_has_the_parts_of_each_level_under_a_key_of_its_own(write: Any) -> None:
    for level, id, rank in (("token", ["id"], ["rank"]), ("word", [], [])):
        first, second, total = map(json.loads, write("json", level).splitlines())
        assert list(first)[-2:] == ["comparable", f"{level}_scores"]
        keys = [level, *id, "log_prob", "surprisal", "unknown", *rank, "entropy"]
        assert list(first[f"{level}_scores"][0]) == [*keys, "entropy_reduction"]
        summed = math.fsum(part["log_prob"] for part in second[f"{level}_scores"])
        assert summed == pytest.approx(second["log_prob"])
        assert list(total) == ["total"]
    unknown = json.loads(write("json", "token").splitlines()[0])["token_scores"][3]
    assert "entropy_reduction" not in unknown


def test_tsv_of_tokens_has_a_row_a_token_and_names_its_base(write: Any) -> None:
    rows = [line.split("\t") for line in write("tsv", "token", base=7.0).splitlines()]
    assert rows[0] == [
        *("line", "number", "token", "log7_prob", "surprisal"),
        *("entropy", "entropy_reduction", "unknown", "id", "rank"),
    ]
    assert rows[4] == [
        *("1", "4", "<UNK>", repr(-10 * LN2 / math.log(7)), "10.0", "2.75", "", "1", "0", "3")
    ]
    assert rows[7][:3] == ["2", "1", "a\\tb"]
    assert {len(row) for row in rows} == {10}


def test_tsv_of_words_has_no_columns_of_tokens(write: Any) -> None:
    header, *rows = write("tsv", "word").splitlines()
    assert header.split("\t")[2:4] == ["word", "log_prob"]
    assert header.endswith("\tunknown")
    assert rows[1].split("\t") == [
        *("1", "2", "cats", repr(-4 * LN2), "4.0", "2.5", "0.5", "0"),
    ]


def test_the_table_puts_the_sum_beside_each_unit_so_that_models_compare(write: Any) -> None:
    lines = write("table", "sentence", base=2.0).splitlines()
    table = [line.split() for line in lines if line.startswith(("per ", "        "))]
    assert ["per", "token", "8", "-2.875", "7.336"] in table
    assert ["per", "word", "7", "-3.286", "9.752*"] in table
    assert ["per", "character", "23", "-1.000", "2.000*"] in table


def test_the_table_says_whether_the_end_and_unknown_spelling_are_counted(write: Any) -> None:
    left_out = write("table", "sentence")
    assert "Each sentence's <EOS> is counted." in left_out
    assert "* not comparable between models: without the spelling of 1 unknown token." in left_out
    spelled = write("table", "sentence", spelled=True, eos=False)
    assert "<EOS> is not counted." in spelled
    assert "The spelling of 1 unknown token is in the figures" in spelled
    assert "*" not in spelled


def test_rank_and_entropy_are_shown_where_the_width_allows(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    wide, words = write("table", "token"), write("table", "word")
    assert "rank  entropy" in wide
    assert "1,234    2.500" in wide
    assert "entropy" in words and "rank" not in words
    monkeypatch.setenv("COLUMNS", "40")
    narrow = write("table", "token")
    assert "rank" not in narrow
    assert max(map(len, narrow.splitlines())) <= 40


def test_odds_too_large_for_a_float_are_still_said() -> None:
    compared = comparison(ScoreSum(-1e5, 9), ScoreSum(-1.0, 9), Shown())
    assert "The second is about 10^43429 times likelier" in compared.plain
