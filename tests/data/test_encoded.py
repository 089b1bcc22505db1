"""Corpora as ids on disk: what is written, what is read back, what is refused."""

import functools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen import storage
from textgen.config import TokenizerConfig
from textgen.data.corpus import Corpus
from textgen.data.encoded import (
    CorpusHeader,
    encode_corpus,
    is_encoded,
    load_encoded,
    summarize,
    tokenize,
)
from textgen.data.text import split_into_pieces
from textgen.errors import CheckpointError, LockedError, ResourceError, TextgenError, UsageError
from textgen.results import held_out_text
from textgen.storage import from_json, write_manifest
from textgen.tokenizers.base import EOS
from textgen.tokenizers.registry import TOKENIZERS, learn_tokenizer, load_tokenizer_from

TEXT = "the cat sat, the dog\nran.\n\nthe cat ran. é\n" * 20
each_level = pytest.mark.parametrize("level", TOKENIZERS)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8", newline="")
    return path


@pytest.fixture
def out(text: Path, tmp_path: Path) -> Path:
    """The text, encoded by characters."""
    tokenize([text], TokenizerConfig(), out=tmp_path / "out")
    return tmp_path / "out"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tampered(folder: Path, name: str, value: Any) -> None:
    """Replace a JSON file of a folder, if given a value, and make every checksum right again."""
    if value is not None:
        (folder / name).write_text(json.dumps(value), "utf-8")
    (folder / storage.MANIFEST).unlink()
    write_manifest(folder)


@each_level
@pytest.mark.parametrize("unit", ["line", "paragraph", "document"])
def test_what_was_written_is_read_back(text: Path, tmp_path: Path, level: str, unit: str) -> None:
    out = tmp_path / "out"
    config = TokenizerConfig.from_options({"level": level, "unit": unit, "min_count": 1})
    summary = tokenize([text], config, out=out)
    encoded, tokenizer = load_encoded(out)
    header, ids = encoded.header, np.concatenate([encoded.train, encoded.valid])
    assert tokenizer.config == config
    assert tokenizer.decode(ids) == TEXT + ("\n" if unit == "paragraph" else "")
    assert encoded.train.dtype == np.dtype("<u2")
    sentences = {"line": 80, "paragraph": 21, "document": 1}[unit]
    assert header.train.sentences + header.valid.sentences == summary.sentences == sentences
    assert np.count_nonzero(ids == EOS) == sentences
    assert header.train.characters == summary.train_characters
    assert summary.tokens == len(ids)
    assert summary.fingerprint == tokenizer.fingerprint == header.tokenizer_fingerprint
    assert header.fingerprint == Corpus.open([text], unit=config.unit).fingerprint
    assert from_json(CorpusHeader, json.loads(json.dumps(asdict(header)))) == header


def test_a_temporary_file_has_the_same_ids_and_they_outlive_the_corpus(
    text: Path, out: Path
) -> None:
    stored, tokenizer = load_encoded(out)
    temporary = encode_corpus(Corpus.open([text]), tokenizer)
    assert temporary.header == stored.header
    assert summarize(temporary, tokenizer) == summarize(stored, tokenizer)
    train, valid = temporary.train, temporary.valid
    del temporary
    assert np.array_equal(train, stored.train)
    assert np.array_equal(valid, stored.valid)


def test_the_tokenizer_is_learned_from_the_training_part_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("aaaa\n" * 9 + "zzzz\n")
    summary = tokenize([tmp_path / "text"], TokenizerConfig())
    assert summary.vocabulary_size == 3
    assert summary.unknown_rate == 4 / 5
    assert summary.most_frequent == (("a", 36), ("<EOS>", 9))
    assert summary.characters_per_token == 1.0
    assert (summary.tokens, summary.train_tokens, summary.valid_tokens) == (50, 45, 5)


def test_a_large_vocabulary_takes_four_bytes_per_token(tmp_path: Path) -> None:
    text = "".join(map(chr, range(0x10000, 0x10000 + 70_000))) + "\n"
    (tmp_path / "text").write_text(text, encoding="utf-8")
    tokenize([tmp_path / "text"], TokenizerConfig(), out=tmp_path / "out", valid_fraction=0.01)
    encoded, tokenizer = load_encoded(tmp_path / "out")
    assert encoded.train.dtype == np.dtype("<u4")
    assert tokenizer.vocabulary_size > 2**16
    assert tokenizer.decode(encoded.train[-2:]) == text[: len(encoded.train)][-2:]


