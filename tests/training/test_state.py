import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from textgen.config import Precision, TrainingConfig
from textgen.data.batching import Streams
from textgen.models import Model
from textgen.models.device import cpu_learns_in_bf16
from textgen.training.state import GradientState

MakeModel = Callable[..., Model]
RATE = 0.01


@pytest.fixture
def make_state(make_model: MakeModel) -> Callable[..., GradientState]:
    """Makes a state of a tiny model on two thousand ids, most of them easy to foretell."""
    random = np.random.default_rng(0)
    ids = (1 + np.arange(2000) % 7).astype(np.uint16)
    ids[random.random(2000) < 0.2] = 9

    def make(
        precision: Precision = "float32", tie: bool = False, ngrams: int = 0, **options: Any
    ) -> GradientState:
        given = {"steps": 100, "batch_size": 3, "sequence_length": 8, "dropout": 0.2} | options
        config = TrainingConfig.from_options(given)
        streams = Streams(
            ids,
            batch_size=config.batch_size,
            sequence_length=config.sequence_length,
            run_windows=4,
            unknown_rate=0.05,
            seed=config.seed,
        )
        model = make_model(hidden=(7, 6), tie=tie, ngrams=ngrams).train()
        return GradientState(model, streams, config, precision)

    return make


def weights_of(state: GradientState) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in state.model.parameters()]


def everything(state: GradientState) -> dict[str, Tensor]:
    weights = {f"weight.{i}": weight for i, weight in enumerate(weights_of(state))}
    return dict(state.snapshot().tensors) | weights


def assert_identical(one: GradientState, other: GradientState) -> None:
    tensors, other_tensors = everything(one), everything(other)
    here, there = (replace(state.snapshot(), tensors={}) for state in (one, other))
    assert here == there
    assert tensors.keys() == other_tensors.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == other_tensors[name].dtype, name
        assert torch.equal(tensor, other_tensors[name]), name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie": True},
        {"precision": "bf16"},
        {"ngrams": 3},
        {"candidates": 4, "ngrams": 2},
        {"candidates": 4, "tie": True},
    ],
    ids=str,
)
def test_a_state_restored_at_any_step_goes_on_bit_for_bit(
    make_state: Callable[..., GradientState], options: dict[str, Any]
) -> None:
    precision = options.get("precision")
    if precision == "bf16" and not cpu_learns_in_bf16():
        pytest.skip("this processor does not learn in bf16")
    uninterrupted, kept = make_state(**options), []
    for step in range(20):
        if step in (0, 1, 7, 13, 19):
            kept.append((step, weights_of(uninterrupted), uninterrupted.snapshot()))
        uninterrupted.update(RATE)
    for step, weights, snapshot in kept:
        resumed = make_state(**options)
        with torch.no_grad():
            for parameter, weight in zip(resumed.model.parameters(), weights, strict=True):
                parameter.copy_(weight)
        resumed.restore(snapshot)
        assert resumed.progress.step == step
        for _ in range(20 - step):
            resumed.update(RATE)
        assert_identical(resumed, uninterrupted)


def test_a_snapshot_can_be_gone_back_to_more_than_once(
    make_state: Callable[..., GradientState],
) -> None:
    state = make_state()
    for _ in range(5):
        state.update(RATE)
    state.remember()
    ends = []
    for _ in range(3):
        state.roll_back()
        for _ in range(5):
            state.update(RATE)
        ends.append(everything(state))
    for later in ends[1:]:
        assert all(torch.equal(tensor, ends[0][name]) for name, tensor in later.items())


