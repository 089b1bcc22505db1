"""Reranked lists, exactly as they are written."""

import io
import json
import sys

import pytest

from textgen.presentation.console import show
from textgen.studies.rerank.config import RerankingConfig
from textgen.studies.rerank.results import (
    Hypothesis,
    RankedHypothesis,
    RankedUtterance,
    TuningResult,
)
from textgen.studies.rerank.view import FORMATS, tuning_record, tuning_summary


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
    ("form", "utterance", "text"),
    [
        ("nbest", TWO_SCORES, "u1-2\t-3.25\t-3.0\tthe cat\nu1-1\t-1e-09\t-3.5\t\n"),
        ("nbest", ONE_SCORE, "u1\t0.3333333333333333\tthe cat\n"),
        ("nbest", NO_SCORE, "u1-2 the  cat\nu1-1\n"),
        ("1best", TWO_SCORES, "u1 the cat\n"),
        ("1best", ranked(TWO_SCORES.hypotheses[1]), "u1\n"),
        ("transcripts", NO_SCORE, "the  cat\n"),
        ("transcripts", ranked(NO_SCORE.hypotheses[1]), "\n"),
    ],
)
def test_lines_are_as_recognisers_tools_read_them(
    form: str, utterance: RankedUtterance, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    FORMATS[form](utterance)
    assert capsys.readouterr().out == text


def test_json_has_every_score(capsys: pytest.CaptureFixture[str]) -> None:
    FORMATS["json"](TWO_SCORES)
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    assert record["utterance"] == "u1"
    assert record["hypotheses"][0] == {
        "id": "u1-2",
        "text": "the cat",
        "log_prob": -2.0,
        "acoustic": -3.25,
        "old_lm": -4.0,
        "lm": -3.0,
        "words": 2,
        "total": -0.1,
    }


def test_a_hypothesis_cannot_drive_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    hypothesis = Hypothesis("u1", "red \x1b[31m", -1.0, -1.0)
    FORMATS["nbest"](ranked(RankedHypothesis(hypothesis, -1.0, -1.0, -1.0)))
    assert terminal.getvalue() == "u1\t-1.0\t-1.0\tred \\x1b[31m\n"


RESULT = TuningResult(RerankingConfig(0.65, 12.5, -0.25), 0.25, 0.2, 1200, 100)


def test_tuned_weights_come_with_the_options_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    show(tuning_summary(RESULT))
    out = capsys.readouterr().out
    assert "--weight 0.65 --lm-scale 12.5 --length-penalty -0.25\n" in out
    assert "20.0 %, before 25.0 %" in out
    assert "of 1,200 words in 100 utterances" in out


def test_tuned_weights_have_one_record() -> None:
    assert tuning_record(RESULT) == {
        "tuning": {
            "weight": 0.65,
            "lm_scale": 12.5,
            "length_penalty": -0.25,
            "wer_before": 0.25,
            "wer_after": 0.2,
            "words": 1200,
            "utterances": 100,
        }
    }
