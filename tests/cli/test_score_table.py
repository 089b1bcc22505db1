"""``textgen score --words`` and ``--column``: the rows of a table come back with figures."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

import textgen

from ..test_readme import ROOT, blocks, commands

PAGE = ROOT / "docs" / "doors" / "tables.md"
FIGURES = ("surprisal", "log_prob", "tokens", "unknown", "characters", "log_frequency")

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
    rows, given = (list(csv.DictReader(io.StringIO(text))) for text in (ended.out, TABLE))
    assert [{name: row[name] for name in given[0]} for row in rows] == given
    assert len(lines) == len(rows)
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


def test_the_cells_of_a_table_are_given_back_as_they_are(
    models: Any, typed: Any, tmp_path: Path
) -> None:
    rows = [
        ["n", "word", "a note"],
        ["1", "The", 'it\'s "so"'],
        ["2", "king", 'a\ttab\nand ""line""'],
        ["03", ".", "\t "],
        ["4", "NA", ""],
    ]
    for delimiter in "\t,;":
        text = "\ufeff" + "\n".join(
            delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows
        )
        path = table_of(tmp_path, text)
        ended = typed("score", models["char"], path, "--words", "word", "--by", "n")
        back = list(csv.reader(io.StringIO(ended.out), delimiter=delimiter, strict=True))
        assert [row[:3] for row in back] == rows
        assert back[0][3:] == list(FIGURES)
        assert "byte order marks dropped: 1" in ended.err
        for form, other in (("csv", ","), ("tsv", "\t")):
            ended = typed(
                "score", models["char"], path, "--words", "word", "--by", "n", "--format", form
            )
            assert list(csv.reader(io.StringIO(ended.out), delimiter=other)) == back


def test_rows_of_a_text_that_is_skipped_have_no_figures(
    models: Any, typed: Any, tmp_path: Path
) -> None:
    asked = ("--words", "word", "--by", "item", "--on-unknown", "skip")
    ended = typed("score", models["word"], table_of(tmp_path), *asked)
    assert [line.endswith(",,,,,,") for line in ended.out.splitlines()[1:]] == (
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
        (["--region", "a:b"], "--region applies to --column only"),
        (["--words", "word", "--prefix-column", "p"], "--prefix-column applies to --column only"),
        (["--words", "word", "--column", "word"], "--words and --column cannot both"),
        (["--column", "word", "--level", "word"], "--column and --level cannot both"),
        (["--column", "word", "--prefix-column", "item", "--prefix", "x"], "cannot both"),
        (["--column", "word", "--format", "parquet"], "--format parquet needs --out"),
        (["--out", "x.csv"], "--out is for tables, not --format table; add --format csv or tsv"),
        (["--totals", "x", "--format", "kenlm"], "--totals is for tables, not --format kenlm"),
        (["--column", "word", "--out", "x", "--format", "json"], "--out is for tables"),
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


def test_a_table_of_words_is_read_before_its_rows_are_written(
    models: Any, typed: Any, tmp_path: Path
) -> None:
    path = table_of(tmp_path, "item,word\n1,The\n1,king\n2,The\n2\n")
    ended = typed("score", models["char"], path, "--words", "word", "--by", "item", code=3)
    assert ended.out == ""
    assert "1 cells, not 2 as in the header (t.csv, line 5)" in ended.err


def test_what_ends_the_rows_is_said_after_those_that_are_scored(
    models: Any, typed: Any, tmp_path: Path
) -> None:
    path = table_of(tmp_path, "id,s\n1,The king\n2,The fool\n3\n")
    asked = ("score", models["char"], path, "--column", "s")
    ended = typed(*asked, code=3)
    assert len(ended.out.splitlines()) == 3
    assert "the scores end after line 3" in ended.lines[0]
    assert "1 cells, not 2 as in the header (t.csv, line 4)" in ended.lines[1]
    out = tmp_path / "scores.csv"
    out.write_text("old")
    ended = typed(*asked, "--out", out, code=3)
    assert out.read_text() == "old" and "end after" not in ended.err


def test_an_unknown_word_is_said_with_the_line_its_text_begins_in(
    models: Any, typed: Any, tmp_path: Path
) -> None:
    path = table_of(tmp_path, "item,word\n1,The\n1,king\n2,The\n2,zebra\n")
    asked = ("--words", "word", "--by", "item", "--on-unknown", "error")
    ended = typed("score", models["word"], path, *asked, code=3)
    assert "unknown to the model: 'zebra' (from line 4)" in ended.err


def test_a_word_has_its_frequency_in_the_training_text(
    trained: Path, corpus: Path, typed: Any, tmp_path: Path
) -> None:
    header = textgen.LanguageModel.load(trained).header
    read = corpus.read_text(encoding="utf-8")[: header.corpus.train.characters]
    of_text = read.lower().replace(".", " ").split()

    def log_frequency(word: str) -> float:
        return math.log(of_text.count(word) / len(of_text))

    words = ["The", "“King", "sees", ",", "zebra", "king moon", "moon."]
    path = table_of(tmp_path, "word\n" + "".join(f'"{word}"\n' for word in words))
    ended = typed("score", trained, path, "--words", "word", "--format", "json")
    found = [json.loads(line)["log_frequency"] for line in ended.out.splitlines()]
    expected = [*map(log_frequency, ("the", "king", "sees")), None, None, None]
    assert found == pytest.approx([*expected, log_frequency("moon")])


def test_a_training_text_that_is_gone_or_changed_leaves_the_frequencies_empty(
    models: Any, typed: Any, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat.\n" * 30)
    textgen.train(text, out=tmp_path / "run", model="ngram", threads=1)
    path = table_of(tmp_path, "word\nthe\n")
    asked = ("score", tmp_path / "run", path, "--words", "word", "--by", "word")
    known = typed(*asked)
    assert float(known.out.split(",")[-1]) == pytest.approx(-math.log(3))
    text.write_text("the cat sat!\n" * 30)
    changed = typed(*asked)
    assert "log_frequency is empty: the text has changed" in changed.err
    text.unlink()
    gone = typed(*asked)
    assert "log_frequency is empty: no such file" in gone.err
    for ended in (changed, gone):
        assert ended.out == known.out.rpartition(",")[0] + ",\n"


def test_the_totals_of_a_table_are_not_among_its_rows(
    models: Any, typed: Any, tmp_path: Path
) -> None:
    path, totals = table_of(tmp_path), tmp_path / "totals.json"
    asked = ("score", models["char"], path, "--words", "word", "--by", "item")
    ended = typed(*asked)
    rows = len(TABLE.splitlines())
    assert len(ended.out.splitlines()) == rows
    assert "3 sentences, " in ended.err
    again = typed(*asked, "--totals", totals, "--out", tmp_path / "out.csv")
    assert again.out == "" and "sentences" not in again.err
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == ended.out
    record = json.loads(totals.read_text())
    summed = math.fsum(float(row["log_prob"]) for row in csv.DictReader(io.StringIO(ended.out)))
    assert record["total"]["log_prob"] == pytest.approx(summed)
    assert record["sentences"] == 3


SENTENCES = """id,sentence,a,b
1,"The king sees the moon.",4,8
2,The queen likes the sea.,,
3,"The ""king"", he likes the moon.",21,30
4,,0,0
"""


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_sentences_of_a_column_have_the_figures_of_texts_and_of_their_regions(
    models: Any, typed: Any, tmp_path: Path, level: str
) -> None:
    path = table_of(tmp_path, SENTENCES)
    asked = ("score", models[level], path, "--column", "sentence", "--region", "a:b")
    given = list(csv.DictReader(io.StringIO(SENTENCES)))
    rows = list(csv.DictReader(io.StringIO(typed(*asked).out)))
    assert [{name: row[name] for name in given[0]} for row in rows] == given
    texts = [part for row in given for part in ("--text", row["sentence"])]
    json_of = ("--level", "word", "--format", "json")
    scores = typed("score", models[level], *texts, *json_of).out.splitlines()
    for row, line in zip(rows, scores, strict=False):
        score = json.loads(line)
        for name in ("log_prob", "perplexity", "bits_per_character"):
            assert float(row[name]) == pytest.approx(score[name], rel=1e-6)
        assert (int(row["tokens"]), int(row["unknown"])) == (score["tokens"], score["unknown"])
        assert float(row["surprisal"]) == pytest.approx(-score["log_prob"] / math.log(2), rel=1e-6)
        words = [word["surprisal"] for word in score["word_scores"]]
        own = {"1": words[1:2], "3": words[4:6], "4": []}
        if row["id"] == "2":
            assert row["region_surprisal"] == row["region_tokens"] == row["region_unknown"] == ""
        else:
            assert float(row["region_surprisal"]) == pytest.approx(math.fsum(own[row["id"]]))
            assert float(row["region_log_prob"]) * -1 / math.log(2) == pytest.approx(
                float(row["region_surprisal"])
            )


def test_a_column_has_the_prefixes_that_sentences_continue(
    models: Any, typed: Any, tmp_path: Path
) -> None:
    path = table_of(tmp_path, "before\ttext\nThe king\t sees the sea.\nThe \tfool\n", "t.tsv")
    ended = typed(
        *("score", models["char"], path, "--column", "text", "--prefix-column", "before"),
        *("--format", "json"),
    )
    for line in ended.out.splitlines():
        row = json.loads(line)
        options = ("--text", row["text"], "--prefix", row["before"], "--format", "json")
        same = json.loads(typed("score", models["char"], *options).out.splitlines()[0])
        assert row["log_prob"] == same["log_prob"]
        assert row["tokens"] == same["tokens"] == len(row["text"])


def test_a_line_break_in_a_sentence_is_said_with_its_line(
    models: Any, typed: Any, tmp_path: Path
) -> None:
    path = table_of(tmp_path, 's\nThe king\n"The\nfool"\n')
    ended = typed("score", models["char"], path, "--column", "s", code=2)
    assert "not one sentence: 'The\\nfool' (line 3)" in ended.err


def test_chinese_words_are_joined_without_spaces_and_sum_to_their_text(
    typed: Any, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("我喜欢（猫）。\n狗不喜欢猫。\n" * 20, encoding="utf-8")
    textgen.train(text, out=tmp_path / "run", model="ngram", threads=1)
    words = ["我", "喜欢", "（", "猫", "）", "。"]
    path = table_of(tmp_path, "词\n" + "\n".join(words) + "\n")
    asked = ("--words", "词", "--separator", "", "--format", "json")
    ended = typed("score", tmp_path / "run", path, *asked)
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["tokens"] for row in rows] == list(map(len, words))
    assert all(row["log_frequency"] is None for row in rows)
    whole = typed(
        "score", tmp_path / "run", "--text", "".join(words), "--no-eos", "--format", "json"
    )
    total = json.loads(whole.out.splitlines()[0])["log_prob"]
    assert math.fsum(row["log_prob"] for row in rows) == pytest.approx(total)


def test_rows_on_a_terminal_cannot_drive_it(
    run: Any, models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    path = table_of(tmp_path, "word\tx\nThe\t\x1b[31m\n")
    out = run("score", models["char"], path, "--words", "word").out
    assert "The\t\\x1b[31m\t" in out and "\x1b" not in out


@pytest.fixture
def folder(models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files that the page of tables names."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "mine").symlink_to(models["char"], target_is_directory=True)
    (tmp_path / "stimuli.csv").write_text("item,condition,word\n1,a,The\n1,a,moon\n2,b,The\n")
    (tmp_path / "items.csv").write_text("context,sentence,start,end\nThe, king sees,1,5\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_of_tables_runs(folder: Path, typed: Any) -> None:
    run = [typed(*arguments) for arguments in commands(PAGE, "textgen")]
    assert len(run) == 5
    assert (folder / "scores.tsv").read_text().startswith("item\tcondition\tword\tsurprisal\t")


def test_the_python_example_of_the_page_of_tables_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, example = blocks(PAGE, "python")
    monkeypatch.setattr("textgen.results.SentenceScores.to_frame", lambda self: list(self))
    exec(example, found := {})
    (tokens,) = found["ids"].shape
    assert found["logits"].shape[0] == found["hidden"].shape[0] == tokens + 1
