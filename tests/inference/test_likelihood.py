from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from textgen.inference import likelihood
from textgen.inference.likelihood import Document, target_log_probs
from textgen.models import Model
from textgen.tokenizers.base import EOS

MakeModel = Callable[..., Model]
DrawIds = Callable[..., npt.NDArray[np.uint16]]
Floats = npt.NDArray[np.float64]
DTYPES = [torch.float32, torch.float64]
EXACT = {torch.float32: 1e-5, torch.float64: 1e-10}


@torch.no_grad()
def sequential(model: Model, ids: npt.NDArray[Any], first: int = EOS) -> Floats:
    """ln p of each token by one plain pass over the whole text, nothing side by side."""
    targets = torch.as_tensor(ids.astype(np.int64)).unsqueeze(1)  # (time, 1)
    inputs = torch.cat([torch.tensor([[first]]), targets[:-1]])
    logits, _ = model(inputs, model.start(1))
    log_probs = logits.double().log_softmax(-1).gather(-1, targets.unsqueeze(-1))
    return log_probs.flatten().numpy()


@torch.no_grad()
def remembering(model: Model, forget_bias: float = 30.0) -> Model:
    """The model with its forget gates held open, so that its cells keep what it read."""
    for name, parameter in model.named_parameters():
        if name.startswith("layers"):
            input_gate, forget_gate, candidate, output_gate = parameter.chunk(4)
            if parameter.ndim == 1:
                input_gate.fill_(-1.5)
                forget_gate.fill_(forget_bias)
                output_gate.fill_(1.0)
            else:
                forget_gate.zero_()
                candidate.mul_(2)
    return model


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """The (time, rows) of every stretch that is read while the test runs."""
    shapes: list[tuple[int, int]] = []
    original = likelihood._Block._read_window

    def watched(self: Any, window: int, rows: Tensor, state: Any) -> Any:
        shapes.append((min(64, len(self._targets) - window), len(rows)))
        return original(self, window, rows, state)

    monkeypatch.setattr(likelihood._Block, "_read_window", watched)
    yield shapes


