"""``textgen pairs``: its options, and the names of its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from textgen.studies.pairs import view
from textgen.studies.pairs.command import PairsFormat


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text("a b\tb a c\n", encoding="utf-8")
    return path


def test_the_more_probable_of_two_sentences_is_counted(run: Any, library: Any, file: Path) -> None:
    # The stand-in gives each character, and the end, a probability of 1/4.
    ended = run("pairs", "x", file, "--format", "json", "--jobs", "2")
    pair, total = (json.loads(line) for line in ended.out.splitlines())
    assert pair["log_prob_good"] > pair["log_prob_bad"]
    assert total["total"]["right"] == 1
    assert library.calls["scores"]["jobs"] == 2


def test_every_layout_is_a_choice() -> None:
    assert list(view.FORMATS) == list(get_args(PairsFormat))


def test_figures_of_a_model_without_probabilities_are_named_pseudo(
    run: Any, library: Any, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setattr(type(library.load("x")), "is_causal", False)
    out = run("pairs", "x", file, "--format", "json").out
    assert "pseudo_log_prob_good" in json.loads(out.splitlines()[0])
    assert "likelier" not in run("pairs", "x", file).out


def test_an_option_of_score_is_no_option_here(run: Any, library: Any, file: Path) -> None:
    ended = run("pairs", "x", file, "--log-base", "2")
    assert ended.code == 2 and "no such option: --log-base" in ended.err
    assert not library.calls
