"""The mixture of LSTM and n-grams: probabilities, the gate, training and resuming."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from textgen import LanguageModel, train
from textgen.config import ModelConfig, TrainingConfig
from textgen.inference.likelihood import mean_cross_entropy
from textgen.inference.steppers import make_stepper
from textgen.models import build
from textgen.models.mixture import Gate, MixtureModel
from textgen.tokenizers.base import EOS
from textgen.training.prepare import extended, make_state

VOCABULARY = 12
OPTIONS: dict[str, Any] = {"hidden_size": (7,), "embedding_size": 6, "order": 3}


def text_of(tokens: int, seed: int = 3) -> Any:
    """Sentences with regularities."""
    random = np.random.default_rng(seed)
    ids = 2 + np.cumsum(random.choice([1, 1, 1, 2, 5], tokens)) % (VOCABULARY - 2)
    ids[random.random(tokens) < 0.1] = EOS
    return ids.astype(np.uint16)


def made(tokens: int = 8192, *, dtype: torch.dtype = torch.float32, **options: Any) -> MixtureModel:
    """A mixture whose n-grams are counted and whose LSTM has random weights."""
    config = ModelConfig.from_options({"model": "lstm+ngram", **OPTIONS, **options})
    model = build(config.resolved(VOCABULARY))
    assert isinstance(model, MixtureModel)
    generator = torch.Generator().manual_seed(0)
    model.initialize(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.4, generator=generator))
    model.initialize_from_text(text_of(tokens))
    return model.to(dtype).eval()


def by_parts(model: MixtureModel, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """p of targets by the LSTM, by the n-grams and by both (tokens,)."""
    with torch.no_grad():
        features, _ = model.hidden_states(ids, model.start(ids.shape[1]))
        network = model.network(ids, model.network.start(ids.shape[1]))[0].softmax(-1)
        ngrams = model.ngrams.tables.probabilities(
            features.ngram_ids.flatten(0, 1), targets.flatten()
        )
        both = model.log_probs(features.flatten(0, 1), targets.flatten()).exp()
    return network.flatten(0, 1).gather(-1, targets.view(-1, 1)).squeeze(-1), ngrams, both


def held_out(seed: int = 9) -> tuple[Tensor, Tensor]:
    ids = torch.from_numpy(text_of(41 * 8, seed).astype(np.int64)).view(41, 8)
    return ids[:-1], ids[1:]


# Probabilities


@pytest.mark.parametrize("fitted", [False, True])
def test_the_mixture_is_between_its_parts_at_every_token(fitted: bool) -> None:
    model = made(dtype=torch.float64)
    if fitted:
        model.fit_mixture([text_of(200, seed) for seed in (5, 6, 7)])
        assert float(model.gate.weight.abs().max()) > 0
    network, ngrams, both = by_parts(model, *held_out())
    assert bool((both >= torch.minimum(network, ngrams) - 1e-12).all())
    assert bool((both <= torch.maximum(network, ngrams) + 1e-12).all())
    if not fitted:
        assert torch.allclose(both, (network + ngrams) / 2, rtol=1e-9)


@pytest.mark.parametrize(
    ("order", "dtype"),
    [(1, torch.float32), (2, torch.bfloat16), (3, torch.float64), (16, torch.float32)],
)
def test_ngram_ids_are_features_beside_the_network_s_hidden_states(
    dtype: torch.dtype, order: int
) -> None:
    model = made(400, dtype=dtype, order=order)
    ids, targets = held_out()
    features, state = model.hidden_states(ids, model.start(8))
    expected = model.ngrams.tables.ngram_ids(ids, torch.full((8, order - 1), -1))
    assert torch.equal(features.ngram_ids, expected)
    assert torch.equal(state.tensors()["ngram_ids"], expected[-1])
    # Weights of network and gate are bfloat16; log-probabilities are float32 or wider.
    wide = model.log_probs(features.flatten(0, 1), targets.flatten())
    assert wide.dtype == torch.promote_types(dtype, torch.float32)
    assert bool(wide.isfinite().all())


def test_the_gate_reads_certainty_counts_and_the_hidden_state_of_the_lstm() -> None:
    model = made(dtype=torch.float64)
    ids, targets = held_out()
    features = model.hidden_states(ids, model.start(8))[0].flatten(0, 1)
    by_lstm = model.network.logits(features.hidden).softmax(-1)
    entropy = -(by_lstm * by_lstm.log()).sum(-1)
    counts = model.ngrams.tables.gate_inputs(features.ngram_ids)
    units = features.hidden.shape[1]
    inputs = torch.cat(
        [entropy.unsqueeze(1), by_lstm.amax(-1, keepdim=True).log(), counts, features.hidden], 1
    )
    weight = torch.randn(inputs.shape[1], generator=torch.Generator().manual_seed(1)).double()
    assert model.gate.weight.shape == weight.shape and units > 2
    model.gate.weight.copy_(weight)
    network, ngrams, both = by_parts(model, ids, targets)
    share = torch.sigmoid(inputs @ weight)
    assert torch.allclose(both, share * network + (1 - share) * ngrams, rtol=1e-9)


@pytest.mark.parametrize("logits_at_once", [2**25, 100 * VOCABULARY])
def test_the_training_loss_is_that_of_the_lstm_alone(
    logits_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.inference.likelihood._MAX_TRAINING_LOGITS", logits_at_once)
    model = made()
    ids, targets = held_out()
    loss = mean_cross_entropy(model, model.hidden_states(ids, model.start(8))[0], targets)
    lstm = model.network
    expected = mean_cross_entropy(lstm, lstm.hidden_states(ids, lstm.start(8))[0], targets)
    assert torch.equal(loss, expected)
    loss.backward()
    assert all(weight.grad is not None for weight in lstm.parameters())
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"network"}


@pytest.mark.usefixtures("compiled", "two_threads")
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("order", [1, 2, 5])
def test_compiled_steps_are_those_of_the_model(order: int, rows: int) -> None:
    mixture = made(order=order, hidden_size=(24,))
    mixture.fit_mixture([text_of(200, seed) for seed in (5, 6, 7)])
    ids = torch.randint(VOCABULARY, (40, rows), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, last = mixture(ids, mixture.start(rows))
    stepper = make_stepper(mixture)
    stepper.state = mixture.start(rows)
    assert stepper.network is not None
    found = torch.stack([stepper.step(row).log_softmax(-1) for row in ids])
    assert torch.allclose(found, expected.log_softmax(-1), atol=2e-5)
    assert bool(stepper.state.close_to(last, 1e-4).all())
    selected = torch.tensor([rows - 1, 0])
    stepper.state = state = stepper.state.select(selected)
    (after,) = mixture(ids[:1, selected], state)[0]
    assert torch.allclose(stepper.step(ids[0, selected]), after.log_softmax(-1), atol=2e-5)
    if order > 1:
        contexts = torch.full_like(state.named["ngram_ids"], 2**40)
        with pytest.raises(ValueError, match="out of range"):
            mixture.restore({**state.named, "ngram_ids": contexts})
        stepper.state = type(state)({**state.named, "ngram_ids": contexts})
        with pytest.raises(ValueError, match="does not fit"):
            stepper.step(ids[0, selected])


# The gate


def test_the_gate_is_fitted_on_chunks_that_neither_part_is_trained_on() -> None:
    ids = np.arange(4096) % 4000 + 2  # the token identifies the position
    ids[::20] = EOS
    config = ModelConfig.from_options({"model": "lstm+ngram", **OPTIONS})
    model = build(config.resolved(4002))
    assert isinstance(model, MixtureModel)
    model.initialize(torch.Generator().manual_seed(0))
    chunks = model.held_out_chunks(ids)
    assert len(chunks) == 32
    assert all(ids[chunk.start - 1] == EOS for chunk in chunks)
    training = TrainingConfig(steps=2, batch_size=2, sequence_length=8, unknown_rate=0.0)
    state = make_state(model, ids, training)
    state.update(1e-3)
    held_out = {int(id) for chunk in chunks for id in ids[chunk]} - {EOS} - set(range(2, 98))
    assert len(held_out) > 100
    assert not held_out & {int(id) for id in state.streams.ids}
    assert all(model.ngrams.tables.counts_1[id] == 0 for id in held_out)
    before = model.gate.weight.clone()
    state.prepare_validation()
    assert not torch.equal(model.gate.weight, before)


def test_the_fit_depends_on_the_chunks_but_not_on_earlier_fits_or_on_logits_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, fitted = made(), []
    first, second = ([text_of(200, seed) for seed in seeds] for seeds in ((5, 6), (7, 8)))
    for chunks in (first, second, first):
        model.fit_mixture(chunks)
        fitted.append(torch.cat([model.gate.weight, model.gate.bias.view(1)]))
    assert torch.equal(fitted[2], fitted[0])
    assert not torch.equal(fitted[1], fitted[0])
    monkeypatch.setattr("textgen.models.mixture.LARGEST_LOGITS", 30 * VOCABULARY)
    model.fit_mixture(first)
    assert torch.allclose(model.gate.weight, fitted[0][:-1], atol=1e-5)


def test_a_gate_learns_from_its_input_which_model_is_better() -> None:
    # Where the input is 1 the first model was right and the other wrong; the reverse where it is 0.
    inputs = torch.tensor([0.0, 1.0]).repeat(50)
    right, wrong = math.log(0.9), math.log(0.1)
    pairs = ((right, wrong), (wrong, right))
    log_probs = torch.stack([torch.where(inputs > 0, *pair) for pair in pairs], -1)
    gate = Gate(2)
    gate.fit(torch.stack([inputs, torch.full_like(inputs, 7.0)], -1), log_probs)
    weights = gate(torch.tensor([[1.0, 7.0], [0.0, 7.0]])).exp()
    assert float(weights[0, 0]) > 0.95 and float(weights[1, 0]) < 0.05


def test_a_gate_with_constant_input_finds_the_best_weight() -> None:
    # The first model gives seven of ten tokens 0.8 and three 0.2, the other 0.2 and 0.8:
    # 7 ln(0.2 + 0.6 w) + 3 ln(0.8 - 0.6 w) has its maximum at w = 5/6.
    log_probs = torch.tensor([[0.8, 0.2]] * 7 + [[0.2, 0.8]] * 3).log()
    gate = Gate(1)
    gate.fit(torch.zeros(10, 1), log_probs)
    assert float(gate(torch.zeros(1, 1)).exp()[0, 0]) == pytest.approx(5 / 6, abs=1e-3)


# Training


def test_the_mixture_is_better_than_both_parts_where_each_knows_something(tmp_path: Path) -> None:
    # Names that recur verbatim, for n-grams; and brackets to be closed much later, for an LSTM.
    random = np.random.default_rng(2)
    names = ["".join(random.choice(list("abcdefghij"), 7)) for _ in range(40)]
    lines = []
    for _ in range(1500):
        opened, closed = [("(", ")"), ("[", "]")][random.integers(2)]
        lines.append(f"{opened}xyz{closed}{names[random.integers(40)]}\n")
    text = tmp_path / "text.txt"
    text.write_text("".join(lines))
    learning = {"steps": 80, "batch_size": 16, "sequence_length": 26, "learning_rate": 0.04}
    shape = {"model": "lstm+ngram", "hidden_size": 24, "embedding_size": 8, "order": 3}
    shape |= {"ngram_embeddings": 0}  # with which the LSTM has the names too
    train(text, out=tmp_path / "run", **shape, **learning, baseline=False, seed=1)
    model = LanguageModel.load(tmp_path / "run")
    assert isinstance(model.model, MixtureModel)
    ids = model.tokenizer.encode("".join(lines[-150:])).astype(np.int64)
    row = torch.from_numpy(ids).unsqueeze(1)
    parts = by_parts(model.model, row[:-1], row[1:])
    network, ngrams, both = (-float(part.double().log().mean()) for part in parts)
    assert both < min(network, ngrams) - 0.03, (network, ngrams, both)


def test_with_a_text_too_short_for_chunks_both_parts_have_the_same_weight(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a b\na c\nb c\n" * 5)
    options = {"steps": 2, "batch_size": 2, "sequence_length": 4}
    train(text, out=tmp_path / "run", model="lstm+ngram", **OPTIONS, **options, baseline=False)
    model = LanguageModel.load(tmp_path / "run").model
    assert isinstance(model, MixtureModel)
    assert float(model.gate.weight.abs().max()) == float(model.gate.bias) == 0
    row = torch.tensor([[EOS], [2], [3], [2], [EOS]])
    network, ngrams, both = by_parts(model, row[:-1], row[1:])
    assert torch.allclose(both.double(), (network + ngrams) / 2, rtol=1e-5)


def test_with_a_larger_vocabulary_it_counts_anew() -> None:
    model = made()
    model.fit_mixture([text_of(200)])
    bigger = extended(model, VOCABULARY + 3)
    assert isinstance(bigger, MixtureModel)
    assert bigger.config.entries == () and not bigger.ngrams.tables.counts_1.any()
    assert float(bigger.gate.bias) == 0
    old = model.network.get_parameter("embedding.weight")
    assert torch.equal(bigger.network.get_parameter("embedding.weight")[:VOCABULARY], old)
    bigger.initialize_from_text(np.append(text_of(500), [VOCABULARY + 2] * 3))
    assert bigger.ngrams.tables.counts_1[VOCABULARY + 2] == 2  # after another, and after itself
    ids = torch.full((1, 1), VOCABULARY + 2)
    with torch.no_grad():
        p = bigger(ids, bigger.start(1))[0].softmax(-1).flatten()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    context = bigger.ngrams.tables.ngram_ids(ids, torch.full((1, 2), -1))[0]
    after = bigger.ngrams.tables.distributions(context)[0]
    assert float(after[VOCABULARY + 2]) > 2 * float(after[2])
