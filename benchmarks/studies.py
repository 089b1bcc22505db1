"""The settings that ``ablations.py`` tries, and the studies that they belong to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import networks
import techniques as t
import torch
from muon import Muon

from textgen.config import TokenizerConfig
from textgen.models.lstm import LSTMModel


@dataclass(frozen=True)
class Setting:
    """Options of ModelConfig and TrainingConfig, and techniques in addition."""

    options: Mapping[str, Any] = field(default_factory=dict)
    techniques: Callable[[], tuple[t.Technique, ...]] = tuple
    model: type[LSTMModel] = LSTMModel
    schedule: Callable[[float], float] | None = None


@dataclass(frozen=True)
class Study:
    corpus: str
    tokenizer: TokenizerConfig
    steps: int
    base: Mapping[str, Any]
    settings: Mapping[str, Setting]
    tokens: int | None = None  # the first of the training text, for many epochs in a short run


def varied(name: str, *values: Any) -> dict[str, Setting]:
    return {f"{name} {value}": Setting({name: value}) for value in values}


def cosine(progress: float) -> float:
    return 0.5 * (1 + torch.cos(torch.tensor(progress * torch.pi)).item())


def plateau(progress: float) -> float:
    """Constant, then a 1 - sqrt decay over the last 40 % (Haegele et al. 2024)."""
    return 1.0 if progress < 0.6 else 1 - ((progress - 0.6) / 0.4) ** 0.5


CHARACTERS = TokenizerConfig(level="char")
COMMON = (
    varied("learning_rate", 2.5e-3, 3.5e-3, 5e-3, 7e-3, 1e-2, 1.4e-2)
    | varied("weight_decay", 0.0, 0.03, 0.05, 0.2, 0.3)
    | varied("dropout", 0.0, 0.05, 0.15, 0.2, 0.3, 0.4, 0.5)
    | varied("embedding_size", 64, 256)
    | varied("batch_size", 8, 12, 24, 32)
    | varied("sequence_length", 32, 48, 96, 128)
    | varied("clip", 0.25, 4.0)
    | varied("run_windows", 4, 128)
    | varied("unknown_rate", 0.0)
    | varied("hidden_size", (128,), (192,), (256,), (384,), (640,), (768,), (1024,), (512, 512))
    | {
        "betas 0.9 0.95": Setting({"betas": (0.9, 0.95)}),
        "betas 0.9 0.999": Setting({"betas": (0.9, 0.999)}),
        "betas 0.95 0.99": Setting({"betas": (0.95, 0.99)}),
        "betas 0.8 0.99": Setting({"betas": (0.8, 0.99)}),
        "warmup 0.02": Setting({"warmup": 0.02}),
        "warmup 0.1": Setting({"warmup": 0.1}),
        "cosine": Setting(schedule=cosine),
        "plateau, then 1 - sqrt": Setting(schedule=plateau),
        "average 0.99": Setting(techniques=lambda: (t.Average(0.99),)),
        "average 0.998": Setting(techniques=lambda: (t.Average(0.998),)),
        "average 0.998, learning rate 8e-3": Setting(
            {"learning_rate": 8e-3}, lambda: (t.Average(0.998),)
        ),
        "tail average 0.1": Setting(techniques=lambda: (t.TailAverage(0.1),)),
        "weight drop 0.1": Setting(techniques=lambda: (t.WeightDrop(0.1),)),
        "weight drop 0.2": Setting(techniques=lambda: (t.WeightDrop(0.2),)),
        "weight drop 0.4": Setting(techniques=lambda: (t.WeightDrop(0.4),)),
        "embedding drop 0.1": Setting(techniques=lambda: (t.EmbeddingDrop(0.1),)),
        "AR 1e-3, TAR 1e-3": Setting(
            techniques=lambda: (t.ActivationPenalty(1e-3, 1e-3),), model=networks.ObservedLSTM
        ),
        "AR 1e-2, TAR 1e-2": Setting(
            techniques=lambda: (t.ActivationPenalty(1e-2, 1e-2),), model=networks.ObservedLSTM
        ),
        "variable window": Setting(techniques=lambda: (t.VariableWindow(),)),
        "batch from half": Setting(techniques=lambda: (t.BatchGrowth(),)),
        "batch from half to 32": Setting({"batch_size": 32}, lambda: (t.BatchGrowth(),)),
        "Muon per gate 0.01": Setting(techniques=lambda: (Muon(0.01),)),
        "Muon per gate 0.02": Setting(techniques=lambda: (Muon(0.02),)),
        "Muon per gate 0.03": Setting(techniques=lambda: (Muon(0.03),)),
        "Muon per gate 0.02, batch 32": Setting({"batch_size": 32}, lambda: (Muon(0.02),)),
        "Muon per matrix 0.02": Setting(techniques=lambda: (Muon(0.02, whole=True),)),
        "output from 0": Setting(techniques=lambda: (t.ScaledOutput(0.0),)),
        "output from a third": Setting(techniques=lambda: (t.ScaledOutput(0.3),)),
        "embedding from a third": Setting(techniques=lambda: (t.ScaledEmbedding(0.3),)),
        "embedding times 2": Setting(techniques=lambda: (t.ScaledEmbedding(2.0),)),
        "bias learning rate times 4": Setting(techniques=lambda: (t.BiasRate(4.0),)),
        "bias learning rate times 16": Setting(techniques=lambda: (t.BiasRate(16.0),)),
        "forget bias from 0": Setting(techniques=lambda: (t.ForgetBiasFromZero(),)),
        "uniform recurrence": Setting(techniques=lambda: (t.UniformRecurrence(),)),
        "tied": Setting({"tie": True, "embedding_size": None}),
        "weight decay by the learning rate": Setting(techniques=lambda: (t.DecayByRate(),)),
        "window from half": Setting(techniques=lambda: (t.WindowGrowth(),)),
        "temperature": Setting(techniques=lambda: (t.Temperature(),)),
        "16 passes with dropout": Setting(techniques=lambda: (t.DropoutAverage(1.0),)),
        "16 passes with half the dropout": Setting(techniques=lambda: (t.DropoutAverage(0.5),)),
        "smear gate": Setting(model=networks.Smeared),
        "soft cap 15": Setting(model=networks.SoftCapped),
        "soft cap 30": Setting(model=networks.SoftCapped30),
        "Mogrifier": Setting(model=networks.Mogrified),
        "output bias from 0": Setting(techniques=lambda: (t.BiasFromZero(),)),
        "dropout on the output alone": Setting(model=networks.OutputDropout),
        "two layers, residual": Setting({"hidden_size": (512, 512)}, model=networks.Deep),
        "two layers, residual, normalised": Setting(
            {"hidden_size": (512, 512)}, model=networks.DeepNormalised
        ),
        "one layer, normalised": Setting(model=networks.DeepNormalised),
    }
)
# The older studies are without n-gram embeddings.
PLAIN = {"ngram_embeddings": 0}
STUDIES = {
    "characters-ngrams": Study(
        "tinyshakespeare.txt",
        CHARACTERS,
        1_400,
        {"hidden_size": (256,), "learning_rate": 1e-2, "dropout": 0.0, "ngram_rows": 2**14},
        COMMON,
    ),
    "characters-6s": Study(
        "tinyshakespeare.txt", CHARACTERS, 330, PLAIN | {"dropout": 0.0}, COMMON
    ),
    "characters-12-epochs": Study(
        "tinyshakespeare.txt",
        CHARACTERS,
        2_930,
        PLAIN | {"hidden_size": (256,), "learning_rate": 8.7e-3, "dropout": 0.25},
        COMMON,
        tokens=250_000,
    ),
    "characters-30s": Study("tinyshakespeare.txt", CHARACTERS, 1_700, PLAIN, COMMON),
    "characters-90s": Study("tinyshakespeare.txt", CHARACTERS, 5_000, PLAIN, COMMON),
    "characters-300s": Study(
        "tinyshakespeare.txt", CHARACTERS, 17_000, PLAIN | {"dropout": 0.3}, COMMON
    ),
    "characters-30min": Study(
        "tinyshakespeare.txt", CHARACTERS, 100_000, PLAIN | {"dropout": 0.4}, COMMON
    ),
    "words-4-epochs": Study(
        "war_and_peace_90.txt",
        TokenizerConfig(level="word"),
        586,
        {"hidden_size": (256,), "learning_rate": 1e-2, "dropout": 0.1},
        COMMON,
        tokens=150_000,
    ),
    "words-5min": Study(
        "war_and_peace_90.txt", TokenizerConfig(level="word"), 4_000, {"dropout": 0.3}, COMMON
    ),
}


def find(study: Study, name: str) -> Setting:
    """A setting by name; names joined by " + " are combined."""
    if name == "base":
        return Setting()
    parts = [study.settings[part] for part in name.split(" + ")]
    return Setting(
        {key: value for part in parts for key, value in part.options.items()},
        lambda: tuple(technique for part in parts for technique in part.techniques()),
        next((part.model for part in parts if part.model is not LSTMModel), LSTMModel),
        next((part.schedule for part in parts if part.schedule), None),
    )
