from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

from textgen.models import Model
from textgen.models.likelihood import Document
from textgen.scoring import scorer
from textgen.scoring.scorer import document_log_probs, sentence_log_probs
from textgen.tokenizers.base import EOS

MakeModel = Callable[..., Model]
Ids = npt.NDArray[np.uint16]
EXACT = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = list(EXACT)


def sentences(*lengths: int, seed: int = 0) -> list[Ids]:
    """Sentences of so many tokens, <EOS> among them."""
    random = np.random.default_rng(seed)
    return [np.append(random.integers(2, 11, n - 1), EOS).astype(np.uint16) for n in lengths]


def mixed(count: int) -> list[Ids]:
    return sentences(*np.random.default_rng(1).integers(1, 60, count).tolist())


def alone(model: Model, ids: Ids) -> npt.NDArray[np.float64]:
    return Document(model, first=EOS).read(ids)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batched_equals_one_by_one_in_the_order_given(
    make_model: MakeModel, dtype: torch.dtype
) -> None:
    model, given = make_model(dtype=dtype), mixed(300)
    results = list(sentence_log_probs(model, given))
    assert len(results) == 300
    for ids, log_probs in zip(given, results, strict=True):
        assert log_probs.shape == ids.shape
        assert log_probs.dtype == np.float64
        assert np.abs(log_probs - alone(model, ids)).max() < EXACT[dtype]


def test_order_is_kept_where_groups_are_small_and_some_sentences_are_long(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer, "_LONG", 40)
    monkeypatch.setattr(scorer, "_READ_AHEAD", 7)
    monkeypatch.setattr(scorer, "_BATCH_TOKENS", 100)
    model, given = make_model(dtype=torch.float64), mixed(100)
    assert sum(len(ids) > 40 for ids in given) > 10
    results = list(sentence_log_probs(model, given))
    for ids, log_probs in zip(given, results, strict=True):
        assert np.abs(log_probs - alone(model, ids)).max() < 1e-10


def test_a_sentence_longer_than_a_batch_is_read_beside_short_ones(make_model: MakeModel) -> None:
    model, given = make_model(dtype=torch.float64), sentences(3, 5000, 2, 4096, 4097, 1)
    for ids, log_probs in zip(given, sentence_log_probs(model, given), strict=True):
        assert np.abs(log_probs - alone(model, ids)).max() < 1e-10


def test_the_empty_sentence_is_its_eos(make_model: MakeModel) -> None:
    model = make_model(dtype=torch.float64)
    (only,) = sentence_log_probs(model, sentences(1))
    logits, _ = model(torch.tensor([[EOS]]), model.start(1))
    assert only == pytest.approx([logits[0, 0].log_softmax(-1)[EOS].item()], abs=1e-12)


def test_no_sentences_are_no_scores(model: Model) -> None:
    assert list(sentence_log_probs(model, [])) == []
    assert list(document_log_probs(model, [])) == []


def test_sentences_are_read_as_they_are_needed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer, "_READ_AHEAD", 5)
    taken = 0

    def endless() -> Iterator[Ids]:
        nonlocal taken
        while True:
            taken += 1
            yield sentences(4)[0]

    results = sentence_log_probs(model, endless())
    for _ in range(6):
        next(results)
    assert taken == 10


def test_a_document_is_read_as_it_is_needed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "_PART_TOKENS", 20)
    taken = 0

    def endless() -> Iterator[Ids]:
        nonlocal taken
        while True:
            taken += 1
            yield sentences(4)[0]

    results = document_log_probs(model, endless())
    for _ in range(6):
        next(results)
    assert taken == 10


@pytest.mark.parametrize("part", [1, 50, 2**18])
@pytest.mark.parametrize("dtype", DTYPES)
def test_document_context_equals_one_pass_over_the_whole_text(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, part: int
) -> None:
    monkeypatch.setattr(scorer, "_PART_TOKENS", part)
    model, given = make_model(dtype=dtype), mixed(60)
    results = list(document_log_probs(model, given))
    assert [len(log_probs) for log_probs in results] == [len(ids) for ids in given]
    whole = alone(model, np.concatenate(given))
    assert np.abs(np.concatenate(results) - whole).max() < EXACT[dtype]


def test_context_matters_from_the_second_sentence_on(make_model: MakeModel) -> None:
    model, given = make_model(dtype=torch.float64), sentences(10, 10, 10)
    by_sentence = list(sentence_log_probs(model, given))
    by_document = list(document_log_probs(model, given))
    assert np.abs(by_sentence[0] - by_document[0]).max() < 1e-10
    assert np.abs(by_sentence[1] - by_document[1]).max() > 1e-3


def test_the_same_sentence_scores_the_same_wherever_it_stands(make_model: MakeModel) -> None:
    model, given = make_model(dtype=torch.float64), mixed(50)
    first, *_, last = sentence_log_probs(model, [given[7], *given, given[7]])
    assert np.abs(first - last).max() < 1e-10
