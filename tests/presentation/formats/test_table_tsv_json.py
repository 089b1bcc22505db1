"""Our own layouts at every level: columns, keys, footnotes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.config import ScoreLevel
from textgen.presentation.formats import Shown, score_writer
from textgen.presentation.formats.table import comparison
from textgen.presentation.records import emit_rows
from textgen.results import PartScore, ScoreSum, SentenceScore

LN2 = math.log(2)


def read(table: str) -> list[list[str]]:
    """The rows of a table, by the rules of csv."""
    return list(csv.reader(io.StringIO(table, newline=""), delimiter="\t", strict=True))


def test_json_has_the_parts_of_each_level_under_a_key_of_its_own(write: Any) -> None:
    of_first = ["tokens", "first_token_entropy", "first_token_entropy_reduction"]
    for level, id, rank, more in (
        ("token", ["id"], ["rank"], ["text"]),
        ("word", [], [], of_first),
    ):
        first, second, total = map(json.loads, write("json", level).splitlines())
        assert list(first)[-2:] == ["comparable", f"{level}_scores"]
        keys = [level, *id, "log_prob", "surprisal", "unknown", *rank, "entropy"]
        assert list(first[f"{level}_scores"][0]) == [*keys, "entropy_reduction", *more]
        summed = math.fsum(part["log_prob"] for part in second[f"{level}_scores"])
        assert summed == pytest.approx(second["log_prob"])
        assert list(total) == ["total"]
    unknown = json.loads(write("json", "token").splitlines()[0])["token_scores"][3]
    assert "entropy_reduction" not in unknown


def test_tsv_of_tokens_has_a_row_a_token_and_names_its_base(write: Any) -> None:
    rows = read(write("tsv", "token", base=7.0))
    assert rows[0] == [
        *("line", "number", "token", "log7_prob", "surprisal"),
        *("entropy", "entropy_reduction", "unknown", "id", "rank", "text"),
    ]
    assert rows[4] == [
        *("1", "4", "<UNK>", repr(-10 * LN2 / math.log(7)), "10.0", "2.75", "", "1", "0", "3"),
        " xyzzy",
    ]
    assert rows[7][:3] == ["2", "1", "a\tb"]
    assert {len(row) for row in rows} == {11}


def test_tsv_of_words_says_what_is_of_their_first_tokens(write: Any) -> None:
    header, *rows = write("tsv", "word").splitlines()
    assert header.split("\t")[2:4] == ["word", "log_prob"]
    assert header.endswith("\tfirst_token_entropy\tfirst_token_entropy_reduction\tunknown\ttokens")
    assert rows[1].split("\t") == [
        *("1", "2", "cats", repr(-4 * LN2), "4.0", "2.5", "0.5", "0", "2"),
    ]


TEXTS = st.text(st.sampled_from("a \"'\t\n\r\\,;#\ufeff\u200b\x85\u2028é"), max_size=8)


@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_a_table_is_read_back_as_it_was_written(texts: list[str]) -> None:
    scores = [
        SentenceScore(-1.5 * line, 1, line=line, text=text, parts=(PartScore(text, text, -0.1),))
        for line, text in enumerate(texts, start=1)
    ]
    for level in ("sentence", "word", "token"):
        written = io.StringIO()
        with contextlib.redirect_stdout(written), contextlib.redirect_stderr(io.StringIO()):
            writer = score_writer("tsv")(Shown(level=cast(ScoreLevel, level)))
            writer.begin()
            for score in scores:
                writer.sentence(score)
            writer.end(ScoreSum(), len(scores))
        head, *rows = read(written.getvalue())
        column = head.index("text" if level == "sentence" else level)
        assert [row[column] for row in rows] == texts
        assert [int(row[0]) for row in rows] == [score.line for score in scores]
        log_prob = head.index("log_prob")
        assert all(float(row[log_prob]) in (-0.1, -1.5 * int(row[0])) for row in rows)


def test_a_table_on_a_terminal_cannot_drive_it(terminal: Any) -> None:
    stdout = terminal("stdout")
    emit_rows([["a\x1b[2J", None, True, "b\tc"]])
    assert stdout.getvalue() == 'a\\x1b[2J\t\t1\t"b\tc"\n'


def test_what_is_unknown_and_a_bar_that_is_cut_are_marked(write: Any) -> None:
    out = write("table", "word")
    assert "xyzzy (unk)" in out
    assert "cats (unk)" not in out
    assert "»" not in out and "to 16 bits" in out
    parts = (PartScore("a", "a", -20 * LN2), PartScore("b", " b", -16 * LN2))
    score = SentenceScore(-36 * LN2, 2, line=1, text="a b", parts=parts)
    cut, whole = write.of("table", [score], level="word").splitlines()[3:5]
    assert cut.endswith("▇»") and whole.endswith("▇▇")
    assert len(cut) == len(whole)


def test_entropy_of_a_word_is_said_to_be_of_its_first_token(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "1st-token entropy" in write("table", "word")
    assert "1st-token" not in write("table", "token")


def test_what_is_invisible_is_seen_in_a_table_and_kept_in_data(write: Any) -> None:
    text = "\ufeffa\u200bb\xadc"
    score = SentenceScore(-1.0, 1, line=1, text=text, parts=(PartScore(text, text, -1.0),))
    for level in ("sentence", "word"):
        table = write.of("table", [score], level=level)
        assert r"\ufeffa\u200bb\xadc" in table
        assert not set(table) & set("\ufeff\u200b\xad")
    assert text in write.of("tsv", [score], level="word")
    assert json.loads(write.of("json", [score]).splitlines()[0])["text"] == text


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