@pytest.mark.parametrize(
    "name", ["state.hidden.0", "state.cell.1", "optimizer.0.exp_avg", "optimizer.4.exp_avg_sq"]
)
def test_a_snapshot_of_another_shape_is_refused(
    make_state: Callable[..., GradientState], name: str
) -> None:
    state = make_state()
    state.update(RATE)
    snapshot = state.snapshot()
    state.restore(snapshot)
    tensors = dict(snapshot.tensors)
    surplus = {"optimizer.99.exp_avg": tensors["optimizer.0.exp_avg"]}
    with pytest.raises(ValueError, match=r"is \(2, .*\), not \(|is \(2,\), not \("):
        state.restore(replace(snapshot, tensors=tensors | {name: tensors[name][:2]}))
    with pytest.raises(ValueError, match=f"{name} is missing"):
        state.restore(replace(snapshot, tensors={n: tensors[n] for n in tensors if n != name}))
    with pytest.raises(ValueError, match=r"99.exp_avg is .*unexpected"):
        state.restore(replace(snapshot, tensors=tensors | surplus))


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_loss_that_is_no_number_leaves_weights_and_optimizer_as_they_were(
    make_state: Callable[..., GradientState], monkeypatch: pytest.MonkeyPatch, broken: float
) -> None:
    state = make_state()
    state.update(RATE)
    assert state.is_finite
    before = everything(state)
    logits = state.model.logits
    monkeypatch.setattr(state.model, "logits", lambda features: logits(features) * broken)
    state.update(RATE)
    assert not state.is_finite
    after = everything(state)
    for name, tensor in before.items():
        if not name.startswith("state."):
            assert torch.equal(tensor, after[name]), name
    monkeypatch.undo()
    state.take_mean_loss()
    state.update(RATE)
    assert state.is_finite
    assert not torch.equal(everything(state)["weight.0"], before["weight.0"])


def test_a_gradient_that_is_no_number_is_not_taken_though_the_loss_is_one(
    make_state: Callable[..., GradientState],
) -> None:
    state = make_state()
    state.update(RATE)
    before = weights_of(state)
    weight = state.model.get_parameter("output.weight")
    handle = weight.register_hook(lambda gradient: gradient * torch.inf)
    state.update(RATE)
    assert not state.is_finite
    assert not math.isfinite(state.gradient_norm)
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(state), strict=True))
    handle.remove()


def test_a_broken_state_is_forgotten_where_a_run_starts(
    make_state: Callable[..., GradientState],
) -> None:
    state = make_state()
    snapshot = state.snapshot()
    nans = {name: torch.full_like(each, torch.nan) for name, each in snapshot.tensors.items()}
    state.restore(replace(snapshot, tensors=nans))
    state.update(RATE)  # every row of the first window starts a run
    assert state.is_finite


def seeds_of_masks(state: GradientState, steps: int = 4) -> list[int]:
    seeds = []
    for _ in range(steps):
        state.update(RATE)
        seeds.append(state._generator.initial_seed())
    return seeds


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_a_state_of_another_type_is_refused(
    make_state: Callable[..., GradientState], dtype: torch.dtype
) -> None:
    state = make_state()
    snapshot = state.snapshot()
    name = next(name for name in snapshot.tensors if name.startswith("state."))
    forged = {**snapshot.tensors, name: snapshot.tensors[name].to(dtype)}
    with pytest.raises(ValueError, match=str(dtype)):
        state.restore(replace(snapshot, tensors=forged))


def test_dropout_is_keyed_by_seed_and_step(make_state: Callable[..., GradientState]) -> None:
    first = seeds_of_masks(make_state())
    assert len(set(first)) == 4
    assert seeds_of_masks(make_state()) == first
    assert not set(seeds_of_masks(make_state(seed=2))) & set(first)
    late = make_state()
    late.progress.step = 2
    assert seeds_of_masks(late, 2) == first[2:]


def test_the_largest_seed_is_one(make_state: Callable[..., GradientState]) -> None:
    state = make_state(seed=2**63 - 1)
    state.update(RATE)
    assert state.is_finite