@each_level
def test_pieces_however_small_give_the_same_ids(
    text: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TokenizerConfig.from_options({"level": level, "min_count": 1})
    corpus = Corpus.open([text])
    tokenizer = learn_tokenizer(config, corpus.train())
    expected = encode_corpus(corpus, tokenizer).train.tolist()
    small = functools.partial(split_into_pieces, largest=8)
    monkeypatch.setattr("textgen.data.corpus.split_into_pieces", small)
    assert max(len(text) for text, _ in corpus.train()) <= 8
    assert encode_corpus(corpus, tokenizer).train.tolist() == expected


def test_a_tokenizer_of_another_unit_is_refused(text: Path) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(unit="paragraph"), [(TEXT, False)])
    with pytest.raises(UsageError, match="--unit paragraph"):
        encode_corpus(Corpus.open([text]), tokenizer)


# Folders


def test_a_corpus_is_replaced_only_with_overwrite(text: Path, out: Path) -> None:
    first = load_tokenizer_from(out).fingerprint
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UsageError, match="--overwrite"):
        tokenize([text], TokenizerConfig(level="word"), out=out)
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}
    second = tokenize([text], TokenizerConfig(level="word"), out=out, overwrite=True)
    assert load_tokenizer_from(out).fingerprint == second.fingerprint != first
    assert names(out.parent) == ["out", "text.txt"]


