"""How the models to compare are typed."""

from typing import Any

import pytest

from textgen.config import KINDS, HiddenMarkovConfig
from textgen.config.model import Kind
from textgen.errors import UsageError
from textgen.studies.compare.config import ComparisonConfig, parse_variants


def models(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [(each.name, each.model, each.options) for each in parse_variants(text)]


def test_without_names_there_is_one_model_of_every_kind_in_the_registry_s_order() -> None:
    assert [each.name for each in ComparisonConfig().models] == list(KINDS)


def test_an_option_follows_its_model_and_a_comma_before_a_digit_belongs_to_it() -> None:
    wide = "lstm:hidden-size=256,128:dropout=0.2"
    assert models(f"lstm, {wide},lstm:tie,lstm:no-tie") == [
        ("lstm", "lstm", {}),
        (wide, "lstm", {"hidden_size": (256, 128), "dropout": 0.2}),
        ("lstm:tie", "lstm", {"tie": True}),
        ("lstm:no-tie", "lstm", {"tie": False}),
    ]
    (variant,) = parse_variants("lstm:hidden-size=256,128:no-tie")
    assert variant.folder == "lstm-hidden-size=256,128-no-tie"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("lstn", "did you mean lstm?"),
        ("lstm,lstm", "names lstm twice"),
        ("lstm,", "--models must be one of"),
        ("lstm:hidden=8", "did you mean hidden-size?"),
        ("lstm:budget=8", "--budget is no option of one model"),
        ("lstm:seed=8", "it is the same for all"),
        ("lstm:dropout=much", "--dropout must be a number, got 'much'"),
        ("lstm:dropout=3", "--dropout must lie in"),
        ("lstm:embedding-size=2.5", "--embedding-size must be a whole number"),
        ("lstm:tie=perhaps", "--tie must be yes or no"),
    ],
)
def test_an_unknown_model_or_option_is_named(typed: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        models(typed)
    assert message in str(caught.value)


def test_a_kind_without_a_width_has_no_given_number_of_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(KINDS, "rigid", Kind("no:Where", lambda: HiddenMarkovConfig))
    monkeypatch.setitem(KINDS, "counted", Kind("no:Where", lambda: HiddenMarkovConfig, counts=True))
    named = {each.name for each in ComparisonConfig.from_options({"parameters": 1000}).models}
    assert {"lstm", "counted"} <= named
    assert "rigid" not in named
    with pytest.raises(UsageError, match="cannot be met by rigid"):
        ComparisonConfig.from_options({"models": "lstm,rigid", "parameters": 1000})
    with pytest.raises(UsageError, match="--hidden-size is no option of --model rigid"):
        models("rigid:hidden-size=3")
