from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
import pytest
import torch

from textgen.inference.likelihood import Alternatives, Document, Entropy, Rank, TokenStatistics
from textgen.models import Model
from textgen.scoring import scorer as reading
from textgen.scoring.scorer import DocumentReader, Reader, SentenceReader
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


def by_sentence(model: Model, given: list[Ids]) -> list[TokenStatistics]:
    return [read[:, 0] for read in SentenceReader(model).read(given)]


def by_document(model: Model, given: list[Ids], part: int) -> list[TokenStatistics]:
    """The sentences given ``part`` at a time."""
    reader, waiting = DocumentReader(model), iter(given)
    groups: Iterator[list[Ids]] = iter(lambda: list(islice(waiting, part)), [])
    return [read[:, 0] for group in groups for read in reader.read(group)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_batched_equals_one_by_one_in_the_order_given(
    make_model: MakeModel, dtype: torch.dtype
) -> None:
    model, given = make_model(dtype=dtype), mixed(300)
    results = SentenceReader(model).read(given)
    assert len(results) == 300
    for ids, read in zip(given, results, strict=True):
        assert read.shape == (len(ids), 1)
        assert read.dtype == np.float64
        assert np.abs(read[:, 0] - alone(model, ids)).max() < EXACT[dtype]


def test_order_is_kept_where_batches_are_small_and_some_sentences_are_long(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_LONG", 40)
    monkeypatch.setattr(reading, "_BATCH_TOKENS", 100)
    model, given = make_model(dtype=torch.float64), mixed(100)
    assert sum(len(ids) > 40 for ids in given) > 10
    for ids, log_probs in zip(given, by_sentence(model, given), strict=True):
        assert np.abs(log_probs - alone(model, ids)).max() < 1e-10


def test_a_sentence_longer_than_a_batch_is_read_beside_short_ones(make_model: MakeModel) -> None:
    model, given = make_model(dtype=torch.float64), sentences(3, 5000, 2, 4096, 4097, 1)
    for ids, log_probs in zip(given, by_sentence(model, given), strict=True):
        assert np.abs(log_probs - alone(model, ids)).max() < 1e-10


def test_the_empty_sentence_is_its_eos(make_model: MakeModel) -> None:
    model = make_model(dtype=torch.float64)
    (only,) = by_sentence(model, sentences(1))
    logits, _ = model(torch.tensor([[EOS]]), model.start(1))
    assert only == pytest.approx([logits[0, 0].log_softmax(-1)[EOS].item()], abs=1e-12)


@pytest.mark.parametrize("part", [1, 7, 60])
@pytest.mark.parametrize("dtype", DTYPES)
def test_document_context_equals_one_pass_over_the_whole_text(
    make_model: MakeModel, dtype: torch.dtype, part: int
) -> None:
    model, given = make_model(dtype=dtype), mixed(60)
    results = by_document(model, given, part)
    assert [len(log_probs) for log_probs in results] == [len(ids) for ids in given]
    whole = alone(model, np.concatenate(given))
    assert np.abs(np.concatenate(results) - whole).max() < EXACT[dtype]


def test_context_matters_from_the_second_sentence_on(make_model: MakeModel) -> None:
    model, given = make_model(dtype=torch.float64), sentences(10, 10, 10)
    alone, carried = by_sentence(model, given), by_document(model, given, 3)
    assert np.abs(alone[0] - carried[0]).max() < 1e-10
    assert np.abs(alone[1] - carried[1]).max() > 1e-3


def test_the_same_sentence_scores_the_same_wherever_it_stands(make_model: MakeModel) -> None:
    model, given = make_model(dtype=torch.float64), mixed(50)
    first, *_, last = by_sentence(model, [given[7], *given, given[7]])
    assert np.abs(first - last).max() < 1e-10


@pytest.mark.parametrize("reader", [SentenceReader, DocumentReader])
def test_gauges_are_read_at_each_token_whatever_stands_beside_it(
    make_model: MakeModel, reader: Callable[..., Reader]
) -> None:
    model, given = make_model(dtype=torch.float64), [*sentences(400, seed=3), *mixed(9)]
    read = reader(model, (Entropy(), Rank(), Alternatives(3))).read(given)
    for index, ids in enumerate(given):
        before = np.concatenate(given[:index]) if reader is DocumentReader and index else ids[:0]
        inputs = np.concatenate([[EOS], before, ids])[:-1].astype(np.int64)
        logits, _ = model(torch.from_numpy(inputs).unsqueeze(1), model.start(1))
        p = logits[-len(ids) :, 0].softmax(-1).detach().numpy()  # (tokens, vocabulary)
        came = p[np.arange(len(ids)), ids]
        assert np.abs(read[index][:, 0] - np.log(came)).max() < 1e-9
        assert np.abs(read[index][:, 1] + (p * np.log(p)).sum(-1)).max() < 1e-9
        assert (read[index][:, 2] == 1 + (p > came[:, None]).sum(-1)).all()
        best = np.argsort(-p, axis=-1)[:, :3]
        assert (read[index][:, 3:6] == best).all()
        likeliest = np.log(np.take_along_axis(p, best, -1))
        assert np.abs(read[index][:, 6:] - likeliest).max() < 1e-9


def test_logits_of_1e30_give_numbers(make_model: MakeModel) -> None:
    model = make_model()
    with torch.no_grad():
        model.get_parameter("output.weight").mul_(1e30)
    (read,) = SentenceReader(model, (Entropy(), Rank())).read(sentences(20))
    assert not np.isnan(read).any()
    assert (read[:, 1] >= 0).all()
