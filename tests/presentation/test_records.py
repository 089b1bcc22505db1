"""JSON lines that any reader takes."""

from __future__ import annotations

import json
import math

import pytest

from textgen.checkpoint import validation_json, without_pseudo_names
from textgen.presentation.records import (
    emit_record,
    score_record,
    training_record,
    validation_record,
)
from textgen.presentation.tables import validation_facts
from textgen.results import SentenceScore, TrainingResult, Validation
from textgen.storage import from_json


def test_what_has_no_json_is_null_and_the_rest_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    score = SentenceScore(-1e30, 1, 1, -1e30, line=1, text="é\n")
    emit_record(score_record(score))
    emit_record({"third": 1 / 3})
    first, second = capsys.readouterr().out.splitlines()
    record = json.loads(first, parse_constant=pytest.fail)
    assert record["log_prob"] == -1e30
    assert record["perplexity"] is None
    assert record["bits_per_character"] is None
    assert record["text"] == "é\n"
    assert json.loads(second)["third"] == 1 / 3


def test_a_run_stopped_before_its_first_validation_has_none() -> None:
    result = TrainingResult("x", 1, 2, 3.0, 4.0, 5, None, None, math.log(6), interrupted=2)
    record = training_record(result)
    assert record["validation"] is None
    assert record["interrupted"] == 2


def test_a_pseudo_loss_is_never_called_a_loss() -> None:
    pseudo = Validation(loss=1.0, tokens=10, characters=10, step=3, seconds=2.0, pseudo=True)
    assert list(validation_record(pseudo)) == ["pseudo_loss", "pseudo_perplexity", "tokens"]
    written = validation_json(pseudo)
    assert not {"loss", "perplexity", "bits_per_character"} & written.keys()
    read = without_pseudo_names(written | {"step": 3, "seconds": 2.0})
    assert from_json(Validation, read) == pseudo
    names = [name for name, _ in validation_facts(pseudo)]
    assert names == ["validation pseudo-loss", "pseudo-perplexity"]
