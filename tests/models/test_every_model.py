"""What holds for every kind of model: each of ``KINDS`` in a small shape."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from textgen import LanguageModel, train
from textgen.config import KINDS, LSTMConfig, ModelConfig, NgramConfig
from textgen.inference.likelihood import Document, batch_token_statistics, mean_cross_entropy
from textgen.inference.steppers import make_stepper
from textgen.models import Model, build, count_parameters, weight_shapes
from textgen.models.mixture import MixtureModel
from textgen.tokenizers.base import EOS, UNK
from textgen.training.prepare import extended

VOCABULARY = 11
SMALL: dict[str, dict[str, Any]] = {
    "lstm": {"hidden_size": (7, 5), "embedding_size": 6, "ngram_embeddings": 3},
    "ngram": {"order": 4},
    "lstm+ngram": {"hidden_size": (7, 5), "embedding_size": 6, "order": 3},
    "gru": {"hidden_size": (7, 5), "embedding_size": 6},
    "rnn": {"hidden_size": (7, 5), "embedding_size": 0},
    "feedforward": {"window": 4, "hidden_size": (16, 9), "embedding_size": 6},
    "bag-of-words": {"window": 3, "hidden_size": (16,), "embedding_size": 6},
    "hmm": {"states": 24},
    "bidirectional": {"hidden_size": (7, 5), "embedding_size": 6},
}
"""Options that make a model of each kind small."""

CAUSAL = [name for name in KINDS if name != "bidirectional"]
TRAINED = [name for name, kind in KINDS.items() if not kind.counts]
TEXT = "the cat sat on the mat.\nthe dog sat on the cat.\na mat is a mat.\n" * 60


def read_text(vocabulary: int = VOCABULARY, tokens: int = 400) -> Any:
    """Ids in which there is something to learn: each is mostly its predecessor's neighbour."""
    random = np.random.default_rng(3)
    ids = np.cumsum(random.choice([1, 1, 1, 2, 5], tokens)) % vocabulary
    return ids.astype(np.uint16)


def made(name: str, *, dtype: torch.dtype = torch.float32) -> Model:
    """A small model of this kind whose weights all differ, with n-grams and a gate of a text."""
    model = build(ModelConfig.from_options(options(name)).resolved(VOCABULARY))
    model.initialize(generator := torch.Generator().manual_seed(0))
    model.initialize_from_text(read_text())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.2, generator=generator))
    if isinstance(model, MixtureModel):
        model.fit_mixture(np.split(read_text(), 4))
    return model.to(dtype).eval()


@pytest.mark.parametrize("name", KINDS)
def test_an_id_in_a_restored_state_lies_within_its_table(name: str) -> None:
    model = made(name)
    _, state = model(some_ids(), model.start(4))
    tensors = state.tensors()
    assert model.restore(tensors).tensors().keys() == tensors.keys()
    for key, tensor in tensors.items():
        for place in () if tensor.is_floating_point() else np.ndindex(*tensor.shape):
            for wrong in (-2, 10**6, 2**62, -(2**63)):
                forged = tensor.clone()
                forged[place] = wrong
                with pytest.raises(ValueError, match="out of range"):
                    model.restore({**tensors, key: forged})


def some_ids(time: int = 9, batch: int = 4, seed: int = 1) -> Tensor:
    return torch.randint(VOCABULARY, (time, batch), generator=torch.Generator().manual_seed(seed))


