"""``textgen score --words``: the rows of a table come back with the figures of their words."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

import textgen
from textgen.cli.score_rows import FIGURES

TABLE = """item,cond,word
1,a,The
1,a,"king"
1,a,sees
1,a,the
1,a,moon
1,a,.
2,b,Don
2,b,’t
2,b,go
2,b,
2,b,"now, please"
1,a,The
1,a,zebra
"""
TEXTS = ["The king sees the moon.", "Don’t go now, please", "The zebra"]
SIZES = [6, 5, 2]


@pytest.fixture(scope="module")
def models(trained: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of each level."""
    folder = tmp_path_factory.mktemp("models")
    for level in ("word", "subword"):
        textgen.train(corpus, out=folder / level, model="ngram", level=level, threads=1)
    return {"char": trained, "word": folder / "word", "subword": folder / "subword"}


def table_of(tmp_path: Path, text: str = TABLE, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("prefix", [(), ("--prefix", "The fool. ")])
@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_rows_come_back_and_those_of_an_item_sum_to_its_text(
    models: Any, typed: Any, tmp_path: Path, level: str, prefix: tuple[str, ...]
) -> None:
    path = table_of(tmp_path)
    ended = typed("score", models[level], path, *prefix, "--words", "word", "--by", "item")
    header, *lines = ended.out.splitlines()
    assert header == "item,cond,word," + ",".join(FIGURES)
    for line, given in zip(lines, TABLE.splitlines()[1:], strict=True):
        assert line.startswith(given + ",")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    texts = [part for text in TEXTS for part in ("--text", text)]
    score = typed("score", models[level], *prefix, *texts, "--no-eos", "--format", "json")
    for size, line in zip(SIZES, score.out.splitlines(), strict=False):
        some, rows = rows[:size], rows[size:]
        expected = json.loads(line)["log_prob"]
        assert math.fsum(float(row["log_prob"]) for row in some) == pytest.approx(expected)
        for row in some:
            assert float(row["surprisal"]) == pytest.approx(-float(row["log_prob"]) / math.log(2))
            assert int(row["characters"]) == len(row["word"])
            assert (int(row["tokens"]) == 0) == (not row["word"])
    assert [row["unknown"] for row in some] == ["0", "0" if level == "subword" else "1"]
    assert not rows


def test_a_row_that_is_a_word_has_the_figures_of_that_word(
    models: Any, typed: Any, tmp_path: Path
) -> None:
    sentence = "The king likes the old door"
    path = table_of(tmp_path, "word\n" + sentence.replace(" ", "\n") + "\n")
    ended = typed("score", models["subword"], path, "--words", "word", "--format", "json")
    assert "all rows are one text" in ended.err
    arguments = ("--text", sentence, "--level", "word", "--no-eos", "--format", "json")
    words = json.loads(typed("score", models["subword"], *arguments).out.splitlines()[0])
    for line, word in zip(ended.out.splitlines(), words["word_scores"], strict=True):
        row = json.loads(line)
        assert list(row) == ["word", *FIGURES]
        for name in ("word", "log_prob", "surprisal", "unknown"):
            assert row[name] == word[name]


def test_a_table_is_given_back_as_it_is(models: Any, typed: Any, tmp_path: Path) -> None:
    rows = [
        'n\tword\t"a note"',
        '1\t"The"\tit\'s "so"',
        '2\tking\t"a\ttab\nand ""line"""',
        "3\t.\t ",
    ]
    path = table_of(tmp_path, "\ufeff" + "\n".join(rows), "t.tsv")
    asked = ("--words", "word", "--by", "word", "--separator", "")
    ended = typed("score", models["char"], path, *asked)
    header, *blocks = rows
    assert ended.out.startswith(header + "\t" + "\t".join(FIGURES) + "\n")
    for block in blocks:
        assert f"\n{block}\t" in ended.out
    assert list(csv.DictReader(io.StringIO(ended.out), delimiter="\t"))[1]["a note"] == (
        'a\ttab\nand "line"'
    )
    semicolons = table_of(tmp_path, "word;x\n猫;1\nが;1\n", "semicolons.csv")
    ended = typed("score", models["char"], semicolons, *asked[:2], "--by", "x", "--separator", "")
    assert ended.out.startswith("word;x;surprisal;")
    assert [line.split(";")[5] for line in ended.out.splitlines()[1:]] == ["1", "1"]


def test_rows_of_a_text_that_is_skipped_have_no_figures(
    models: Any, typed: Any, tmp_path: Path
) -> None:
    asked = ("--words", "word", "--by", "item", "--on-unknown", "skip")
    ended = typed("score", models["word"], table_of(tmp_path), *asked)
    assert [line.endswith(",,,,,") for line in ended.out.splitlines()[1:]] == (
        [False] * 6 + [True] * 7
    )
    assert "sentences with unknown tokens skipped: 2" in ended.err
    ended = typed("score", models["word"], table_of(tmp_path), *asked, "--format", "json")
    assert json.loads(ended.out.splitlines()[-1])["log_prob"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--by", "item"], "--by applies to --words only"),
        (["--separator", ""], "--separator applies to --words only"),
        (["--words", "word", "--level", "token"], "--words and --level cannot both be given"),
        (["--words", "word", "--format", "kenlm"], "--words and --format kenlm cannot both"),
        (["--words", "word", "--eos"], "--words and --eos cannot both"),
        (["--words", "word", "--html", "x.html"], "--words and --html cannot both"),
        (["--words", "word", "--log-base", "2"], "--words and --log-base cannot both"),
    ],
)
def test_options_that_say_nothing_of_rows_are_refused(
    run: Any, library: Any, tmp_path: Path, options: list[str], said: str
) -> None:
    ended = run("score", "x", table_of(tmp_path), *options)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert not library.calls


def test_a_table_without_the_columns_or_with_those_of_the_figures_is_refused(
    run: Any, library: Any, tmp_path: Path
) -> None:
    ended = run("score", "x", table_of(tmp_path), "--words", "words")
    assert (ended.code, ended.out) == (3, "")
    assert "no column 'words' (t.csv, line 1): it has 'item', 'cond', 'word'" in ended.err
    again = table_of(tmp_path, "word,tokens\na,1\n")
    ended = run("score", "x", again, "--words", "word")
    assert (ended.code, ended.out) == (3, "")
    assert "the column 'tokens' is there already (t.csv, line 1)" in ended.err
    twice = table_of(tmp_path, "word,x,x\na,1,2\n")
    ended = run("score", "x", twice, "--words", "word", "--format", "json")
    assert (ended.code, ended.out) == (3, "")
    assert "the column 'x' is there already" in ended.err
    assert "empty" in run("score", "x", table_of(tmp_path, ""), "--words", "word").err
    assert not library.calls


def test_what_ends_the_rows_is_said_after_those_that_are_scored(
    models: Any, typed: Any, tmp_path: Path
) -> None:
    path = table_of(tmp_path, "item,word\n1,The\n1,king\n2,The\n2\n")
    asked = ("--words", "word", "--by", "item")
    ended = typed("score", models["char"], path, *asked, code=3)
    assert len(ended.out.splitlines()) == 3
    assert "the scores end after line 3" in ended.lines[0]
    assert "1 cells, not 2 as in the header (t.csv, line 5)" in ended.lines[1]


def test_rows_on_a_terminal_cannot_drive_it(
    run: Any, models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    path = table_of(tmp_path, "word\tx\nThe\t\x1b[31m\n")
    out = run("score", models["char"], path, "--words", "word").out
    assert "The\t\\x1b[31m\t" in out and "\x1b" not in out
