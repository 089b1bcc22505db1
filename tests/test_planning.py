"""``plan`` tells what ``train`` does."""

from pathlib import Path

import pytest

from textgen import checkpoint, plan, train
from textgen.errors import UsageError
from textgen.models import build
from textgen.training import autotune as planning

TEXT = "the cat sat on the mat, and the dog did not.\n" * 60
SMALL = {"hidden_size": (16,), "batch_size": 4, "sequence_length": 16, "threads": 1}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_plan_is_what_the_run_is(corpus: Path, tmp_path: Path) -> None:
    planned = plan(corpus, steps=40, **SMALL)
    result = train(corpus, out=tmp_path / "run", steps=40, **SMALL)
    assert planned.parameters == result.parameters
    assert planned.tokens == result.tokens_seen
    config = checkpoint.describe(tmp_path / "run" / "last").config
    made = config["model"] | config["training"]
    for option in planned.options:
        if option.name != "precision":  # which a run leaves at auto
            value = list(option.value) if isinstance(option.value, tuple) else option.value
            assert made[option.name] == value, option.name
    state = (tmp_path / "run" / "last" / "state.safetensors").stat().st_size
    weights = (tmp_path / "run" / "last" / "model.safetensors").stat().st_size
    # weights, gradients as large, and the two moments, which are most of the state's file
    assert planned.state_bytes == pytest.approx(2 * weights + state, rel=0.2)


def test_the_memory_planned_is_that_of_weights_gradients_and_moments() -> None:
    import torch

    from textgen.config import ModelConfig

    shape = ModelConfig(hidden_size=(12, 8)).resolved(20)
    model = build(shape)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    held = [t for p in model.parameters() for t in (p, p.grad)]
    held += [s[k] for s in optimizer.state.values() for k in ("exp_avg", "exp_avg_sq")]
    assert planning.state_bytes(shape) == sum(t.nbytes for t in held if t is not None)


def test_a_plan_tells_the_options_that_the_model_has(corpus: Path) -> None:
    planned = plan(corpus, steps=1, model="hmm", states=6)
    options = {option.name: option.value for option in planned.options}
    assert options["states"] == 6 and "hidden_size" not in options


def test_planning_writes_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    plan(corpus, budget=60.0)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_budget_is_planned_by_the_speed_measured(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = {1e2: (128,), 1e9: (512,)}
    for speed, width in speeds.items():
        monkeypatch.setattr(planning, "tokens_per_second", lambda *_, speed=speed: speed)
        found = plan(corpus, budget=100.0)
        values = {option.name: option.value for option in found.options}
        assert values["hidden_size"] == width
        assert found.tokens_per_second == pytest.approx(speed)
        assert found.tokens == pytest.approx(100 * speed)


def test_a_model_too_large_for_memory_is_refused_before_it_is_timed(corpus: Path) -> None:
    with pytest.raises(UsageError, match="too large"):
        plan(corpus, budget=60.0, hidden_size=10**9)


def test_a_resumed_run_keeps_what_was_chosen(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(planning, "tokens_per_second", lambda *_: 1e5)
    train(corpus, out=out, budget=1.0, **SMALL)
    first = checkpoint.describe(out / "last")
    monkeypatch.setattr(planning, "tokens_per_second", lambda *_: 1e9)
    train(out=out, resume=True, budget=1.5)
    second = checkpoint.describe(out / "last")
    assert second.config["model"] == first.config["model"]
    assert second.config["training"] == first.config["training"] | {"budget": 1.5}


def test_a_plan_to_go_on_from_a_model_keeps_its_shape(corpus: Path, tmp_path: Path) -> None:
    train(corpus, out=tmp_path / "run", steps=2, **SMALL)
    planned = plan(corpus, init_from=tmp_path / "run", budget=60.0)
    values = {option.name: option.value for option in planned.options}
    assert values["hidden_size"] == (16,)
