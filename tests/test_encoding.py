"""Corpora as ids on disk: what is written, what is read back, what is refused."""

import functools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen import storage
from textgen.config import TokenizerConfig
from textgen.data.corpus import Corpus
from textgen.data.encoded import encode_corpus, is_encoded, load_encoded, summarize, tokenize
from textgen.data.text import cut
from textgen.errors import CheckpointError, LockedError, ResourceError, TextgenError, UsageError
from textgen.storage.manifest import write_manifest
from textgen.tokenizers.base import EOS
from textgen.tokenizers.registry import (
    learn_tokenizer,
    load_tokenizer,
    load_tokenizer_from,
    save_tokenizer,
)

TEXT = "the cat sat, the dog\nran.\n\nthe cat ran. é\n" * 20
LEVELS = ("char", "word", "subword")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8", newline="")
    return path


def tampered(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON file of a folder and make every checksum fit again."""
    path = folder / name
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), "utf-8")
    (folder / storage.MANIFEST).unlink()
    write_manifest(folder)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("unit", ["line", "paragraph", "document"])
def test_what_was_written_is_read_back(text: Path, tmp_path: Path, level: str, unit: str) -> None:
    out = tmp_path / "out"
    config = TokenizerConfig.from_options({"level": level, "unit": unit, "min_count": 1})
    summary = tokenize([text], config, out=out)
    encoded, tokenizer = load_encoded(out)
    header = encoded.header
    assert tokenizer.config == config
    ids = np.concatenate([encoded.train, encoded.valid])
    end = tokenizer.terminator
    assert tokenizer.decode(ids) == TEXT + ("\n" if unit == "paragraph" else "")
    assert encoded.train.dtype == np.dtype("<u2")
    assert header.train.sentences + header.valid.sentences == summary.sentences
    assert np.count_nonzero(ids == EOS) == summary.sentences
    if end:
        assert summary.sentences == (TEXT + "\n").count(end) - (unit == "line")
    else:
        assert summary.sentences == 1
    assert header.boundary == header.train.characters == summary.train_characters
    assert summary.tokens == len(ids)
    assert summary.fingerprint == tokenizer.fingerprint == header.tokenizer_fingerprint
    assert header.fingerprint == Corpus.open([text], unit=config.unit).fingerprint


def test_a_temporary_file_holds_the_same_ids(text: Path, tmp_path: Path) -> None:
    corpus = Corpus.open([text])
    tokenizer = learn_tokenizer(TokenizerConfig(), corpus.train())
    kept = encode_corpus(corpus, tokenizer, tmp_path / "out")
    passing = encode_corpus(corpus, tokenizer)
    assert np.array_equal(kept.train, passing.train)
    assert np.array_equal(kept.valid, passing.valid)
    assert kept.header == passing.header
    assert summarize(kept, tokenizer) == summarize(passing, tokenizer)


def test_the_ids_outlive_the_corpus_that_maps_them(text: Path) -> None:
    corpus = Corpus.open([text])
    tokenizer = learn_tokenizer(TokenizerConfig(), corpus.train())
    train = encode_corpus(corpus, tokenizer).train
    assert tokenizer.decode(train[:7]) == "the cat"


def test_the_tokenizer_is_learned_from_the_training_part_alone(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("aaaa\n" * 9 + "zzzz\n")
    summary = tokenize([path], TokenizerConfig())
    assert summary.vocabulary_size == 3
    assert summary.unknown_rate == 4 / 5
    assert summary.most_frequent == (("a", 36), ("<EOS>", 9))
    assert summary.characters_per_token == 1.0
    assert (summary.tokens, summary.train_tokens, summary.valid_tokens) == (50, 45, 5)


def test_a_large_vocabulary_takes_four_bytes_a_token(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("".join(f"w{number}\n" for number in range(70_000)))
    config = TokenizerConfig(level="word", min_count=1)
    tokenize([path], config, out=tmp_path / "out", valid_fraction=0.01)
    encoded, tokenizer = load_encoded(tmp_path / "out")
    assert encoded.train.dtype == np.dtype("<u4")
    assert tokenizer.vocabulary_size > 2**16
    assert tokenizer.decode(encoded.train[-2:]) == "w69315\n"


@pytest.mark.parametrize("level", LEVELS)
def test_pieces_however_small_give_the_same_ids(
    text: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TokenizerConfig.from_options({"level": level, "min_count": 1})
    corpus = Corpus.open([text])
    tokenizer = learn_tokenizer(config, corpus.train())
    expected = encode_corpus(corpus, tokenizer).train.tolist()
    monkeypatch.setattr("textgen.data.corpus.cut", functools.partial(cut, largest=8))
    assert max(len(text) for text, _ in corpus.train()) <= 8
    assert encode_corpus(corpus, tokenizer).train.tolist() == expected


def test_a_tokenizer_of_another_unit_is_refused(text: Path) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(unit="paragraph"), [(TEXT, False)])
    with pytest.raises(UsageError, match="--unit paragraph"):
        encode_corpus(Corpus.open([text]), tokenizer)


# Folders


def test_a_folder_that_holds_something_is_not_replaced_unasked(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = tokenize([text], TokenizerConfig(), out=out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UsageError, match="--overwrite"):
        tokenize([text], TokenizerConfig(level="word"), out=out)
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}
    second = tokenize([text], TokenizerConfig(level="word"), out=out, overwrite=True)
    assert load_tokenizer_from(out).fingerprint == second.fingerprint != first.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "text.txt"]


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


def test_a_run_that_fails_leaves_nothing_and_harms_nothing(text: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(TextgenError):
        tokenize([bad], TokenizerConfig(), out=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "text.txt"]


def test_the_second_of_two_runs_into_one_folder_is_turned_away(text: Path, tmp_path: Path) -> None:
    with storage.locked(tmp_path / "out.lock"), pytest.raises(LockedError):
        tokenize([text], TokenizerConfig(), out=tmp_path / "out")
    tokenize([text], TokenizerConfig(), out=tmp_path / "out")


def test_a_full_disk_is_a_resource_error(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("textgen.data.encoded._write_ids", full)
    for out in (None, text.parent / "out"):
        with pytest.raises(ResourceError, match="No space"):
            tokenize([text], TokenizerConfig(), out=out)
    assert sorted(path.name for path in text.parent.iterdir()) == ["text.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_temporary_folder_is_named_though_closing_fails_too(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", functools.partial(open, "/dev/full", "wb"))
    with pytest.raises(ResourceError, match="No space left") as refused:
        tokenize([text], TokenizerConfig())
    assert tempfile.gettempdir() in str(refused.value)
    with text.open(encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(ResourceError, match="No space left"):
            tokenize(["-"], TokenizerConfig())


def test_a_tokenizer_is_found_in_every_folder_that_has_one(text: Path, tmp_path: Path) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(), [(TEXT, False)])
    other = learn_tokenizer(TokenizerConfig(level="word"), [(TEXT, False)])
    run = tmp_path / "run"
    with storage.new_folder(run / "last") as folder:
        save_tokenizer(tokenizer, folder)
    for path in (run, run / "last", str(run)):
        assert load_tokenizer_from(path).fingerprint == tokenizer.fingerprint
    (run / "last").rename(run / "last.old")
    assert load_tokenizer_from(run).fingerprint == tokenizer.fingerprint
    with storage.new_folder(run / "best") as folder:
        save_tokenizer(other, folder)
    assert load_tokenizer_from(run).fingerprint == other.fingerprint
    with pytest.raises(ResourceError):
        load_tokenizer_from(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        load_tokenizer_from(tmp_path / "empty")
    with pytest.raises(CheckpointError):
        load_tokenizer_from(text)


# Damage


@pytest.mark.parametrize("level", LEVELS)
def test_every_changed_byte_is_noticed(text: Path, tmp_path: Path, level: str) -> None:
    out = tmp_path / "out"
    tokenize([text], TokenizerConfig.from_options({"level": level}), out=out)
    for path in sorted(out.iterdir()):
        data = path.read_bytes()
        flipped = data[:9] + bytes([data[9] ^ 1]) + data[10:]
        for changed in (b"", data[:-2], data + b"\0", flipped):
            path.write_bytes(changed)
            with pytest.raises(CheckpointError):
                load_encoded(out)
        path.unlink()
        with pytest.raises(CheckpointError):
            load_encoded(out)
        path.write_bytes(data)
    load_encoded(out)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokenizer.json", lambda value: []),
        ("tokenizer.json", lambda value: {**value, "format": 99}),
        ("tokenizer.json", lambda value: {**value, "fingerprint": "0" * 64}),
        ("tokenizer.json", lambda value: {**value, "config": None}),
        ("tokenizer.json", lambda value: {**value, "config": {"level": ["char"]}}),
        ("tokenizer.json", lambda value: {**value, "config": {"level": "telepathic"}}),
        ("tokenizer.json", lambda value: {**value, "config": {"vocab_size": "many"}}),
        ("tokenizer.json", lambda value: {**value, "config": {"unk_literal": 5}}),
        ("tokenizer.json", lambda value: {**value, "config": {"unk_literal": "a b"}}),
        ("tokenizer.json", lambda value: {**value, "config": {"level": "word"}}),
        ("tokenizer.json", lambda value: {**value, "config": {"level": "subword"}}),
        ("vocabulary.json", lambda value: {**value, "symbols": "abc"}),
        ("vocabulary.json", lambda value: {**value, "symbols": ["a", "a"]}),
        ("vocabulary.json", lambda value: {**value, "symbols": ["ab"]}),
        ("vocabulary.json", lambda value: {**value, "symbols": [""]}),
        ("vocabulary.json", lambda value: {**value, "symbols": ["\ud800"]}),
        ("vocabulary.json", lambda value: {**value, "symbols": [1]}),
        ("vocabulary.json", lambda value: {**value, "symbols": value["symbols"][:-1]}),
        ("vocabulary.json", lambda value: {**value, "format": True}),
        ("corpus.json", lambda value: 3),
        ("corpus.json", lambda value: {**value, "dtype": "|O"}),
        ("corpus.json", lambda value: {**value, "dtype": "<u4"}),
        ("corpus.json", lambda value: {**value, "unit": []}),
        ("corpus.json", lambda value: {**value, "train": {}}),
        ("corpus.json", lambda value: {**value, "train": {**value["train"], "tokens": -1}}),
        ("corpus.json", lambda value: {**value, "train": {**value["train"], "tokens": 10**15}}),
        ("corpus.json", lambda value: {**value, "train": {**value["train"], "tokens": 1.5}}),
        ("corpus.json", lambda value: {**value, "sources": 5}),
        ("corpus.json", lambda value: {**value, "tokenizer_fingerprint": "x"}),
        ("corpus.json", lambda value: {}),
    ],
)
def test_hostile_contents_with_right_checksums_are_refused(
    text: Path, tmp_path: Path, name: str, change: Callable[[Any], Any]
) -> None:
    out = tmp_path / "out"
    tokenize([text], TokenizerConfig(), out=out)
    tampered(out, name, change)
    with pytest.raises(CheckpointError):
        load_encoded(out)


def test_an_id_outside_the_vocabulary_is_refused(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tokenize([text], TokenizerConfig(), out=out)
    ids = np.fromfile(out / "tokens.bin", "<u2")
    ids[-1] = 60_000
    ids.tofile(out / "tokens.bin")
    tampered(out, "tokenizer.json", lambda value: value)
    with pytest.raises(CheckpointError, match="outside"):
        load_encoded(out)


def test_files_of_two_tokenizers_are_not_mixed(text: Path, tmp_path: Path) -> None:
    for name, unit in (("one", "line"), ("two", "document")):
        tokenize([text], TokenizerConfig.from_options({"unit": unit}), out=tmp_path / name)
    for file in ("vocabulary.json", "tokenizer.json"):
        shutil.copy(tmp_path / "two" / file, tmp_path / "one" / file)
    with pytest.raises(CheckpointError):
        load_encoded(tmp_path / "one")
    tampered(tmp_path / "one", "corpus.json", lambda value: value)
    with pytest.raises(CheckpointError, match="another tokenizer"):
        load_encoded(tmp_path / "one")


def test_a_tokenizer_without_its_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_tokenizer({})
    for level in LEVELS:
        tokenizer = learn_tokenizer(TokenizerConfig.from_options({"level": level}), [(TEXT, False)])
        save_tokenizer(tokenizer, tmp_path)
        with pytest.raises(CheckpointError):
            load_tokenizer({"tokenizer.json": tmp_path / "tokenizer.json"})
        files = {path.name: path for path in tmp_path.iterdir()}
        assert load_tokenizer(files).fingerprint == tokenizer.fingerprint


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("level", LEVELS)
def test_one_endless_line_is_tokenized_in_bounded_memory(tmp_path: Path, level: str) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"0123456789,abcdefghijk" * 500_000 + b" the end\n")
    code = (
        "import re, sys\n"
        "from textgen.config import TokenizerConfig\n"
        "from textgen.data.encoded import tokenize\n"
        "import sentencepiece\n"
        "tokenize([sys.argv[1]], TokenizerConfig(level=sys.argv[2]), out=sys.argv[3])\n"
        # Unlike ru_maxrss, this starts anew with the program, whatever its parent held.
        "print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), level, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert int(done.stdout) < 300_000  # KB
    encoded, tokenizer = load_encoded(tmp_path / "out")
    expected = "0123456789,abcdefghijk" * 50
    assert tokenizer.decode(encoded.train[:2000]).startswith(expected)


def test_tokenize_imports_no_torch(text: Path) -> None:
    code = (
        "import sys\n"
        "from textgen.config import TokenizerConfig\n"
        "from textgen.data.encoded import tokenize\n"
        "for level in ('char', 'word', 'subword'):\n"
        "    tokenize([sys.argv[1]], TokenizerConfig(level=level))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(text)], check=True)
