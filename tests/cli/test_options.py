"""Options made from configurations: one fact, one place."""

from __future__ import annotations

from typing import Any

import pytest

from textgen.config import (
    Config,
    ModelConfig,
    NoveltyConfig,
    SamplingConfig,
    TokenizerConfig,
    TrainingConfig,
    flag,
)


def test_only_what_was_typed_reaches_the_library(run: Any, library: Any) -> None:
    run("train", "a.txt", "--out", "x", "--hidden-size", "256,128", "--no-tie", "--seed", "1")
    handed = library.calls["train"]
    configured = {
        name
        for config in (TokenizerConfig, ModelConfig, TrainingConfig)
        for name in config.fields()
    }
    assert {name: handed[name] for name in configured & handed.keys()} == {
        "hidden_size": (256, 128),
        "tie": False,
        "seed": 1,
    }


def test_a_command_receives_the_configuration_of_what_was_typed(run: Any, library: Any) -> None:
    run("sample", "x", "--temperature", "0", "--top-k", "5", "--count", "2", "--allow-unk")
    expected = SamplingConfig(temperature=(0.0,), top_k=5, count=2, allow_unk=True)
    assert library.calls["samples"] == {"prompts": [""], "config": expected}


@pytest.mark.parametrize(
    ("command", "configs"),
    [
        ("tokenize", (TokenizerConfig,)),
        ("train", (TokenizerConfig, ModelConfig, TrainingConfig)),
        ("sample", (SamplingConfig, NoveltyConfig)),
    ],
)
def test_every_option_of_a_configuration_is_in_the_help_with_its_text(
    run: Any, monkeypatch: pytest.MonkeyPatch, command: str, configs: tuple[type[Config], ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    words = " ".join(run(command, "--help").out.replace("│", " ").split())
    for config in configs:
        for spec in config.fields().values():
            if "help" in spec.metadata:
                assert f"{flag(spec.name)}" in words
                assert spec.metadata["help"] in words


def test_the_help_shows_choices_and_defaults(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    words = " ".join(run("train", "--help").out.replace("│", " ").split())
    assert "[char, word, subword; default: char]" in words
    assert f"[default: {TrainingConfig().sequence_length}]" in words
    assert "--tie, --no-tie" in words
    assert "--budget TIME" in words
