"""What the export to ONNX refuses; tests/integrations/test_onnx.py computes its graphs."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from textgen import LanguageModel, train
from textgen.errors import UsageError
from textgen.exports import onnx


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ngram", {"order": 2}),
        ("hmm", {"states": 4}),
        ("feedforward", {"hidden_size": 8}),
        ("bidirectional", {"hidden_size": 8}),
        ("lstm+ngram", {"hidden_size": 8, "order": 2}),
    ],
)
def test_another_kind_is_refused_by_name(
    tmp_path: Path, kind: str, options: dict[str, int]
) -> None:
    model = trained(tmp_path, model=kind, **options)
    with pytest.raises(
        UsageError, match=rf"--to onnx .*--model {re.escape(kind)} .*lstm, gru or rnn"
    ):
        onnx.write(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(tmp_path, model="gru", hidden_size=8)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"--to onnx needs the package onnx.*\[onnx\]"):
        onnx.write(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def trained(folder: Path, **options: Any) -> LanguageModel:
    text = folder / "text.txt"
    text.write_text("a cat saw a dog\n" * 40)
    if options["model"] != "ngram":
        options |= {"steps": 1, "batch_size": 2}
    train(text, out=folder / "run", baseline=False, **options)
    return LanguageModel.load(folder / "run", device="cpu")