def test_weight_decay_shrinks_matrices_and_leaves_biases(
    make_state: Callable[..., GradientState], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = make_state(weight_decay=0.5)
    logits = state.model.logits
    monkeypatch.setattr(state.model, "logits", lambda features: logits(features) * 0)
    before = weights_of(state)
    state.update(0.1)  # no gradient: all that happens is the decay
    for old, new in zip(before, weights_of(state), strict=True):
        expected = old * (1 - 0.1 * 0.5) if old.ndim > 1 else old
        torch.testing.assert_close(new, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("clip", [0.01, 1e6])
def test_a_long_gradient_is_cut_to_the_clip_and_a_short_one_left(
    make_state: Callable[..., GradientState], clip: float
) -> None:
    state, taken = make_state(clip=clip), []

    def look(*_: Any) -> None:
        gradients = [p.grad.to_dense() for p in state.model.parameters() if p.grad is not None]
        taken.append(torch.cat([g.flatten() for g in gradients]).norm().item())

    state._optimizers[0].register_step_pre_hook(look)
    state.update(RATE)
    assert taken == [pytest.approx(min(clip, state.gradient_norm), rel=1e-3)]
    assert state.gradient_norm > 0.01


@pytest.mark.parametrize("sparse", [True, False])
def test_with_candidates_a_gradient_that_is_no_number_changes_no_table(
    make_state: Callable[..., GradientState], sparse: bool
) -> None:
    state = make_state(ngrams=3, candidates=4)
    for module in state.model.modules():
        if hasattr(module, "sparse"):
            module.sparse = sparse
    state.update(RATE)
    before = everything(state)
    handle = state.model.get_parameter("output.bias").register_hook(lambda grad: grad * torch.nan)
    state.update(RATE)
    after = everything(state)
    assert not math.isfinite(state.gradient_norm)
    for name, tensor in before.items():
        assert name.startswith("state.") or torch.equal(tensor, after[name]), name
    handle.remove()


def test_candidates_of_every_token_learn_what_the_whole_vocabulary_does(
    make_state: Callable[..., GradientState],
) -> None:
    whole, sampled = make_state(dropout=0.0), make_state(dropout=0.0, candidates=10)
    assert whole._sampler is None and sampled._sampler is not None
    losses = []
    for state in (whole, sampled):
        for _ in range(150):
            state.update(RATE)
        state.take_mean_loss()
        for _ in range(30):
            state.update(RATE)
        losses.append(state.mean_loss)
    # Ten of eleven tokens are candidates; the tables have another optimizer.
    assert losses[0] == pytest.approx(losses[1], abs=0.1)
    assert losses[0] < 1.2


def test_the_scale_of_the_rate_slows_learning(make_state: Callable[..., GradientState]) -> None:
    full, half = make_state(), make_state()
    half.progress.learning_rate_scale = 0.5
    full.update(RATE / 2)
    half.update(RATE)
    for a, b in zip(weights_of(full), weights_of(half), strict=True):
        assert torch.equal(a, b)


@torch.no_grad()
def test_the_loss_is_that_of_reading_the_streams_with_the_state_carried(
    make_state: Callable[..., GradientState],
) -> None:
    learner, reader = make_state(dropout=0.0), make_state(dropout=0.0)
    state = reader.model.start(3)
    for _ in range(12):
        with torch.enable_grad():
            learner.update(0.0)
        window = reader.streams.next()
        rows = []
        for row, carried in enumerate(window.carried):
            start = state.select(torch.tensor([row])) if carried else reader.model.start(1)
            rows.append(reader.model(torch.from_numpy(window.inputs[:, [row]].copy()), start))
        logits = torch.cat([logits for logits, _ in rows], 1)
        for row, (_, after) in enumerate(rows):
            state = state.replace(torch.tensor([row]), after)
        expected = -logits.log_softmax(-1).gather(
            -1, torch.from_numpy(window.targets).unsqueeze(-1)
        )
        assert learner.take_mean_loss() == pytest.approx(expected.mean().item(), abs=1e-5)


def test_the_mean_loss_is_over_the_steps_since_it_was_last_taken(
    make_state: Callable[..., GradientState],
) -> None:
    one, other = make_state(), make_state()
    singly = []
    for _ in range(4):
        one.update(RATE)
        other.update(RATE)
        singly.append(one.take_mean_loss())
    assert other.take_mean_loss() == pytest.approx(np.mean(singly))
    assert other.progress.tokens_seen == 4 * 3 * 8


def test_the_optimizer_computes_what_pytorch_s_adamw_does_bit_for_bit(
    make_state: Callable[..., GradientState],
) -> None:
    ours, theirs = make_state(), make_state()
    theirs._optimizers = [torch.optim.AdamW(theirs._optimizers[0].param_groups, fused=True)]
    for _ in range(5):
        ours.update(RATE)
        theirs.update(RATE)
    assert_identical(ours, theirs)
    theirs.restore(ours.snapshot())
    assert_identical(ours, theirs)
