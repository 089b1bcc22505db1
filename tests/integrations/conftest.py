"""Checkpoints of small models whose weights are drawn, to be opened by other programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from textgen import LanguageModel, checkpoint
from textgen.checkpoint import Header, Machine
from textgen.cli.app import main
from textgen.config import ModelConfig, TokenizerConfig, TrainingConfig
from textgen.data.corpus import CorpusSource
from textgen.data.encoded import CorpusHeader, PartCounts
from textgen.models import build, count_parameters
from textgen.tokenizers.registry import learn_tokenizer

from ..conftest import TEXT

MakeCheckpoint = Callable[..., LanguageModel]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> MakeCheckpoint:
    """Makes a checkpoint in the folder ``mine``, and loads it.

    tokens: the options of its tokenizer. The others are those of the model.
    """

    def make(tokens: dict[str, Any] | None = None, text: str = TEXT, **options: Any) -> Any:
        tokenizer = learn_tokenizer(TokenizerConfig(**tokens or {}), [(text, False)])
        shape = ModelConfig.from_options({"hidden_size": (9, 7), "embedding_size": 6} | options)
        model = build(shape.resolved(tokenizer.vocabulary_size))
        generator = torch.Generator().manual_seed(0)
        model.initialize(generator)
        with torch.no_grad():  # with opinions
            for name, weight in model.named_parameters():
                if weight.ndim == 1 or not name.startswith("layers"):  # which are drawn
                    weight += 0.5 * torch.randn(weight.shape, generator=generator)
        counts = PartCounts(12, 12, 1, 0)
        header = Header(
            model=model.config,
            training=TrainingConfig(steps=1),
            corpus=CorpusHeader("line", "<u2", counts, counts, "f" * 64, "0" * 64),
            source=CorpusSource(("corpus.txt",)),
            machine=Machine("cpu", "float32", threads=1),
            step=1,
            tokens_seen=12,
            seconds=1.0,
            tokens_per_second=12.0,
            parameters=count_parameters(model.config),
            validation=None,
        )
        checkpoint.save(tmp_path / "mine" / "best", header, model, tokenizer)
        return LanguageModel.load(tmp_path / "mine", device="cpu")

    return make


@pytest.fixture
def exported_here(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint exported to ``exported/mine`` below the current folder, as the page does it."""
    make_checkpoint()
    out = tmp_path / "exported" / "mine"
    assert main(["export", str(tmp_path / "mine"), "--to", "transformers", str(out)]) == 0
    monkeypatch.chdir(tmp_path)
