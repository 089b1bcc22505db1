"""Tables of scores read back by pandas, polars and pyarrow, with equal values."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path
from typing import Any

import pytest

import textgen
from textgen import LanguageModel
from textgen.cli.app import main

from ..test_readme import ROOT, blocks

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
parquet = pytest.importorskip("pyarrow.parquet")

ALPHABET = "ab \"'\t\n\\,;#|%é猫"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("model")
    (folder / "text.txt").write_text("The king sees the moon.\n" * 30, encoding="utf-8")
    textgen.train(folder / "text.txt", out=folder / "run", model="ngram", threads=1)
    return LanguageModel.load(folder / "run")


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences beside cells that are hard to quote, and beside words such as NA."""
    chance = random.Random(0)
    path = tmp_path_factory.mktemp("stimuli") / "stimuli.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "note", "start", "end"])
        for number in range(300):
            sentence = "".join(chance.choices(ALPHABET.replace("\n", ""), k=chance.randrange(9)))
            note = "".join(chance.choices(ALPHABET, k=chance.randrange(9)))
            note = ("NA", "null", "", "03", note)[min(number, 4)]
            region = ("", "") if number % 3 else (0, len(sentence))
            writer.writerow([sentence, note, *region])
    return path


def scored(model: LanguageModel, stimuli: Path, form: str, out: Path) -> Path:
    asked = ("--column", "sentence", "--region", "start:end", "--format", form, "--out", str(out))
    assert main(["score", str(model.path), str(stimuli), *asked]) == 0
    return out


@pytest.fixture(scope="module")
def expected(model: LanguageModel, stimuli: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The rows as Python's csv reads them."""
    path = scored(model, stimuli, "csv", tmp_path_factory.mktemp("csv") / "scores.csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    given = csv.DictReader(io.StringIO(stimuli.read_text(encoding="utf-8"), newline=""))
    assert [{name: row[name] for name in ("sentence", "note")} for row in rows] == [
        {name: row[name] for name in ("sentence", "note")} for row in given
    ]
    return rows


TEXTS = ("sentence", "note", "start", "end")


def check(columns: dict[str, list[Any]], expected: list[dict[str, str]]) -> None:
    assert list(columns) == list(expected[0])
    for name, values in columns.items():
        cells = [row[name] for row in expected]
        if name in TEXTS:
            assert values == cells, name
            continue
        for value, cell in zip(values, cells, strict=True):
            assert (value is None or value != value) if cell == "" else float(value) == float(cell)


@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_pandas_and_polars_read_equal_values(
    model: LanguageModel, stimuli: Path, expected: Any, tmp_path: Path, form: str
) -> None:
    path, separator = (
        scored(model, stimuli, form, tmp_path / "scores"),
        {"csv": ",", "tsv": "\t"}[form],
    )
    texts = dict.fromkeys(TEXTS, str)
    figures = [name for name in expected[0] if name not in TEXTS]
    frame = pandas.read_csv(
        path,
        sep=separator,
        dtype=texts,
        keep_default_na=False,
        na_values={name: [""] for name in figures},
    )
    check({name: frame[name].tolist() for name in frame.columns}, expected)
    other = polars.read_csv(
        path,
        separator=separator,
        schema_overrides=dict.fromkeys(TEXTS, polars.String),
        empty_string_is_null=False,
        infer_schema_length=None,
    )
    check({name: other[name].to_list() for name in other.columns}, expected)


def test_parquet_has_the_same_values_with_their_types(
    model: LanguageModel, stimuli: Path, expected: Any, tmp_path: Path
) -> None:
    path = scored(model, stimuli, "parquet", tmp_path / "scores.parquet")
    table = parquet.read_table(path)
    check({name: table[name].to_pylist() for name in table.column_names}, expected)
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert types["note"] == "string" and types["tokens"] == types["region_tokens"] == "int64"
    assert types["surprisal"] == "double" and types["region_unknown"] == "bool"
    assert pandas.read_parquet(path).shape == polars.read_parquet(path).shape == table.shape


@pytest.mark.parametrize("level", ["sentence", "word", "token", "character"])
def test_parquet_of_texts_has_the_rows_of_csv(
    model: LanguageModel, tmp_path: Path, level: str
) -> None:
    text = tmp_path / "text.txt"
    text.write_text('The "king", sees\nthe moon.\n\n', encoding="utf-8")
    for form in ("csv", "parquet"):
        asked = ("--level", level, "--format", form, "--out", str(tmp_path / f"scores.{form}"))
        assert main(["score", str(model.path), str(text), *asked]) == 0
    frame = pandas.read_csv(
        tmp_path / "scores.csv", keep_default_na=False, na_values={"rank": [""]}
    )
    same = pandas.read_parquet(tmp_path / "scores.parquet")
    assert list(frame.columns) == list(same.columns)
    for name in frame.columns:
        for one, other in zip(frame[name].tolist(), same[name].tolist(), strict=True):
            if isinstance(one, str):
                assert one == ("" if other is None or other != other else str(other))
            else:
                assert other == pytest.approx(one, nan_ok=True)


def test_scores_are_data_frames(model: LanguageModel) -> None:
    scores = model.score(["The king", "the moon."], level="token")
    frame = scores.to_frame()
    assert frame.line.tolist() == [1] * 9 + [2] * 10
    assert frame.surprisal.sum() == pytest.approx(sum(score.surprisal for score in scores))
    assert frame.text.iloc[-1] == "<EOS>" and frame.number.iloc[-1] == 10
    of_sentences = model.score(["The king", "the moon."]).to_frame()
    perplexities = [score.perplexity for score in scores]
    assert of_sentences.perplexity.tolist() == pytest.approx(perplexities)
    assert {"surprisal", "perplexity"} <= set(pandas.DataFrame(scores).columns)
    assert {"surprisal", "perplexity"} <= set(pandas.DataFrame(scores[0].parts).columns)
    assert scores[0].to_frame().shape == (9, frame.shape[1])


def test_pandas_reads_as_the_page_of_tables_says(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stimuli.csv").write_text("word,note\nThe,NA\nxyzzy,\n")
    arguments = ("stimuli.csv", "--words", "word", "--out", "scores.csv")
    monkeypatch.chdir(tmp_path)
    assert main(["score", str(model.path), *arguments]) == 0
    example, _ = blocks(ROOT / "docs" / "doors" / "tables.md", "python")
    exec(example, found := {})
    frame = found["frame"]
    assert frame.note.tolist() == ["NA", ""]
    assert frame.log_frequency.isna().tolist() == [False, True]
