"""The model that reads both ways does not see what it predicts."""

from collections.abc import Collection

import numpy as np
import pytest
import torch
from torch import Tensor

from textgen.config import ModelConfig
from textgen.inference.likelihood import Document, batch_token_statistics
from textgen.models import Dropout, Model, build
from textgen.models.base import NOTHING
from textgen.models.bidirectional import sentence_suffixes
from textgen.scoring.scorer import SentenceReader
from textgen.tokenizers.base import EOS

VOCABULARY = 13


@pytest.fixture(scope="module")
def model() -> Model:
    options = {"model": "bidirectional", "hidden_size": (9, 8), "embedding_size": 7}
    made = build(ModelConfig.from_options(options).resolved(VOCABULARY))
    made.initialize(generator := torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.3, generator=generator))
    return made.double().eval()


def ids(tokens: int, seed: int = 0) -> Tensor:
    """Tokens of which none ends a sentence."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, VOCABULARY, (tokens,), generator=generator)


def read(model: Model, targets: Tensor) -> Tensor:
    """The distribution at each place (time, vocabulary) of a text."""
    inputs = torch.cat([targets.new_tensor([EOS]), targets[:-1]])
    hidden, _ = model.hidden_states_in_context(inputs[:, None], targets[:, None], model.start(1))
    return model.logits(hidden)[:, 0].log_softmax(-1)


@pytest.mark.parametrize(
    ("end", "changed", "differing"),
    [
        pytest.param(None, 5, {*range(12)} - {5}, id="all but the token itself"),
        pytest.param(7, 9, {8, 10, 11}, id="after a place no farther than its sentence"),
    ],
)
def test_a_token_changes_what_is_read_beside_it_in_its_sentence(
    model: Model, end: int | None, changed: int, differing: Collection[int]
) -> None:
    targets = ids(12)
    if end is not None:
        targets[end] = EOS
    other = targets.clone()
    other[changed] = 2 + (targets[changed] - 1) % (VOCABULARY - 2)
    assert other[changed] != targets[changed]
    moved = (read(model, targets) - read(model, other)).abs().amax(1) > 1e-9
    assert set(moved.nonzero().flatten().tolist()) == differing


def test_the_rest_of_each_sentence_is_read_from_its_end() -> None:
    targets = torch.tensor([[5, 6, EOS, 7, 8, 9], [EOS, EOS, 3, EOS, NOTHING, NOTHING]]).T
    groups, rows = sentence_suffixes(targets)
    # A rest of one token, and two of two.
    assert [ids.T.tolist() for ids in groups] == [[[EOS]], [[EOS, 6], [9, 8]]]
    assert rows.T.tolist() == [[4, 2, 0, 5, 3, 0], [0, 0, 1, 0, 0, 0]]


def test_without_what_comes_it_is_what_nothing_after_makes_it(model: Model) -> None:
    inputs = ids(6)[:, None]
    alone, state = model.hidden_states(inputs, model.start(1))
    nothing = torch.full((6, 1), NOTHING)
    around, same = model.hidden_states_in_context(inputs, nothing, model.start(1))
    assert torch.equal(alone, around) and bool(state.close_to(same, 0).all())


def test_a_sentence_has_one_score_alone_and_in_any_batch(model: Model) -> None:
    sentences = [
        np.append(ids(length, seed=length).numpy(), EOS).astype(np.uint16)
        for length in (3, 17, 0, 9, 30, 16)
    ]
    together = SentenceReader(model).read(sentences)
    for sentence, found in zip(sentences, together, strict=True):
        (alone,) = SentenceReader(model).read([sentence])
        assert np.allclose(alone, found, atol=1e-12)
        assert np.allclose(Document(model, EOS).token_statistics(sentence), found, atol=1e-12)


def test_a_document_of_short_sentences_reads_the_same_in_any_segments(model: Model) -> None:
    text = ids(3000).numpy()
    ends = np.cumsum(np.random.default_rng(0).integers(1, 60, 200))
    text[ends[ends < len(text)]] = EOS
    straight = Document(model, EOS, segments=1).read(text)
    assert np.allclose(straight, Document(model, EOS, segments=8).read(text), atol=1e-9)
    # What is after a place is read as in its sentence alone; what is before it, from far back.
    end = int(np.flatnonzero(text == EOS)[0]) + 1
    first = text[:end, None].astype(np.int64)
    alone = batch_token_statistics(model, np.r_[[[EOS]], first[:-1]], first)
    assert np.allclose(straight[:end], alone[:, 0, 0], atol=1e-9)


def test_dropout_changes_what_is_read(model: Model) -> None:
    inputs, targets = ids(9)[:, None], ids(9, seed=1)[:, None]
    dropout = Dropout(0.5, torch.Generator().manual_seed(0))
    dropped, _ = model.hidden_states_in_context(inputs, targets, model.start(1), dropout)
    whole, _ = model.hidden_states_in_context(inputs, targets, model.start(1))
    assert not torch.equal(dropped, whole)