def test_every_kind_is_tried() -> None:
    assert SMALL.keys() == KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_probabilities_sum_to_one(name: str) -> None:
    model = made(name, dtype=torch.float64)
    hidden, _ = model.hidden_states_in_context(some_ids(), some_ids(seed=2), model.start(4))
    logits = model.logits(hidden)
    assert logits.shape == (9, 4, VOCABULARY)
    shares = torch.stack(
        [
            model.log_probs(hidden.flatten(0, 1), torch.full((36,), id)).exp()
            for id in range(VOCABULARY)
        ]
    )
    assert torch.allclose(shares.sum(0), torch.ones(36, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(shares.T.view(9, 4, -1), logits.softmax(-1), atol=1e-12)


@pytest.mark.parametrize("name", CAUSAL)
def test_step_by_step_is_the_whole_sequence(name: str) -> None:
    model = made(name, dtype=torch.float64)
    ids = some_ids(12)
    whole, last = model(ids, model.start(4))
    stepper = make_stepper(model)
    stepper.state = model.start(4)
    for place, row in enumerate(ids):
        found = stepper.step(row).log_softmax(-1)
        assert torch.allclose(found, whole[place].log_softmax(-1), atol=1e-10)
    assert bool(stepper.state.close_to(last, 1e-9).all())


@pytest.mark.parametrize("name", CAUSAL)
def test_a_state_is_kept_selected_replaced_and_restored_row_by_row(name: str) -> None:
    model = made(name, dtype=torch.float64)
    begun, ids = some_ids(5), some_ids(6, seed=2)
    _, state = model(begun, model.start(4))
    after = model(ids, state)[0]
    restored = model.restore({key: rows.clone() for key, rows in state.detach().tensors().items()})
    assert torch.equal(model(ids, restored)[0], after)
    rows = torch.tensor([2, 0, 2])
    assert torch.allclose(model(ids[:, rows], state.select(rows))[0], after[:, rows])
    kept = state.keep(torch.tensor([True, False, True, True]))
    fresh = model(ids, model.start(4))[0]
    assert torch.allclose(model(ids, kept)[0][:, 0], after[:, 0])
    assert torch.allclose(model(ids, kept)[0][:, 1], fresh[:, 1])
    mixed = model.start(4).replace(torch.tensor([3]), state.select(torch.tensor([3])))
    found = model(ids, mixed)[0]
    assert torch.allclose(found[:, 3], after[:, 3]) and torch.allclose(found[:, 0], fresh[:, 0])
    assert all(len(tensor) == 4 for tensor in state.tensors().values())
    assert bool(state.close_to(state, 0).all())
    assert not bool(model.start(4).close_to(state, 1e-9).all())


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    model = made(name, dtype=torch.float64).train()
    inputs, targets = some_ids(5, 3), some_ids(5, 3, seed=2)

    def loss() -> Tensor:
        hidden, _ = model.hidden_states_in_context(inputs, targets, model.start(3))
        return mean_cross_entropy(model, hidden, targets)

    weights = tuple(weight for weight in model.parameters() if weight.requires_grad)
    assert torch.autograd.gradcheck(
        lambda *_: loss(), weights, atol=1e-8, rtol=1e-6, fast_mode=True
    )


@pytest.mark.parametrize("name", KINDS)
def test_shapes_on_the_meta_device_are_those_of_the_weights(name: str) -> None:
    model = made(name)
    shapes = weight_shapes(model.config)
    state = model.state_dict(keep_vars=True)
    distinct = {id(weight): key for key, weight in reversed(state.items())}
    assert shapes == {key: tuple(state[key].shape) for key in distinct.values()}
    assert count_parameters(model.config) == sum(state[key].numel() for key in shapes)


@pytest.mark.parametrize("name", [name for name in TRAINED if "order" not in SMALL[name]])
def test_tokens_added_later_are_together_as_likely_as_an_unknown_one(name: str) -> None:
    model = extended(made(name, dtype=torch.float64), VOCABULARY + 3).double()
    ids = some_ids()
    ids[-1] = VOCABULARY + 1
    with torch.no_grad():
        shares = model(ids, model.start(4))[0].softmax(-1)
    assert torch.allclose(shares[..., VOCABULARY:].sum(-1), shares[..., UNK])


@pytest.mark.parametrize("name", CAUSAL)
def test_a_document_read_in_segments_is_one_read_through(name: str) -> None:
    model = made(name, dtype=torch.float64)
    ids = read_text(tokens=3000)
    straight = Document(model, EOS, segments=1).read(ids)
    side_by_side = Document(model, EOS, segments=8).read(ids)
    assert np.allclose(straight, side_by_side, atol=1e-9)
    alone = batch_token_statistics(
        model, np.r_[EOS, ids[:99]][:, None].astype(np.int64), ids[:100, None].astype(np.int64)
    )
    assert np.allclose(alone[:, 0, 0], straight[:100], atol=1e-9)


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each kind on a small text."""
    folder = tmp_path_factory.mktemp("models")
    text = folder / "text.txt"
    text.write_text(TEXT)
    train(text, out=folder / "run", **options(request.param), **length(request.param))
    return folder


def options(name: str) -> dict[str, Any]:
    return {"model": name, **SMALL[name], "baseline": False}


def length(name: str) -> dict[str, Any]:
    if KINDS[name].counts:
        return {}
    rate = max(0.04, KINDS[name].defaults.get("learning_rate", 0.0))
    return {"steps": 60, "batch_size": 4, "sequence_length": 16, "learning_rate": rate}


def test_it_learns_a_tiny_text(trained: Path) -> None:
    model = LanguageModel.load(trained / "run")
    assert model.header.validation is not None
    assert model.header.validation.loss < 0.6 * np.log(model.tokenizer.vocabulary_size)


def test_what_is_sampled_has_the_score_that_it_was_sampled_with(trained: Path) -> None:
    model = LanguageModel.load(trained / "run")
    if not model.model.is_causal:
        pytest.skip("it predicts from both sides")
    (sample,) = model.sample("the ", length=40, seed=5)
    text = "the " + sample.text
    if "\n" not in text:
        whole = model.score(text, context="sentence", eos=False)
        before = model.score("the ", context="sentence", eos=False)
        assert sample.log_prob == pytest.approx(whole.log_prob - before.log_prob, abs=4e-3)


def test_stopped_and_resumed_it_is_the_run_that_never_stopped(
    trained: Path, tmp_path: Path
) -> None:
    name = LanguageModel.load(trained / "run").header.model.model
    if KINDS[name].counts:
        train(out=trained / "run", resume=True)
        return
    stops = iter([None, None, None, None, 2])
    run = options(name) | length(name)
    train(trained / "text.txt", out=tmp_path / "parts", **run, stop=lambda: next(stops, 2))
    train(out=tmp_path / "parts", resume=True)
    whole, parts = (
        LanguageModel.load(folder / "last").model.state_dict()
        for folder in (trained / "run", tmp_path / "parts")
    )
    for key, weight in whole.items():
        assert torch.equal(weight, parts[key]), key


def test_its_checkpoint_has_its_configuration(trained: Path) -> None:
    model = LanguageModel.load(trained / "run")
    shape, size = model.header.model, model.tokenizer.vocabulary_size
    wanted = ModelConfig.from_options(options(shape.model)).resolved(size)
    if isinstance(shape, NgramConfig):
        shape = dataclasses.replace(shape, entries=())
    if isinstance(shape, LSTMConfig):
        shape = dataclasses.replace(shape, ngram_rows=wanted.ngram_rows)  # chosen for the text
    assert shape == wanted
    assert model.header.parameters == count_parameters(model.header.model)
