"""``textgen rerank``: its options, and what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest

from textgen.studies.rerank import view
from textgen.studies.rerank.config import NbestFormat


@pytest.fixture
def nbest(tmp_path: Path) -> Path:
    path = tmp_path / "nbest.txt"
    path.write_text("u1\t-10\t-3\tabc\nu1\t-12\t-2\ta\n", encoding="utf-8")
    return path


def test_the_hypotheses_come_best_first(run: Any, library: Any, nbest: Path) -> None:
    # The stand-in gives each character, and the end, a probability of 1/4.
    ended = run("rerank", "x", nbest, "--format", "transcripts", "--lm-scale", "5")
    assert (ended.code, ended.out) == (0, "a\n")
    assert run("rerank", "x", nbest, "--lm-scale", "0", "--format", "1best").out == "u1 abc\n"
    assert library.calls["scores"]["jobs"] == 1


def test_every_layout_is_a_choice() -> None:
    assert list(view.FORMATS) == list(get_args(NbestFormat))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "table"], "--format must be one of nbest, 1best"),
        (["--level", "word"], "no such option: --level"),
        (["--weight", "2"], "--weight must lie in [0, 1], got 2"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_read(
    run: Any, library: Any, nbest: Path, arguments: list[str], message: str
) -> None:
    ended = run("rerank", "x", nbest, *arguments)
    assert ended.code == 2 and message in ended.err
    assert not library.calls


def test_a_model_without_probabilities_is_refused(
    run: Any, library: Any, nbest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = library.load
    monkeypatch.setattr(library, "load", load)
    model = load("x")
    monkeypatch.setattr(type(model), "is_causal", False)
    ended = run("rerank", "x", nbest)
    assert ended.code == 2 and "rerank needs probabilities" in ended.err
    assert dataclasses.is_dataclass(ended)
