"""Options that belong together, by a name."""

from pathlib import Path

import pytest

from textgen import LanguageModel, plan, train
from textgen.config import (
    PRESETS,
    ModelConfig,
    TokenizerConfig,
    TrainingConfig,
    check_options,
    with_preset,
)
from textgen.errors import UsageError
from textgen.models import count_parameters


@pytest.mark.parametrize("name", PRESETS)
def test_the_options_of_a_preset_are_options(name: str) -> None:
    for config in (TokenizerConfig, ModelConfig, TrainingConfig):
        config.from_options(PRESETS[name])
    check_options(PRESETS[name], TokenizerConfig, ModelConfig, TrainingConfig)


def test_the_textbook_model_is_two_layers_over_ten_thousand_words() -> None:
    shape = ModelConfig.from_options(PRESETS["textbook"]).resolved(10_000)
    layers = 4 * 256 * (200 + 256 + 2) + 4 * 128 * (256 + 128 + 2)
    assert count_parameters(shape) == 10_000 * 200 + layers + 10_000 * (128 + 1)


def test_an_option_given_by_hand_wins() -> None:
    options = with_preset({"hidden_size": (8,), "embedding_size": None}, "textbook")
    assert options["hidden_size"] == (8,)
    assert options["embedding_size"] == 200
    assert with_preset({"steps": 5}, None) == {"steps": 5}


def test_an_unknown_preset_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(UsageError, match=r"--preset must be one of textbook.*mean textbook\?"):
        plan(preset="text-book")


def test_a_run_with_a_preset_goes_on_without_its_name(tmp_path: Path) -> None:
    text, run = tmp_path / "text.txt", tmp_path / "run"
    text.write_text("the cat sat on the mat.\n" * 40)
    small = {"batch_size": 2, "sequence_length": 8, "hidden_size": (6, 4)}
    train(text, out=run, preset="textbook", steps=2, **small)
    train(out=run, resume=True, steps=3)
    model = LanguageModel.load(run / "last")
    assert model.header.step == 3
    assert model.tokenizer.config.level == "word"
    assert model.tokenizer.config.vocab_size == 10_000
    assert (model.header.model.hidden_size, model.header.model.embedding_size) == ((6, 4), 200)
