"""``textgen tokenize``: what was learned, and a tokenizer put to use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

KEYS = ["level", "vocabulary_size", "tokens", "characters", "unknown_rate", "fingerprint"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("a b\\ c\tc\n" * 40, encoding="utf-8")
    return path


@pytest.fixture
def folder(run: Any, text: Path, tmp_path: Path) -> Path:
    out = tmp_path / "tokenized"
    assert run("tokenize", text, "--out", out).code == 0
    return out


def test_json_begins_with_the_keys_scripts_rely_on(run: Any, text: Path) -> None:
    ended = run("tokenize", text, "--format", "json")
    (line,) = ended.out.splitlines()
    record = json.loads(line)
    assert list(record)[: len(KEYS)] == KEYS
    assert record["level"] == "char"
    assert record["characters"] == record["tokens"] == 360
    assert record["vocabulary_size"] == 8


def test_the_table_shows_white_space_so_that_it_is_seen(run: Any, text: Path) -> None:
    out = run("tokenize", text).out
    assert "vocabulary" in out
    assert "8 with <UNK> and <EOS>" in out
    frequent = out.partition("Most frequent")[2].split()
    assert {"␣", "\\t", "\\\\", "<EOS>"} < set(frequent)


def test_ids_and_mask_have_one_shape_with_eos_last(run: Any, folder: Path) -> None:
    use = ("tokenize", "--tokenizer", folder)
    ids = run(*use, stdin="a?\nb\n").out.splitlines()
    mask = run(*use, "-", "--print", "mask", stdin="a?\nb\n").out.splitlines()
    assert mask == ["0 1 0", "0 0"]
    assert [len(line.split()) for line in ids] == [3, 2]
    assert [line.split()[-1] for line in ids] == ["1", "1"]
    assert ids[0].split()[1] == "0"


def test_tokens_are_printed_unambiguously(run: Any, folder: Path) -> None:
    out = run("tokenize", "--tokenizer", folder, "--print", "tokens", stdin="a \\\t?").out
    assert out == "a ␣ \\\\ \\t <UNK> <EOS>\n"


def test_json_of_tokens_is_an_object_a_line(run: Any, folder: Path) -> None:
    out = run("tokenize", "--tokenizer", folder, "--format", "json", stdin="a?\n\n").out
    first, second = map(json.loads, out.splitlines())
    assert list(first) == ["line", "tokens", "ids", "unknown", "texts"]
    assert first["tokens"] == ["a", "<UNK>", "<EOS>"]
    assert first["unknown"] == [False, True, False]
    assert first["texts"] == ["a", "?", ""]
    assert second["tokens"] == ["<EOS>"] and second["texts"] == [""]


def test_the_folder_is_said_and_not_replaced_unasked(run: Any, text: Path, folder: Path) -> None:
    again = run("tokenize", text, "--out", folder)
    assert (again.code, again.out, len(again.lines)) == (2, "", 1)
    assert "--overwrite" in again.err
    replaced = run("tokenize", text, "--out", folder, "--overwrite")
    assert replaced.code == 0
    assert str(folder) in "".join(replaced.out.split())


def test_bad_bytes_are_an_error_that_says_where(run: Any, text: Path) -> None:
    text.write_bytes(b"good\n\xff\n")
    ended = run("tokenize", text)
    assert (ended.code, ended.out, len(ended.lines)) == (3, "", 1)
    assert "byte 5" in ended.err
