"""An LSTM and n-grams as one: what each knows, how they are weighed, what is kept of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from textgen import LanguageModel, train
from textgen.config import ModelConfig, TrainingConfig
from textgen.data.batching import without
from textgen.inference.likelihood import mean_cross_entropy
from textgen.models import build
from textgen.models.mixture import Gate, MixtureModel, _as_floats, _as_numbers
from textgen.tokenizers.base import EOS
from textgen.training.distributed import Briefing, make_learner
from textgen.training.prepare import extended
from textgen.training.ranks import ALONE
from textgen.training.trainer import Learner

VOCABULARY = 12
OPTIONS: dict[str, Any] = {"hidden_size": (7,), "embedding_size": 6, "order": 3}


def text_of(tokens: int, seed: int = 3) -> Any:
    """Sentences in which there is something to learn."""
    random = np.random.default_rng(seed)
    ids = 2 + np.cumsum(random.choice([1, 1, 1, 2, 5], tokens)) % (VOCABULARY - 2)
    ids[random.random(tokens) < 0.1] = EOS
    return ids.astype(np.uint16)


def made(tokens: int = 8192, *, dtype: torch.dtype = torch.float32, **options: Any) -> MixtureModel:
    """A mixture that has counted a text, with a network that has opinions."""
    config = ModelConfig.from_options({"model": "lstm+ngram", **OPTIONS, **options})
    model = build(config.resolved(VOCABULARY))
    assert isinstance(model, MixtureModel)
    generator = torch.Generator().manual_seed(0)
    model.initialize(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.4, generator=generator))
    model.read(text_of(tokens))
    return model.to(dtype).eval()


def by_parts(model: MixtureModel, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """p of targets by the network, by the n-grams and by both (places,)."""
    with torch.no_grad():
        features, _ = model.hidden_states(ids, model.start(ids.shape[1]))
        network = model.network(ids, model.network.start(ids.shape[1]))[0].softmax(-1)
        numbers = model.tables.follow(ids, torch.full((ids.shape[1], model.tables.order - 1), -1))
        ngrams = model.tables.shares(numbers.flatten(0, 1), targets.flatten())
        both = model.log_probs(features.flatten(0, 1), targets.flatten()).exp()
    return network.flatten(0, 1).gather(-1, targets.view(-1, 1)).squeeze(-1), ngrams, both


def read_apart(seed: int = 9) -> tuple[Tensor, Tensor]:
    ids = torch.from_numpy(text_of(41 * 8, seed).astype(np.int64)).view(41, 8)
    return ids[:-1], ids[1:]


# What it is


@pytest.mark.parametrize("settled", [False, True])
def test_it_is_between_its_parts_at_every_token(settled: bool) -> None:
    model = made(dtype=torch.float64)
    if settled:
        model.settle([text_of(200, seed) for seed in (5, 6, 7)])
        assert float(model.gate.weight.abs().max()) > 0
    network, ngrams, both = by_parts(model, *read_apart())
    assert bool((both >= torch.minimum(network, ngrams) - 1e-12).all())
    assert bool((both <= torch.maximum(network, ngrams) + 1e-12).all())
    if not settled:
        assert torch.allclose(both, (network + ngrams) / 2, rtol=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_numbers_of_n_grams_survive_among_the_features(dtype: torch.dtype, order: int) -> None:
    model = made(400, dtype=dtype, order=order)
    ids, targets = read_apart()
    features, state = model.hidden_states(ids, model.start(8))
    _, found = model._apart(features.flatten(0, 1))
    expected = model.tables.follow(ids, torch.full((8, order - 1), -1))
    assert torch.equal(found, expected.flatten(0, 1))
    assert torch.equal(state.tensors()["ngrams"], expected[-1])
    # Of network and gate those are rounded to bfloat16, and what they give is float32 or wider.
    wide = model.log_probs(features.flatten(0, 1), targets.flatten())
    assert wide.dtype == torch.promote_types(dtype, torch.float32)
    assert bool(wide.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_number_has_bits_of_its_own(dtype: torch.dtype) -> None:
    # Bits of numbers that are subnormal, infinite or not numbers among them.
    numbers = torch.tensor([[-1, 0, 1, 2, 2**23, 0x7F800000, 0x7FC00001, 2**31 - 1]])
    floats = _as_floats(numbers, dtype)
    among = torch.cat([torch.ones(1, 3, dtype=dtype), floats], -1).expand(2, -1)
    assert torch.equal(_as_numbers(among[1:, 3:]), numbers)


def test_what_it_learns_is_the_network_s_own_loss() -> None:
    model = made()
    ids, targets = read_apart()
    loss = mean_cross_entropy(model, model.hidden_states(ids, model.start(8))[0], targets)
    own = model.network
    expected = mean_cross_entropy(own, own.hidden_states(ids, own.start(8))[0], targets)
    assert torch.equal(loss, expected)
    loss.backward()
    assert all(weight.grad is not None for weight in own.parameters())
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"network"}


# How its parts are weighed


def learner_of(model: MixtureModel, ids: Any) -> Learner:
    training = TrainingConfig(steps=2, batch_size=2, sequence_length=8)
    briefing = Briefing(model.config, training, 0.0, "cpu", "float32", 1)
    return make_learner(briefing, model, ids, ALONE)


def test_weights_are_fitted_on_what_neither_part_has_learned_from() -> None:
    ids = np.arange(4096) % 4000 + 2  # a token tells its place
    ids[::20] = EOS
    config = ModelConfig.from_options({"model": "lstm+ngram", **OPTIONS})
    model = build(config.resolved(4002))
    assert isinstance(model, MixtureModel)
    model.initialize(torch.Generator().manual_seed(0))
    pieces = model.held_out_chunks(ids)
    assert len(pieces) == 32
    assert all(ids[piece.start - 1] == EOS for piece in pieces)
    learner = learner_of(model, ids)
    learner.update(1e-3)
    _, kept = without(ids, pieces)
    unread = {int(id) for piece in kept for id in piece} - {EOS} - set(range(2, 98))
    assert len(unread) > 100
    assert not unread & {int(id) for id in learner.streams.ids}
    assert all(model.tables.seen_1[id] == 0 for id in unread)
    before = model.gate.weight.clone()
    learner.settle()
    assert not torch.equal(model.gate.weight, before)


def test_settling_again_gives_the_same_whatever_was_settled_before() -> None:
    one, other = made(), made()
    first, second = ([text_of(200, seed) for seed in seeds] for seeds in ((5, 6), (7, 8)))
    one.settle(second)
    settled_otherwise = one.gate.weight.clone()
    one.settle(first)
    other.settle(first)
    assert torch.equal(one.gate.weight, other.gate.weight)
    assert torch.equal(one.gate.bias, other.gate.bias)
    assert not torch.equal(one.gate.weight, settled_otherwise)


def test_few_logits_at_once_settle_what_all_at_once_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [text_of(200, seed) for seed in (5, 6)]
    one, other = made(), made()
    one.settle(pieces)
    monkeypatch.setattr("textgen.models.mixture.LARGEST_LOGITS", 30 * VOCABULARY)
    other.settle(pieces)
    assert torch.allclose(one.gate.weight, other.gate.weight, atol=1e-5)


def test_a_gate_finds_by_its_clue_which_of_two_to_believe() -> None:
    # Where the clue is 1 the first was right and the other wrong, and the reverse where it is 0.
    clue = torch.tensor([0.0, 1.0]).repeat(50)
    right, wrong = math.log(0.9), math.log(0.1)
    pairs = ((right, wrong), (wrong, right))
    log_probs = torch.stack([torch.where(clue > 0, *pair) for pair in pairs], -1)
    gate = Gate(2)
    gate.fit(torch.stack([clue, torch.full_like(clue, 7.0)], -1), log_probs)
    odds = gate(torch.tensor([[1.0, 7.0], [0.0, 7.0]]))
    assert float(odds[0]) > 3 and float(odds[1]) < -3


def test_a_gate_that_goes_by_nothing_finds_the_best_share() -> None:
    # Of ten tokens the first gives seven 0.8 and three 0.2, the other 0.2 and 0.8: w maximises
    # 7 ln(0.2 + 0.6 w) + 3 ln(0.8 - 0.6 w), which it does at w = 5/6.
    log_probs = torch.tensor([[0.8, 0.2]] * 7 + [[0.2, 0.8]] * 3).log()
    gate = Gate(1)
    gate.fit(torch.zeros(10, 1), log_probs)
    assert float(gate(torch.zeros(1, 1)).sigmoid()) == pytest.approx(5 / 6, abs=1e-3)


# What it reaches, and what is kept of it


@pytest.fixture(scope="module")
def two_sided() -> str:
    """Names told once in a while, word for word, and brackets that close what was long open."""
    random = np.random.default_rng(2)
    names = ["".join(random.choice(list("abcdefghij"), 7)) for _ in range(40)]
    lines = []
    for _ in range(1500):
        opened, closed = [("(", ")"), ("[", "]")][random.integers(2)]
        lines.append(f"{opened}xyz{closed}{names[random.integers(40)]}\n")
    return "".join(lines)


def test_it_is_better_than_both_where_each_knows_something(tmp_path: Path, two_sided: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text(two_sided)
    learning = {"steps": 80, "batch_size": 16, "sequence_length": 26, "learning_rate": 0.04}
    shape = {"model": "lstm+ngram", "hidden_size": 24, "embedding_size": 8, "order": 3}
    train(text, out=tmp_path / "run", **shape, **learning, baseline=False, seed=1)
    model = LanguageModel.load(tmp_path / "run")
    assert isinstance(model.model, MixtureModel)
    ids = model.tokenizer.encode(two_sided[-len(two_sided) // 10 :]).astype(np.int64)
    row = torch.from_numpy(ids).unsqueeze(1)
    parts = by_parts(model.model, row[:-1], row[1:])
    network, ngrams, both = (-float(part.double().log().mean()) for part in parts)
    assert both < min(network, ngrams) - 0.03, (network, ngrams, both)


def test_stopped_and_resumed_its_tables_and_gate_are_those_of_a_run_that_never_stopped(
    tmp_path: Path, two_sided: str
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(two_sided[:6000])
    options = {"model": "lstm+ngram", **OPTIONS, "steps": 6, "batch_size": 4, "sequence_length": 8}
    train(text, out=tmp_path / "whole", baseline=False, **options)
    stops = iter([None, None, 2])
    train(text, out=tmp_path / "parts", stop=lambda: next(stops, 2), **options)
    stopped = LanguageModel.load(tmp_path / "parts" / "last").model.state_dict()
    train(out=tmp_path / "parts", resume=True, baseline=False)
    whole, parts = (
        LanguageModel.load(tmp_path / name / "last").model.state_dict()
        for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    tables = [name for name in whole if name.startswith("tables.")]
    assert len(tables) == 2 + 3 * (OPTIONS["order"] - 1)
    assert all(torch.equal(stopped[name], whole[name]) for name in tables)
    assert not torch.equal(stopped["gate.weight"], whole["gate.weight"])


def test_of_a_text_too_short_for_pieces_both_parts_weigh_alike(tmp_path: Path) -> None:
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


def test_with_more_tokens_to_know_it_counts_anew() -> None:
    model = made()
    model.settle([text_of(200)])
    bigger = extended(model, VOCABULARY + 3)
    assert isinstance(bigger, MixtureModel)
    assert bigger.config.counted == () and not bigger.tables.seen_1.any()
    assert float(bigger.gate.bias) == 0
    old = model.network.get_parameter("embedding.weight")
    assert torch.equal(bigger.network.get_parameter("embedding.weight")[:VOCABULARY], old)
    bigger.read(np.append(text_of(500), [VOCABULARY + 2] * 3))
    assert bigger.tables.seen_1[VOCABULARY + 2] == 2  # after another, and after itself
    ids = torch.full((1, 1), VOCABULARY + 2)
    with torch.no_grad():
        p = bigger(ids, bigger.start(1))[0].softmax(-1).flatten()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    context = bigger.tables.follow(ids, torch.full((1, 2), -1))[0]
    shares = bigger.tables.distributions(context)[0]
    assert float(shares[VOCABULARY + 2]) > 2 * float(shares[2])
