"""Rounding of the weights of ``best``: what is stated is what was done; training is as before."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from textgen import LanguageModel, checkpoint, storage, train
from textgen.checkpoint import CONFIG, WEIGHTS
from textgen.errors import CheckpointError
from textgen.models import Model, build
from textgen.tokenizers.base import EOS
from textgen.training.rounding import MAX_DIVERGENCE, rounded

from .conftest import RUN, SHAPE, TEXT, written

SMALL: dict[str, Any] = {**RUN, **SHAPE, "steps": 12, "dropout": 0.0, "learning_rate": 0.01}
IDS = np.random.default_rng(0).integers(0, 11, 64)
HELD_OUT = "the dog sees the river.\nthe hen finds the ball.\nthe fox hides the door.\n"


@pytest.fixture
def model(make_model: Callable[..., Model]) -> Model:
    return make_model(spread=0.5)


def weights_of(model: Model) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def test_matrices_are_rounded_to_nearest_and_exact_again_afterwards(model: Model) -> None:
    exact = weights_of(model)
    with pytest.raises(KeyboardInterrupt), rounded(model, IDS) as rounding:
        assert rounding is not None
        for name, weight in model.state_dict().items():
            nearest = exact[name].bfloat16().float() if weight.ndim == 2 else exact[name]
            assert torch.equal(weight, nearest), name
        raise KeyboardInterrupt
    assert all(torch.equal(weight, exact[name]) for name, weight in model.state_dict().items())


@torch.no_grad()
def test_the_divergence_stated_is_that_of_the_rounded_model(model: Model) -> None:
    other = build(model.config)
    with rounded(model, IDS) as rounding:
        other.load_state_dict(model.state_dict())
    inputs = torch.tensor([EOS, *IDS[:-1]]).unsqueeze(1)
    log_p, log_q = (
        each(inputs, each.start(1))[0].squeeze(1).log_softmax(-1)
        for each in (model.double(), other.double())
    )
    expected = (log_p.exp() * (log_p - log_q)).sum(-1)[-32:]
    assert rounding is not None
    assert rounding.tokens == 32
    assert rounding.divergence == pytest.approx(float(expected.mean()), rel=1e-2)


def test_a_model_that_would_diverge_too_far_stays_exact(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = weights_of(model)
    with rounded(model, IDS) as rounding:
        assert rounding is not None
    monkeypatch.setattr("textgen.training.rounding.MAX_DIVERGENCE", rounding.divergence)
    with rounded(model, IDS) as refused:
        assert refused is None
        assert all(torch.equal(weight, exact[name]) for name, weight in model.state_dict().items())


def trained(folder: Path, **options: Any) -> Path:
    """A run whose last validation is the best."""
    files = [written(folder / name, text) for name, text in (("text", TEXT), ("held", HELD_OUT))]
    result = train(files[0], valid=files[1], out=folder / "run", **SMALL, **options)
    assert result.validation is not None
    assert result.validation.step == result.steps
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with default options, which no test may change."""
    return trained(tmp_path_factory.mktemp("trained"))


def test_best_has_the_weights_of_last_rounded_as_its_header_says(run: Path) -> None:
    best, last = load_file(run / "best" / WEIGHTS), load_file(run / "last" / WEIGHTS)
    headers = [checkpoint.read_header(run / name / CONFIG) for name in ("best", "last")]
    assert headers[0].step == headers[1].step == 12
    assert headers[1].rounding is None
    rounding = headers[0].rounding
    assert rounding is not None
    assert 0 < rounding.divergence < MAX_DIVERGENCE
    for name, weight in last.items():
        assert weight.dtype == torch.float32
        assert torch.equal(best[name], weight.bfloat16() if weight.ndim == 2 else weight), name


def test_the_loss_of_best_is_that_of_its_rounded_weights(run: Path) -> None:
    loaded = LanguageModel.load(run)
    assert loaded.model.dtype == torch.float32
    validation = loaded.header.validation
    assert validation is not None
    scores = loaded.score(HELD_OUT.splitlines(), context="document")
    loss = -sum(score.log_prob for score in scores) / sum(score.tokens for score in scores)
    assert loss == pytest.approx(validation.loss, abs=1e-7)
    last = LanguageModel.load(run / "last").score(HELD_OUT.splitlines(), context="document")
    assert [score.log_prob for score in last] != [score.log_prob for score in scores]


def test_keep_float32_keeps_it_and_trains_the_same(run: Path, tmp_path: Path) -> None:
    out = trained(tmp_path, keep_float32=True)
    best, last = load_file(out / "best" / WEIGHTS), load_file(out / "last" / WEIGHTS)
    assert checkpoint.read_header(out / "best" / CONFIG).rounding is None
    assert all(torch.equal(best[name], weight) for name, weight in last.items())
    assert (out / "last" / WEIGHTS).read_bytes() == (run / "last" / WEIGHTS).read_bytes()


def test_a_rounding_that_was_not_done_or_not_stated_is_refused(run: Path, tmp_path: Path) -> None:
    for other in ("best", "last"):
        with storage.new_folder(tmp_path / other) as begun:
            for path in (run / "best").iterdir():
                if path.name != storage.MANIFEST:
                    shutil.copy(path, begun)
            if other == "last":  # its weights are in float32
                shutil.copy(run / "last" / WEIGHTS, begun)
            else:
                header = storage.read_json(begun / CONFIG) | {"rounding": None}
                storage.write_json(begun / CONFIG, header)
        with pytest.raises(CheckpointError, match="bfloat16"):
            checkpoint.load(tmp_path / other)
