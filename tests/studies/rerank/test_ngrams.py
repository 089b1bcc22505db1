"""N-gram models in files: a small one whose every probability can be read off."""

import bz2
import gzip
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from textgen.errors import DataError, ResourceError, UsageError
from textgen.studies.rerank.mixing import LogProbs, NgramModel, is_ngram_model

ARPA = """
\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-99\t<s>\t-0.3
-1.0\t</s>
-1.5\t<unk>
-0.5\tthe\t-0.2
-0.8\tcat\t-0.1

\\2-grams:
-0.2\t<s> the
-0.3\tthe cat
-0.4\tcat </s>
-0.7\tthe the

\\end\\
"""
MAGIC = b"mmap lm http://kheafield.com/code format version 5\n\0"


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "small.arpa"
    path.write_text(ARPA, encoding="utf-8")
    return path


def log10s(log_probs: LogProbs) -> list[float]:
    return (log_probs / math.log(10)).tolist()


def test_each_word_and_the_end_have_their_natural_log_probability(arpa: Path) -> None:
    pytest.importorskip("kenlm")
    model = NgramModel(arpa)
    assert model.order == 2
    known, backed_off, unknown, empty, spaced = model.words(
        ["the cat", "cat cat", "the dog", "", " the\u00a0\u3000cat\u2003"]
    )
    assert known.dtype == np.float64
    assert log10s(known) == pytest.approx([-0.2, -0.3, -0.4])
    assert log10s(backed_off) == pytest.approx([-0.3 - 0.8, -0.1 - 0.8, -0.4])
    assert log10s(unknown) == pytest.approx([-0.2, -0.2 - 1.5, -1.0])
    assert log10s(empty) == pytest.approx([-0.3 - 1.0])
    assert spaced.tolist() == known.tolist()


def test_nothing_is_said_while_a_model_is_read(
    arpa: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("kenlm")
    NgramModel(arpa)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_packed_arpa_file_is_known(tmp_path: Path, pack: object) -> None:
    path = tmp_path / "packed"
    path.write_bytes(pack(ARPA.encode()))
    assert is_ngram_model(path)


def test_a_binary_is_known_by_its_first_words(tmp_path: Path) -> None:
    path = tmp_path / "binary"
    path.write_bytes(MAGIC)
    assert is_ngram_model(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"the cat\n\\data\\\n",
        b"\\data\\ and more",
        b"\x1f\x8b",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03garbage",
        b"BZhgarbage",
        b"\xfd7zXZgarbage",
        gzip.compress(b"the cat\n", mtime=0),
    ],
)
def test_what_is_no_model_is_told_before_it_is_loaded(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert not is_ngram_model(path)
    with pytest.raises(DataError, match=r"no n-gram model \(.*other\): it begins neither"):
        NgramModel(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"no such file \(.*gone"):
        NgramModel(tmp_path / "gone")
    with pytest.raises(ResourceError, match="cannot read"):
        NgramModel(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (ARPA[:120].encode(), "End of file in the 2-gram"),
        (ARPA.replace("-0.8", "x0.8").encode(), 'Could not parse "x0.8" into a float'),
        (MAGIC.replace(b"5", b"9") + bytes(3000), "Binary file has version 9"),
        (MAGIC + bytes(3000), "the test values don't match"),
    ],
)
def test_a_damaged_model_is_told_in_one_line_without_its_source(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    pytest.importorskip("kenlm")
    path = tmp_path / "damaged (1)"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^damaged n-gram model") as raised:
        NgramModel(path)
    message = str(raised.value)
    assert reason in message
    assert "threw" not in message
    assert ".cc" not in message
    assert "\n" not in message


def test_what_reads_models_is_asked_for_by_name(
    arpa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(UsageError, match=r"kenlm .*small\.arpa.*pip install 'textgen\[kenlm\]'"):
        NgramModel(arpa)
