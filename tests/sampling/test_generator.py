from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from textgen.config import SamplingConfig
from textgen.models import Model
from textgen.models.likelihood import Document
from textgen.sampling.generator import Drawn, generate
from textgen.tokenizers.base import EOS, UNK

MakeModel = Callable[..., Model]
PROMPT = [4, 7, 2]


def written(
    model: Model,
    indices: Sequence[int] = (0,),
    prompt: Sequence[int] | None = None,
    first: npt.NDArray[np.bool_] | None = None,
    **options: object,
) -> dict[int, list[Drawn]]:
    """What each sample wrote, by its index."""
    config = SamplingConfig.from_options({"length": 40} | options)
    samples: dict[int, list[Drawn]] = {index: [] for index in indices}
    if prompt is None:
        prompt = [id for id in PROMPT if id < model.config.vocabulary_size]
    for drawn in generate(model, prompt, config, indices, first):
        samples[drawn.index].append(drawn)
    return samples


def ids_of(sample: list[Drawn]) -> list[int]:
    return [drawn.id for drawn in sample]


@torch.no_grad()
def memoryless(model: Model, shares: Sequence[float]) -> Model:
    """The model with the same distribution after every text."""
    model.get_parameter("output.weight").zero_()
    model.get_parameter("output.bias").copy_(torch.tensor(shares).log())
    return model


@pytest.fixture
def double(make_model: MakeModel) -> Model:
    return make_model(dtype=torch.float64)


def test_the_same_seed_writes_the_same_text_and_another_seed_another(model: Model) -> None:
    first, again, other = (ids_of(written(model, seed=seed)[0]) for seed in (5, 5, 6))
    assert first == again != other


def test_samples_differ_by_their_index(model: Model) -> None:
    samples = written(model, range(5))
    assert len({tuple(ids_of(sample)) for sample in samples.values()}) == 5


@pytest.mark.parametrize("together", [(3,), (3, 4), (0, 1, 2, 3, 4, 5, 6), (9, 3, 100)])
def test_a_sample_depends_on_its_seed_and_index_alone(
    double: Model, together: tuple[int, ...]
) -> None:
    alone = written(double, (3,), length=300, sentences=20)[3]
    beside = written(double, together, length=300, sentences=20)[3]
    assert ids_of(beside) == ids_of(alone)
    # The states go on with their own samples when others end.
    gaps = [abs(a.log_prob - b.log_prob) for a, b in zip(alone, beside, strict=True)]
    assert max(gaps) < 1e-10


def test_a_longer_sample_begins_as_a_shorter_one(double: Model) -> None:
    short, long = (ids_of(written(double, length=length)[0]) for length in (30, 600))
    assert long[:30] == short


def test_temperature_zero_writes_the_likeliest_token_every_time(double: Model) -> None:
    ids = ids_of(written(double, temperature=0, allow_unk=True)[0])
    assert ids_of(written(double, temperature=0, allow_unk=True, seed=9)[0]) == ids
    state, read = double.start(1), [EOS, *PROMPT, *ids]
    logits, _ = double(torch.tensor(read).unsqueeze(1), state)
    assert logits[len(PROMPT) : -1, 0].argmax(-1).tolist() == ids


def test_the_prompt_is_read(double: Model) -> None:
    prompts = ([], [4], [4, 7])
    assert len({written(double, prompt=prompt, top_k=1)[0][0].log_prob for prompt in prompts}) == 3


def test_unknown_is_never_written_unless_allowed(make_model: MakeModel) -> None:
    model = memoryless(make_model(4), [0.97, 0.01, 0.01, 0.01])
    for options in ({}, {"top_k": 1}, {"top_p": 0.5}, {"temperature": 0}):
        assert UNK not in ids_of(written(model, **options)[0])
    assert UNK in ids_of(written(model, allow_unk=True)[0])
    assert set(ids_of(written(model, allow_unk=True, temperature=0)[0])) == {UNK}


def test_the_mask_of_first_ids_holds_for_the_first_alone(make_model: MakeModel) -> None:
    model = memoryless(make_model(6), [1 / 6] * 6)
    first = np.array([False, False, False, True, True, False])
    samples = written(model, range(50), first=first)
    assert {sample[0].id for sample in samples.values()} == {3, 4}
    assert {drawn.id for sample in samples.values() for drawn in sample[1:]} == {1, 2, 3, 4, 5}


def test_the_mask_does_not_let_unknown_in(make_model: MakeModel) -> None:
    model = memoryless(make_model(4), [0.97, 0.01, 0.01, 0.01])
    first = np.array([True, False, True, False])
    assert all(s[0].id == 2 for s in written(model, range(20), first=first, length=1).values())


@pytest.mark.parametrize("length", [1, 2, 300])
def test_a_sample_ends_at_its_length(model: Model, length: int) -> None:
    sample = written(model, length=length)[0]
    assert len(sample) == length
    assert [drawn.finished for drawn in sample] == [None] * (length - 1) + ["length"]


@pytest.mark.parametrize("sentences", [1, 3])
def test_a_sample_ends_at_its_last_sentence(model: Model, sentences: int) -> None:
    samples = written(model, range(20), sentences=sentences, length=10_000)
    assert len({len(sample) for sample in samples.values()}) > 3
    for sample in samples.values():
        assert sample[-1].finished == "eos"
        assert sample[-1].id == EOS
        assert ids_of(sample).count(EOS) == sentences
        assert all(drawn.finished is None for drawn in sample[:-1])


def test_eos_at_the_very_length_ends_the_sentence(make_model: MakeModel) -> None:
    model = memoryless(make_model(3), [0.0, 1.0, 0.0])
    assert written(model, length=2, sentences=2)[0][-1].finished == "eos"
    assert written(model, length=2, sentences=3)[0][-1].finished == "length"
    assert written(model, length=2)[0][-1].finished == "length"


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.5, "top_k": 4, "top_p": 0.9}, {"temperature": 0}]
)
def test_log_prob_is_the_one_the_scorer_gives_whatever_the_decoding(
    make_model: MakeModel, options: dict[str, float], dtype: torch.dtype, near: float
) -> None:
    model = make_model(dtype=dtype)
    for sample in written(model, range(3), length=200, **options).values():
        text = np.array(PROMPT + ids_of(sample), np.uint16)
        scored = Document(model, first=EOS).read(text)[len(PROMPT) :]
        assert np.abs(scored - [drawn.log_prob for drawn in sample]).max() < near


def test_logits_of_1e30_are_drawn_from(make_model: MakeModel) -> None:
    model = make_model()
    with torch.no_grad():
        model.get_parameter("output.bias").copy_(torch.linspace(-1e30, 1e30, 11))
    sample = written(model, allow_unk=True)[0]
    assert set(ids_of(sample)) == {10}
    assert all(drawn.log_prob == 0 for drawn in sample)


def test_what_is_written_follows_the_distribution(make_model: MakeModel) -> None:
    shares = np.array([0.1, 0.05, 0.2, 0.35, 0.3])
    model = memoryless(make_model(5), shares.tolist())
    samples = written(model, range(200), length=300, allow_unk=True)
    ids = [drawn.id for sample in samples.values() for drawn in sample]
    expected = shares * len(ids)
    statistic = ((np.bincount(ids, minlength=5) - expected) ** 2 / expected).sum()
    assert statistic < 18.5, "chi-square, 4 degrees of freedom, one in a thousand"
    firsts = np.bincount([sample[0].id for sample in samples.values()], minlength=5)
    assert ((firsts - shares * 200) ** 2 / (shares * 200)).sum() < 18.5
