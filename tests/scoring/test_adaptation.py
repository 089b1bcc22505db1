"""A model that learns from what it has scored."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

from textgen.config import AdaptationConfig, ModelConfig
from textgen.errors import UsageError
from textgen.models import Model, build
from textgen.scoring import adaptation
from textgen.scoring.adaptation import AdaptingReader
from textgen.scoring.scorer import DocumentReader
from textgen.tokenizers.base import EOS

MakeModel = Callable[..., Model]
Ids = npt.NDArray[np.uint16]
BLOCK = 32


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "BLOCK", BLOCK)
    monkeypatch.setattr(adaptation, "LEARNED", BLOCK // 2)
    monkeypatch.setattr(adaptation, "WINDOW", 8)
    monkeypatch.setattr(adaptation, "CONTEXT", 2)


def sentences(*lengths: int, seed: int = 0) -> list[Ids]:
    """Sentences of so many tokens, <EOS> among them."""
    random = np.random.default_rng(seed)
    return [np.append(random.integers(2, 11, n - 1), EOS).astype(np.uint16) for n in lengths]


def repeated(times: int) -> list[Ids]:
    return sentences(13, 9) * times


def adapted_log_probs(
    model: Model, given: Iterable[Ids], rate: float = 1.5
) -> Iterator[npt.NDArray[np.float64]]:
    """A sentence at a time."""
    config = AdaptationConfig(adapt=True, adapt_rate=rate)
    reader = AdaptingReader(model, config=config)
    for each in given:
        yield from (read[:, 0] for read in reader.read([each]))
    yield from (read[:, 0] for read in reader.finish())


def document_log_probs(model: Model, given: list[Ids]) -> Iterator[npt.NDArray[np.float64]]:
    return (read[:, 0] for read in DocumentReader(model).read(given))


def flat(results: Iterator[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    return np.concatenate(list(results))


def test_without_learning_it_is_the_score_in_document_context(model: Model) -> None:
    assert list(adapted_log_probs(model, [])) == []
    given = sentences(5, 1, 200, 40, 64, 7)
    expected = list(document_log_probs(model, given))
    found = list(adapted_log_probs(model, given, rate=0))
    assert [len(each) for each in found] == [len(each) for each in given]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float64
        assert np.abs(one - other).max() < 1e-5


@pytest.mark.parametrize("place", [0, 1, 31, 32, 33, 64, 100, 159])
def test_no_token_is_scored_by_what_comes_after_it(model: Model, place: int) -> None:
    """In its own window and block least of all, for that is what is learned from next."""
    text = np.concatenate(repeated(10))[:160]
    other = text.copy()
    other[place:] = np.random.default_rng(3).integers(2, 11, len(text) - place)
    other[place] = 2 + (text[place] - 1) % 9
    assert other[place] != text[place]
    one, changed = (flat(adapted_log_probs(model, [each], rate=1)) for each in (text, other))
    assert (one[:place] == changed[:place]).all()
    assert one[place] != changed[place]


def test_the_model_is_left_as_it_was(model: Model) -> None:
    model.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    list(adapted_log_probs(model, repeated(10)))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def test_a_text_is_scored_the_same_each_time_and_however_it_is_cut(model: Model) -> None:
    text = np.concatenate(repeated(12))
    once = flat(adapted_log_probs(model, [text]))
    assert (once == flat(adapted_log_probs(model, [text]))).all()
    parts = np.split(text, [1, 2, 31, 32, 33, 150])
    assert (once == flat(adapted_log_probs(model, parts))).all()


@pytest.mark.parametrize("tie", [True, False])
def test_a_gradient_that_is_not_finite_is_not_learned_from(
    make_model: MakeModel, tie: bool
) -> None:
    """The loss of such logits is finite only where the target is the most probable token."""
    model = make_model(tie=tie, hidden=(6,))
    with torch.no_grad():
        model.output.bias[3] = 1e30
        model.output.weight[4] = torch.inf
    given = sentences(3 * BLOCK)
    expected = flat(document_log_probs(model, given))
    found = flat(adapted_log_probs(model, given))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_text_that_repeats_itself_becomes_likelier_though_one_block_cannot_be_learned_from(
    model: Model,
) -> None:
    """An <UNK> that has no finite embedding stands in one block only."""
    with torch.no_grad():
        model.embedding.weight[0] = 3e38
    clean = np.concatenate(repeated(40))
    spoilt = clean.copy()
    spoilt[BLOCK : 2 * BLOCK] = 0
    found = flat(adapted_log_probs(model, [spoilt], rate=1))
    static = flat(document_log_probs(model, [clean]))
    assert found[-200:].mean() > static[-200:].mean() + 0.3


def test_an_endless_text_is_scored_as_it_comes(model: Model) -> None:
    taken = 0

    def endless() -> Iterator[Ids]:
        nonlocal taken
        while True:
            taken += 1
            yield sentences(8)[0]

    results = adapted_log_probs(model, endless())
    for number in range(1, 40):
        assert len(next(results)) == 8
        assert taken - number < BLOCK // 8


def test_a_precision_that_loses_what_is_learned_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(UsageError, match=r"lost in rounding.*--precision float32"):
        AdaptingReader(make_model(dtype=torch.bfloat16))
    assert len(next(adapted_log_probs(make_model(dtype=torch.float64), sentences(50)))) == 50


def test_a_model_that_counts_has_nothing_to_adapt() -> None:
    config = ModelConfig.from_options({"model": "ngram", "order": 2}).resolved(5)
    with pytest.raises(UsageError, match=r"ngram cannot adapt .*it learns by counting"):
        AdaptingReader(build(config))
