"""Results for people, as tables and facts."""

import dataclasses
from typing import Any

import pytest

from textgen.presentation.console import laid_out, out_console
from textgen.presentation.tables import better_models, plan_tables
from textgen.results import NgramBaseline, Plan, PlannedOption, TrainingResult, Validation

RESULT = TrainingResult(
    *("my run", 1, 2, 3.0, 4.0, 5, Validation(1.5, 100, 100), None, 4.0),
    model="lstm",
    same_text=("my text.txt", "--tokenizer", "my run"),
)


@pytest.mark.parametrize(
    ("loss", "gain", "kinds"),
    [
        (1.6, 0.001, []),
        (1.6, None, []),
        (1.4, 0.05, ["ngram"]),  # with which no mixture keeps up
        (1.6, 0.05, ["lstm+ngram"]),
        (1.4, 0.2, ["ngram", "lstm+ngram"]),
    ],
)
def test_a_better_model_is_named_with_its_command(
    loss: float, gain: float | None, kinds: list[str]
) -> None:
    ngram = NgramBaseline(6, loss, 900, 100, mixture_gain=gain)
    lines = [str(each) for each in better_models(dataclasses.replace(RESULT, ngram=ngram), "a b/")]
    assert lines[1::2] == [
        "  textgen train 'my text.txt' --tokenizer 'my run' --out"
        f" 'a b-{kind.replace('+', '-')}' --model {kind}"
        for kind in kinds
    ]
    if "ngram" in kinds:
        assert "6-grams alone predict better than lstm: 1.4000 against 1.5000 nats" in lines[0]


@pytest.mark.parametrize("other", [{"ngram": None}, {"validation": None}, {"model": "ngram"}])
def test_what_was_not_measured_or_is_that_model_is_not_advised(other: dict[str, Any]) -> None:
    ngram = NgramBaseline(6, 1.0, 900, 100)
    assert better_models(dataclasses.replace(RESULT, **({"ngram": ngram} | other)), "a") == []


def test_a_plan_says_that_the_n_grams_are_not_among_the_parameters_yet() -> None:
    sizes: dict[str, Any] = {
        "parameters": 1000,
        "state_bytes": 10,
        "window_bytes": 10,
        "threads": 1,
    }
    run: dict[str, Any] = {"tokens_per_second": 9.0, "tokens": 90.0, "seconds": 10.0, "epochs": 1.0}
    text: dict[str, Any] = {
        "vocabulary_size": 66,
        "train_tokens": 90,
        "device": "cpu",
        "precision": "float32",
    }
    for name, said in (("order", True), ("hidden_size", False)):
        options = (PlannedOption(name, 8, "as given"),)
        shown = laid_out(out_console(), plan_tables(Plan(options, **sizes, **run, **text)))
        assert ("n-grams, which are counted in the run" in shown) == said
