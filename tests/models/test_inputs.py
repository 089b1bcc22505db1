"""What a network is given for a token: one-hot vectors, and embeddings that are told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textgen import LanguageModel, train
from textgen.config import ModelConfig
from textgen.errors import UsageError
from textgen.models import Dropout, Model, build
from textgen.models.recurrent import OneHot, begin_with_vectors
from textgen.training.autotune import flop_per_token
from textgen.training.prepare import extended

RECURRENT = ("lstm", "gru", "rnn")


def one_hot(name: str, vocabulary: int = 11) -> Model:
    config = ModelConfig(model=name, hidden_size=(7, 5), embedding_size=0).resolved(vocabulary)
    model = build(config).double()
    model.initialize(torch.Generator().manual_seed(0))
    return model


def test_a_one_hot_vector_is_1_at_its_id() -> None:
    vectors = OneHot(4)(torch.tensor([[2, 0], [3, 3]]))
    assert vectors.tolist() == [[[0, 0, 1, 0], [1, 0, 0, 0]], [[0, 0, 0, 1], [0, 0, 0, 1]]]


@pytest.mark.parametrize("name", RECURRENT)
def test_one_hot_input_is_an_embedding_that_is_the_identity(name: str) -> None:
    model = one_hot(name)
    wide = ModelConfig(model=name, hidden_size=(7, 5), embedding_size=11, tie=False).resolved(11)
    other = build(wide).double()
    other.load_state_dict(model.state_dict() | {"embedding.weight": torch.eye(11)})
    ids = torch.randint(11, (9, 3), generator=torch.Generator().manual_seed(1))
    assert torch.allclose(model(ids, model.start(3))[0], other(ids, other.start(3))[0])
    assert "embedding.weight" not in model.state_dict()


@pytest.mark.parametrize("name", RECURRENT)
def test_of_many_tokens_those_that_are_there_are_enough(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = torch.randint(11, (9, 3), generator=torch.Generator().manual_seed(1)) % 5
    found = []
    for most in (512, 4):
        monkeypatch.setattr("textgen.models.recurrent.MOST_COLUMNS", most)
        model = one_hot(name)
        logits, _ = model(ids, model.start(3))
        logits.square().sum().backward()
        found.append([logits.detach(), *(p.grad for p in model.parameters())])
    for whole, some in zip(*found, strict=True):
        torch.testing.assert_close(whole, some)
    first = found[0][1]
    assert first is not None and bool((first[:, 5:] == 0).all()) and bool(first[:, :5].any())


def test_dropout_silences_a_token_for_a_window() -> None:
    model = one_hot("lstm")
    dropout = Dropout(0.5, torch.Generator().manual_seed(0))
    ids = torch.arange(11).repeat(3).unsqueeze(1).expand(33, 4)  # three times through
    there = dropout(model.get_submodule("embedding")(ids)).amax(-1) > 0
    assert torch.equal(there[:11], there[11:22]) and torch.equal(there[:11], there[22:])
    assert 10 < int(there[:11].sum()) < 34


def test_only_the_columns_that_are_multiplied_cost_something() -> None:
    def cost(vocabulary: int) -> float:
        config = ModelConfig(hidden_size=(100,), embedding_size=0, tie=False)
        return flop_per_token(config.resolved(vocabulary))

    assert cost(66) == 6 * (4 * 100 * (66 + 100) + 100 * 66)
    assert cost(10_000) == 6 * (4 * 100 * (512 + 100) + 100 * 10_000)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_new_token_of_one_hot_input_begins_as_unknown(name: str) -> None:
    model = one_hot(name)
    bigger = extended(model, 14).double()
    ids = torch.tensor([[3], [0], [7]])
    unknown, new = (bigger(torch.tensor([[3], [id], [7]]), bigger.start(1))[0] for id in (0, 13))
    assert torch.allclose(unknown, new)
    assert torch.allclose(bigger(ids, bigger.start(1))[0][..., :11], model(ids, model.start(1))[0])


def test_one_hot_input_has_nothing_to_tie() -> None:
    with pytest.raises(UsageError, match="--tie and --embedding-size 0 cannot both"):
        ModelConfig(tie=True, embedding_size=0, hidden_size=(8,))
    assert ModelConfig(embedding_size=0).resolved(5000).tie is False


@pytest.mark.parametrize("name", RECURRENT)
def test_a_run_with_one_hot_input_is_saved_resumed_and_writes(name: str, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat.\n" * 60)
    options: dict[str, Any] = {"model": name, "hidden_size": 12, "embedding_size": 0}
    options |= {"batch_size": 4, "sequence_length": 16, "learning_rate": 0.02}
    train(text, out=tmp_path / "run", steps=30, **options)
    train(out=tmp_path / "run", resume=True, steps=40)
    model = LanguageModel.load(tmp_path / "run")
    assert "one-hot" in model.header.model.description
    assert model.header.validation is not None and model.header.validation.loss < 2
    (sample,) = model.sample(length=30, seed=3, sentences=1)
    score = model.score(sample.text, context="sentence", eos=sample.finish_reason == "eos")
    assert sample.log_prob == pytest.approx(score.log_prob, abs=3e-3)


def test_vectors_that_are_told_stay_and_the_others_become_as_large() -> None:
    embedding = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    told = np.full((2, 8), 0.1, np.float32)
    begin_with_vectors(embedding, np.array([5, 3]), told)
    assert torch.equal(embedding[[5, 3]], torch.from_numpy(told))
    rest = torch.cat([embedding[:3], embedding[6:]])
    assert float(rest.square().mean().sqrt()) == pytest.approx(0.1, rel=0.05)
