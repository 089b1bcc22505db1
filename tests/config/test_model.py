"""What the model's shape becomes for a vocabulary, and how it is described."""

from typing import Any

import pytest

from textgen.config import LSTMConfig, ModelConfig
from textgen.errors import UsageError


@pytest.mark.parametrize(
    ("config", "vocabulary", "embedding", "tie"),
    [
        (LSTMConfig(), 66, 128, False),
        (LSTMConfig(), 1000, 128, False),
        (LSTMConfig(), 1001, 512, True),
        (LSTMConfig(hidden_size=(64,)), 66, 64, False),
        (LSTMConfig(hidden_size=(256, 64)), 5000, 64, True),
        (LSTMConfig(embedding_size=100), 5000, 100, False),
        (LSTMConfig(embedding_size=512), 5000, 512, True),
        (LSTMConfig(tie=False), 5000, 128, False),
        (LSTMConfig(tie=True), 66, 512, True),
    ],
)
def test_a_shape_is_settled_by_the_vocabulary(
    config: ModelConfig, vocabulary: int, embedding: int, tie: bool
) -> None:
    settled = config.resolved(vocabulary)
    assert (settled.embedding_size, settled.tie) == (embedding, tie)
    assert settled.vocabulary_size == vocabulary
    assert settled.hidden_size == (config.hidden_size or (512,))
    assert settled.resolved(vocabulary) == settled


@pytest.mark.parametrize(
    ("options", "description"),
    [
        ({}, "lstm 512, embedding 128"),
        ({"hidden_size": (256, 64), "tie": True}, "lstm 256,64, embedding 64 (tied)"),
        (
            {"model": "feedforward", "window": 9, "hidden_size": (32,), "embedding_size": 8},
            "feedforward 32, embedding 8, 9 tokens",
        ),
        ({"model": "hmm", "states": 7}, "hmm, 7 states"),
        ({"model": "ngram", "order": 5}, "ngram, order 5"),
    ],
)
def test_a_model_is_told_by_its_sizes(options: dict[str, Any], description: str) -> None:
    assert ModelConfig.from_options(options).resolved(66).description == description


def test_the_width_of_a_tied_embedding_is_the_layers_width_where_none_is_given() -> None:
    assert LSTMConfig(tie=True, embedding_size=96).resolved(66).hidden_size == (96,)
    wider = {"tie": True, "embedding_size": 96, "hidden_size": (128, 96)}
    assert ModelConfig.from_options(wider).resolved(66).hidden_size == (128, 96)
    assert LSTMConfig(embedding_size=96).resolved(66).hidden_size == (512,)


def test_tying_what_cannot_be_tied_names_both_options() -> None:
    with pytest.raises(UsageError, match=r"--tie.*--embedding-size 100.*--hidden-size 512"):
        LSTMConfig(tie=True, embedding_size=100, hidden_size=(512,))


@pytest.mark.parametrize("kind", ["feedforward", "bag-of-words"])
def test_a_model_without_one_hot_input_refuses_embeddings_of_no_width(kind: str) -> None:
    with pytest.raises(UsageError, match=f"--embedding-size 0 is no option of --model {kind}"):
        ModelConfig.from_options({"model": kind, "embedding_size": 0})