def test_what_textgen_did_not_write_is_never_overwritten(text: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for out in (tmp_path / "mine", text):
        with pytest.raises(UsageError, match="another --out"):
            tokenize([text], TokenizerConfig(), out=out, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_folder_with_only_leftovers_counts_as_empty(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "best.new").mkdir(parents=True)
    (out / storage.LOCK).touch()
    (tmp_path / "out.new").mkdir()
    tokenize([text], TokenizerConfig(), out=out)
    assert is_encoded(out)
    assert not (tmp_path / "out.new").exists()


def test_a_second_run_into_the_same_folder_is_refused(text: Path, tmp_path: Path) -> None:
    with storage.locked(tmp_path / "out.lock"), pytest.raises(LockedError):
        tokenize([text], TokenizerConfig(), out=tmp_path / "out")
    tokenize([text], TokenizerConfig(), out=tmp_path / "out")


def test_a_run_that_fails_leaves_nothing(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (text.parent / "bad").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(TextgenError):
        tokenize([text.parent / "bad"], TokenizerConfig(), out=text.parent / "out")
    monkeypatch.setattr("textgen.data.encoded._write_ids", full)
    for out in (None, text.parent / "out"):
        with pytest.raises(ResourceError, match="No space"):
            tokenize([text], TokenizerConfig(), out=out)
    assert names(text.parent) == ["bad", "text.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_temporary_folder_is_named_though_closing_fails_too(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", functools.partial(open, "/dev/full", "wb"))
    with text.open(encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        for path in (text, "-"):
            with pytest.raises(ResourceError, match="No space left") as refused:
                tokenize([path], TokenizerConfig())
            assert tempfile.gettempdir() in str(refused.value)


# Damage


@each_level
def test_every_changed_byte_is_noticed(text: Path, tmp_path: Path, level: str) -> None:
    out = tmp_path / "out"
    tokenize([text], TokenizerConfig.from_options({"level": level}), out=out)
    for path in sorted(out.iterdir()):
        data = path.read_bytes()
        flipped = data[:9] + bytes([data[9] ^ 1]) + data[10:]
        for changed in (b"", data[:-2], data + b"\0", flipped, None):
            path.unlink() if changed is None else path.write_bytes(changed)
            with pytest.raises(CheckpointError):
                load_encoded(out)
        path.write_bytes(data)
    load_encoded(out)


def test_a_damaged_header_with_right_checksums_is_refused(out: Path) -> None:
    header = json.loads((out / "corpus.json").read_text("utf-8"))
    changes: list[dict[str, Any]] = [
        *({"format": 1}, {"dtype": "|O"}, {"dtype": "<u4"}, {"unit": []}, {"sources": 5}),
        *({"train": {}}, {"train": []}, {"tokenizer_fingerprint": "x"}),
        *({"train": header["train"] | {"tokens": tokens}} for tokens in (-1, 10**15, 1.5)),
    ]
    for damaged in (3, {}, *(header | change for change in changes)):
        tampered(out, "corpus.json", damaged)
        with pytest.raises(CheckpointError):
            load_encoded(out)
            pytest.fail(f"{damaged} is read")
    tampered(out, "corpus.json", header)
    load_encoded(out)


def test_an_id_outside_the_vocabulary_is_refused(out: Path) -> None:
    ids = np.fromfile(out / "tokens.bin", "<u2")
    ids[-1] = 60_000
    ids.tofile(out / "tokens.bin")
    tampered(out, "tokenizer.json", None)
    with pytest.raises(CheckpointError, match="outside"):
        load_encoded(out)


def test_files_of_two_tokenizers_are_not_mixed(text: Path, tmp_path: Path, out: Path) -> None:
    tokenize([text], TokenizerConfig(unit="document"), out=tmp_path / "other")
    for file in ("vocabulary.json", "tokenizer.json"):
        shutil.copy(tmp_path / "other" / file, out / file)
    with pytest.raises(CheckpointError):
        load_encoded(out)
    tampered(out, "corpus.json", None)
    with pytest.raises(CheckpointError, match="another tokenizer"):
        load_encoded(out)


# Memory

ENDLESS_LINE = """
import re, sys
import sentencepiece
from textgen.config import TokenizerConfig
from textgen.data.encoded import tokenize
from textgen.tokenizers import subword
subword._SAMPLE_CHARACTERS = 2**20  # learning takes most of the time
for level in ("char", "word", "subword"):
    tokenize([sys.argv[1]], TokenizerConfig(level=level), out=f"{sys.argv[2]}/{level}")
# Unlike ru_maxrss, this does not include the memory of the parent process.
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_endless_line_is_tokenized_in_bounded_memory(tmp_path: Path) -> None:
    line = "0123456789,abcdefghijk"
    (tmp_path / "long").write_text(line * 200_000 + " the end\n")
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS_LINE, tmp_path / "long", tmp_path],
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    assert int(done.stdout) < 120_000  # KB
    for level in TOKENIZERS:
        encoded, tokenizer = load_encoded(tmp_path / level)
        assert tokenizer.decode(encoded.train[:2000]).startswith(line * 50)


# What the user is told


def test_what_is_held_out_is_recorded_and_said(text: Path, out: Path, tmp_path: Path) -> None:
    header = load_encoded(out)[0].header
    assert header.held_out_text == "text.txt from line 73 (10.0%)"
    files = [tmp_path / f"{number}.txt" for number in range(7)]
    for path in files:
        path.write_text(TEXT, encoding="utf-8")
    summary = tokenize(files, TokenizerConfig())
    said = held_out_text(summary.held_out, summary.characters)
    assert said.startswith("0.txt from line 73, 1.txt from line 73, ")
    assert said.endswith("and 2 more files (10.0%)")
    summary = tokenize(files, TokenizerConfig(), valid_split="tail")
    assert held_out_text(summary.held_out, summary.characters) == "6.txt from line 25 (10.0%)"


@pytest.mark.parametrize(
    ("text", "level", "notes"),
    [
        (
            "我喜欢语言模型。\n今天天气很好，我们去公园散步吧。\n" * 30,
            "word",
            ["no spaces between"],
        ),
        ("我喜欢语言模型。\n今天天气很好，我们去公园散步吧。\n" * 30, "char", []),
        ("我 喜欢 语言 模型 。\n今天 天气 很 好 。\n" * 30, "word", []),
        ("ฉันชอบแบบจำลองภาษา\n" * 30, "word", ["no spaces between"]),
        ("the cat\n" * 27 + "a dog\n" * 3, "word", ["66.7% .* unknown; --level char or --level"]),
        ("aaa\n" * 27 + "bbb\n" * 3, "char", ["75.0% .* unknown; .*--valid-split or --valid"]),
        ("aaa\n" * 270 + "aaaaaaaab\n" * 12, "char", []),
    ],
)
def test_text_that_the_tokenizer_does_not_fit_is_said(
    text: str, level: str, notes: list[str], tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    config = TokenizerConfig.from_options({"level": level})
    found = tokenize([tmp_path / "text.txt"], config).notes
    assert len(found) == len(notes)
    assert all(re.search(note, each) for note, each in zip(notes, found, strict=True))


@each_level
def test_marks_and_invisible_characters_inside_a_text_are_encoded(
    level: str, tmp_path: Path
) -> None:
    text = "one line\n\ufeffanother line\nzero\u200bwidth and soft\u00adhyphen\n" * 8
    (tmp_path / "text.txt").write_text("\ufeff" + text, encoding="utf-8")
    config = TokenizerConfig.from_options({"level": level, "min_count": 1})
    tokenize([tmp_path / "text.txt"], config, out=tmp_path / "out")
    encoded, tokenizer = load_encoded(tmp_path / "out")
    assert tokenizer.decode(np.concatenate([encoded.train, encoded.valid])) == text
