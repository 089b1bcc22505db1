"""Weights that are finite and so large that no logit is: an error, never a figure or a text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from textgen import storage


@pytest.fixture(scope="module")
def huge(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("huge") / "best"
    shutil.copytree(trained / "best", folder)
    weights = load_file(folder / "model.safetensors")
    large = {name: each.sign() * 3e38 for name, each in weights.items()}
    save_file(
        {name: each.contiguous() for name, each in large.items()}, folder / "model.safetensors"
    )
    (folder / storage.MANIFEST).unlink()
    storage.write_manifest(folder)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "MODEL", "--text", "The king"),
        ("score", "MODEL", "--text", "The king", "--format", "json", "--level", "word"),
        ("sample", "MODEL", "--length", "5"),
        ("sample", "MODEL", "--length", "5", "--count", "3", "--top-k", "3"),
        ("sample", "MODEL", "--length", "5", "--beams", "2"),
        ("predict", "MODEL", "The"),
        ("predict", "MODEL", "The", "--words"),
        ("predict", "MODEL", "The ____ sees"),
        ("pairs", "MODEL", "FOLDER/pairs"),
        ("rerank", "MODEL", "FOLDER/nbest"),
        ("plot", "memory", "MODEL", "--what", "context"),
    ],
)
def test_it_is_an_error(typed: Any, huge: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    pair = {"sentence_good": "The king sees the moon.", "sentence_bad": "The king see the moon."}
    (tmp_path / "pairs").write_text(json.dumps(pair) + "\n", encoding="utf-8")
    (tmp_path / "nbest").write_text("a The king\na The fool\n", encoding="utf-8")
    for name, place in {"MODEL": huge, "FOLDER": tmp_path}.items():
        arguments = tuple(each.replace(name, str(place)) for each in arguments)
    ended = typed(*arguments, code=3)
    assert "error: the model gives no probabilities: " in ended.err
    assert not ended.out.strip() or ended.out.startswith("line  text")


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("count", ["1", "3"])
def test_compiled_code_does_not_write_such_a_text(typed: Any, huge: Path, count: str) -> None:
    ended = typed("sample", huge, "--length", "5", "--count", count, code=3)
    assert "error: the model gives no probabilities: " in ended.err