@pytest.mark.parametrize(
    ("length", "dtype"),
    [
        *((n, torch.float64) for n in (1, 2, 63, 64, 65, 255, 256, 511, 512, 513, 64 * 256 + 13)),
        (1000, torch.float32),
    ],
)
def test_a_document_equals_the_plain_pass_at_any_length(
    make_model: MakeModel, random_ids: DrawIds, length: int, dtype: torch.dtype
) -> None:
    model = make_model(dtype=dtype)
    ids = random_ids(length)
    log_probs = Document(model, first=EOS).read(ids)
    assert log_probs.shape == (length,) and log_probs.dtype == np.float64
    assert np.abs(log_probs - sequential(model, ids)).max() < EXACT[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_that_never_forgets_is_read_exactly(
    make_model: MakeModel, random_ids: DrawIds, reads: list[tuple[int, int]], dtype: torch.dtype
) -> None:
    model, ids = remembering(make_model(dtype=dtype)), random_ids(4096 + 5)
    log_probs = Document(model, first=EOS).read(ids)
    assert np.abs(log_probs - sequential(model, ids)).max() < EXACT[dtype]
    # The guessed starts were wrong to the very end, so that every segment was read again.
    assert sum(time * rows for time, rows in reads) > 8 * len(ids)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_that_forgets_slowly_is_read_until_its_states_truly_meet(
    make_model: MakeModel, random_ids: DrawIds, reads: list[tuple[int, int]], dtype: torch.dtype
) -> None:
    """Its cells keep 31 % of what they hold through a window, so that they meet after a dozen."""
    model, ids = remembering(make_model(dtype=dtype), 2.0), random_ids(8000)
    log_probs = Document(model, first=EOS, segments=3).read(ids)
    assert np.abs(log_probs - sequential(model, ids)).max() < EXACT[dtype]
    assert 8 < sum(rows < 3 for _, rows in reads) < 41


def test_a_forgetful_model_is_read_about_once(
    make_model: MakeModel, random_ids: DrawIds, reads: list[tuple[int, int]]
) -> None:
    ids = random_ids(8192)
    Document(make_model(), first=EOS).read(ids)
    assert sum(time * rows for time, rows in reads) < 1.6 * len(ids)
    assert max(rows for _, rows in reads) == 16


@pytest.mark.parametrize("change", [lambda model: model, remembering])
def test_parts_of_any_size_give_the_same_as_one_read(
    make_model: MakeModel, random_ids: DrawIds, change: Callable[[Model], Model]
) -> None:
    model, ids = change(make_model(dtype=torch.float64)), random_ids(3000)
    document = Document(model, first=EOS)
    parts = [document.read(part) for part in np.split(ids, [1, 2, 2, 65, 700, 701, 2400])]
    assert np.abs(np.concatenate(parts) - sequential(model, ids)).max() < 1e-10


def test_a_text_longer_than_a_block_is_read_block_by_block(
    make_model: MakeModel,
    random_ids: DrawIds,
    reads: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(likelihood, "_BLOCK_TOKENS", 1024)
    model, ids = make_model(dtype=torch.float64), random_ids(5000)
    document = Document(model, first=EOS)
    assert np.abs(document.read(ids) - sequential(model, ids)).max() < 1e-10
    assert max(time * rows for time, rows in reads) <= 64 * 4
    assert all(len(tensor) == 1 for tensor in document.state.tensors().values())


def test_the_first_token_is_context_and_is_not_scored(
    make_model: MakeModel, random_ids: DrawIds
) -> None:
    model, ids = make_model(dtype=torch.float64), random_ids(70)
    document = Document(model, first=5)
    assert document.read(ids[:0]).shape == (0,), "nothing read gives nothing and changes nothing"
    log_probs = document.read(ids)
    assert np.abs(log_probs - sequential(model, ids, first=5)).max() < 1e-10
    assert abs(log_probs[0] - Document(model, first=EOS).read(ids)[0]) > 1e-3


@pytest.mark.parametrize("largest", [1, 11, 30, 11 * 64])
def test_logits_in_chunks_give_what_all_at_once_give(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    model = make_model(dtype=torch.float64)
    hidden = torch.randn(13, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(11, (13, 5), generator=torch.Generator().manual_seed(1))
    whole = target_log_probs(model, hidden, targets)
    calls = []
    original = model.logits
    monkeypatch.setattr(likelihood, "LARGEST_LOGITS", largest)
    monkeypatch.setattr(model, "logits", lambda rows: calls.append(len(rows)) or original(rows))
    chunked = target_log_probs(model, hidden, targets)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-13)
    assert sum(calls) == 13 * 5
    assert max(calls) * 11 <= max(largest, 11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, *DTYPES])
def test_logits_of_1e30_give_finite_scores(
    make_model: MakeModel, random_ids: DrawIds, dtype: torch.dtype
) -> None:
    model = make_model(dtype=dtype)
    with torch.no_grad():
        model.get_parameter("output.bias").copy_(torch.linspace(-1e30, 1e30, 11))
    ids = random_ids(600)
    log_probs = Document(model, first=EOS).read(ids)
    assert np.isfinite(log_probs.sum())
    assert log_probs.min() < -1e29 and log_probs.max() <= 0


@pytest.mark.parametrize("tie", [False, True])
def test_the_loss_of_as_many_rows_at_a_time_as_fit_is_that_of_all(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tie: bool
) -> None:
    model = make_model(dtype=torch.float64, hidden=(7, 6), tie=tie)
    ids = torch.arange(5 * 4).view(5, 4) % 11
    make_logits, found = model.logits, []
    seen: list[int] = []
    monkeypatch.setattr(model, "logits", lambda rows: seen.append(len(rows)) or make_logits(rows))
    for most in (2**25, 3 * 11):  # all 16 rows at once, and three at a time
        monkeypatch.setattr(likelihood, "_MAX_TRAINING_LOGITS", most)
        model.zero_grad()
        hidden, _ = model.hidden_states(ids[:-1], model.start(4))
        seen.clear()
        loss = likelihood.mean_cross_entropy(model, hidden, ids[1:])
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters())])
    assert max(seen) == 3
    assert sum(seen) == 2 * 16  # once forward, once more for the gradient
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)
