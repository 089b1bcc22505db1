"""A checkpoint on a page: model, text, training with its curve, figures, versions."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from textgen.config import Config, ModelConfig, TokenizerConfig, TrainingConfig
from textgen.presentation.console import shown
from textgen.presentation.numbers import count, duration, rounded, size
from textgen.presentation.tables import Fact, facts, section, validation_facts
from textgen.presentation.terminal_plot import Curve, plot
from textgen.results import CheckpointInfo

_WIDEST_PLOT, _PLOT_ROWS = 90, 8
_ONLY_AT_LEVEL = {"split": "word", "subword_model": "subword"}
_FORMATS: Mapping[str, Callable[[float], str]] = {
    "step": lambda value: f"{rounded(value)} steps",
    "tokens_seen": lambda value: f"{rounded(value)} tokens",
    "seconds": duration,
    "tokens_per_second": lambda value: f"{rounded(value)} tokens per second",
}


def checkpoint_info(info: CheckpointInfo, width: int) -> RenderableType:
    """The page, for a terminal of this width."""
    config = info.config
    parts = [
        section(shown(info.path), facts(_model(info))),
        section("Tokens", facts(_tokens(config.get("tokenizer", {})))),
        section("Text", facts(_text(info.corpus))),
        section("Training", facts(_training(config))),
    ]
    if info.validation is not None:
        title = f"Validation at step {count(info.validation.step)}"
        parts.append(section(title, facts(validation_facts(info.validation))))
    learned = [(float(step), loss) for step, loss in info.training_curve]
    held_out = [(float(each.step), each.loss) for each in info.curve]
    if len(learned) + len(held_out) >= 3:
        curves = [Curve("training", learned, "faint"), Curve("validation", held_out, "accent")]
        curve = plot(curves, min(width, _WIDEST_PLOT) - 2, _PLOT_ROWS)
        if curve:
            parts.append(section("Loss", curve))
    versions = " · ".join(f"{name} {version}" for name, version in info.versions.items())
    parts.append(section("Made with", Text(shown(versions), style="label")))
    return Group(*parts)


def _model(info: CheckpointInfo) -> list[Fact]:
    model, begun = info.config.get("model", {}), info.config.get("init_from")
    origin = ""
    if begun:
        weights = str(begun.get("weights_sha256", ""))[:16]
        origin = f"{begun.get('path')}, step {begun.get('step')}, weights {weights}"
    return [
        ("parameters", f"{count(info.parameters)}, {size(info.bytes)} on disk"),
        ("vocabulary", _setting(model.get("vocabulary_size"))),
        *_options(ModelConfig, model),
        ("fine-tuned from", origin),
    ]


def _tokens(tokenizer: Mapping[str, Any]) -> list[Fact]:
    level = tokenizer.get("level")
    apt = {
        name: value for name, value in tokenizer.items() if _ONLY_AT_LEVEL.get(name, level) == level
    }
    return _options(TokenizerConfig, apt)


def _text(corpus: Mapping[str, Any]) -> list[Fact]:
    """Where the text came from and how much of it there was, part by part."""
    pairs: list[Fact] = [("from", _setting(corpus.get("sources", "")))]
    for name, part in (("learned from", corpus.get("train")), ("held out", corpus.get("valid"))):
        if isinstance(part, dict):
            counts = [f"{count(part[key])} {key}" for key in part if isinstance(part[key], int)]
            pairs.append((name, ", ".join(counts)))
    pairs.append(("fingerprint", str(corpus.get("fingerprint", ""))[:16]))
    return pairs


def _training(config: Mapping[str, Any]) -> list[Fact]:
    progress = config.get("progress", {})
    done = [
        written(progress[name])
        for name, written in _FORMATS.items()
        if isinstance(progress.get(name), int | float) and math.isfinite(progress[name])
    ]
    machine = [
        f"{name} {_setting(value)}"
        for name, value in config.get("machine", {}).items()
        if isinstance(value, str | int | float)
    ]
    return [
        ("so far", ", ".join(done)),
        ("machine", ", ".join(machine)),
        *_options(TrainingConfig, config.get("training", {})),
    ]


def _options(config: type[Config], values: Mapping[str, Any]) -> list[Fact]:
    """The settings that are options, by their names on the command line."""
    fields = dataclasses.fields(config)  # type: ignore[arg-type]
    names = [spec.name for spec in fields if "help" in spec.metadata]
    return [(name.replace("_", "-"), _setting(values.get(name))) for name in names]


def _setting(value: Any) -> str:
    """A setting for people; nothing for what was left open."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_setting(item) for item in value)
    return str(value)
