"""``textgen rerank``: its options, what it refuses, and exactly what it writes."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from textgen.presentation.console import show
from textgen.studies.rerank.command import (
    LINES,
    tuning_record,
    tuning_summary,
)
from textgen.studies.rerank.config import RerankingConfig
from textgen.studies.rerank.nbest import Hypothesis
from textgen.studies.rerank.reranking import RankedHypothesis, RankedUtterance
from textgen.studies.rerank.tuning import TuningResult


@pytest.fixture
def nbest(tmp_path: Path) -> Path:
    path = tmp_path / "nbest.txt"
    path.write_text("u1\t-10\t-3\ta\x1bc\nu1\t-12\t-2\ta\n", encoding="utf-8")
    return path


def test_the_hypotheses_come_best_first(run: Any, library: Any, nbest: Path) -> None:
    # The stand-in gives each character, and the end, a probability of 1/4.
    ended = run("rerank", "x", nbest, "--format", "transcripts", "--lm-scale", "5")
    assert (ended.code, ended.out) == (0, "a\n")
    assert run("rerank", "x", nbest, "--lm-scale", "0", "--format", "1best").out == "u1 a\x1bc\n"
    assert library.calls["scores"]["jobs"] == 1
    record = json.loads(run("rerank", "x", nbest, "--format", "json").out)
    best, _ = record["hypotheses"]
    log_prob = 4 * math.log(1 / 4)
    lm = (log_prob - 3) / 2
    given = {"id": "u1", "text": "a\x1bc", "acoustic": -10, "old_lm": -3, "words": 1}
    assert record["utterance"] == "u1"
    assert best == given | {"log_prob": log_prob, "lm": lm, "total": lm - 10}


def test_a_hypothesis_cannot_drive_a_terminal(
    run: Any, library: Any, nbest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    lines = run("rerank", "x", nbest, "--lm-scale", "0").out.splitlines()
    assert lines[0].startswith("u1\t-10.0\t") and lines[0].endswith("\ta\\x1bc")


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
    monkeypatch.setattr(type(library.load("x")), "is_causal", False)
    ended = run("rerank", "x", nbest)
    assert ended.code == 2 and "rerank needs probabilities" in ended.err


def ranked(*hypotheses: RankedHypothesis) -> RankedUtterance:
    return RankedUtterance("u1", hypotheses)


TWO_SCORES = ranked(
    RankedHypothesis(Hypothesis("u1-2", "the cat", -3.25, -4.0), -2.0, -3.0, -0.1),
    RankedHypothesis(Hypothesis("u1-1", "", -1e-9, -5.0), -2.0, -3.5, -7.0),
)
ONE_SCORE = ranked(RankedHypothesis(Hypothesis("u1", "the cat", -3.25), -2.0, -2.0, 1 / 3))
NO_SCORE = ranked(
    RankedHypothesis(Hypothesis("u1-2", "the  cat"), -2.0, -2.0, -2.0),
    RankedHypothesis(Hypothesis("u1-1", ""), -3.0, -3.0, -3.0),
)


@pytest.mark.parametrize(
    ("form", "utterance", "lines"),
    [
        ("nbest", TWO_SCORES, ["u1-2\t-3.25\t-3.0\tthe cat", "u1-1\t-1e-09\t-3.5\t"]),
        ("nbest", ONE_SCORE, ["u1\t0.3333333333333333\tthe cat"]),
        ("nbest", NO_SCORE, ["u1-2 the  cat", "u1-1"]),
        ("1best", TWO_SCORES, ["u1 the cat"]),
        ("1best", ranked(TWO_SCORES.hypotheses[1]), ["u1"]),
        ("transcripts", NO_SCORE, ["the  cat"]),
        ("transcripts", ranked(NO_SCORE.hypotheses[1]), [""]),
    ],
)
def test_lines_are_as_recognizers_tools_read_them(
    form: str, utterance: RankedUtterance, lines: list[str]
) -> None:
    assert list(LINES[form](utterance)) == lines


def test_tuned_weights_come_with_the_command_to_type_and_have_one_record(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = TuningResult(RerankingConfig(0.65, 12.5, -0.25), 0.25, 0.2, 1200, 100)
    show(*tuning_summary(result, "'a model'", "n.txt"))
    out = capsys.readouterr().out
    options = "--weight 0.65 --lm-scale 12.5 --length-penalty -0.25"
    assert f"  textgen rerank 'a model' n.txt {options}\n" in out
    assert "20.0 %, before 25.0 %" in out
    assert "of 1,200 words in 100 utterances" in out
    weights = {"weight": 0.65, "lm_scale": 12.5, "length_penalty": -0.25}
    errors = {"wer_before": 0.25, "wer_after": 0.2, "words": 1200, "utterances": 100}
    assert tuning_record(result) == {"tuning": weights | errors}
