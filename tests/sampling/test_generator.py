import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from textgen.config import SamplingConfig
from textgen.inference.likelihood import Document
from textgen.inference.native import Network, library
from textgen.models import Model
from textgen.results import FinishReason
from textgen.sampling.generator import NOTHING, Drawn, Request, generate
from textgen.sampling.stream import Guide
from textgen.tokenizers.base import EOS, UNK, Mask

MakeModel = Callable[..., Model]
PROMPT = [4, 7, 2]


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def native(request: pytest.FixtureRequest) -> None:
    """Everything holds with compiled code and without."""
    if request.param == "compiled":
        request.getfixturevalue("compiled")


class Anything:
    """A guide that lets all ids come but ``<UNK>``, and ends nothing."""

    def __init__(self, vocabulary_size: int, allow_unk: bool) -> None:
        self._allowed = np.ones(vocabulary_size, np.bool_)
        self._allowed[UNK] = allow_unk

    def allowed(self) -> Mask:
        return self._allowed

    def take(self, id: int) -> FinishReason | None:
        return None

    def copy(self) -> "Anything":
        return self


def written(
    model: Model,
    indices: Sequence[int] = (0,),
    prompt: Sequence[int] | None = None,
    guide: Callable[[int], Guide] | None = None,
    together: int = 64,
    **options: Any,
) -> dict[int, list[Drawn]]:
    """What each sample wrote, by its index. guide: makes that of each."""
    config = SamplingConfig.from_options({"length": 40} | options)
    samples: dict[int, list[Drawn]] = {index: [] for index in indices}
    size = model.config.vocabulary_size
    if prompt is None:
        prompt = [id for id in PROMPT if id < size]
    anything = Anything(size, config.allow_unk)
    requests = [
        Request(index, tuple(prompt), anything if guide is None else guide(index))
        for index in indices
    ]
    for drawn in generate(model, config, requests, together=together):
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


@pytest.mark.parametrize("indices", [(3,), (3, 4), (0, 1, 2, 3, 4, 5, 6), (9, 3, 100)])
@pytest.mark.parametrize("together", [1, 2, 64])
def test_a_sample_depends_on_its_seed_and_index_alone(
    double: Model, indices: tuple[int, ...], together: int
) -> None:
    alone = written(double, (3,), length=300, sentences=20)[3]
    beside = written(double, indices, together=together, length=300, sentences=20)[3]
    assert ids_of(beside) == ids_of(alone)
    # The states go on with their own samples when others end and new ones begin.
    gaps = [abs(a.log_prob - b.log_prob) for a, b in zip(alone, beside, strict=True)]
    assert max(gaps) < 1e-10


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": (1.0, 0.3, 0.0)},
        {"repetition_penalty": 1.5, "frequency_penalty": 0.3},
        {"no_repeat_ngram": 3},
        {"top_p": 0.9, "min_p": 0.05, "typical": 0.9},
    ],
)
def test_nor_does_it_with_rules_that_look_back(double: Model, options: dict[str, Any]) -> None:
    options |= {"sentences": 5, "length": 100}
    many = written(double, range(9), together=4, **options)
    for index in range(9):
        assert ids_of(many[index]) == ids_of(written(double, (index,), **options)[index])


def test_no_more_are_written_at_once_than_asked_and_each_begins_as_one_ends(model: Model) -> None:
    config = SamplingConfig(sentences=1, length=50)
    anything = Anything(model.config.vocabulary_size, allow_unk=False)
    begun: list[int] = []

    def requests() -> Iterator[Request]:
        for index in range(20):
            begun.append(index)
            yield Request(index, (), anything)

    ended = 0
    for drawn in generate(model, config, requests(), together=4):
        assert len(begun) - ended <= 4
        ended += drawn.finished is not None
    assert ended == 20


def test_samples_of_different_prompts_are_written_side_by_side(double: Model) -> None:
    config = SamplingConfig(length=30)
    anything = Anything(double.config.vocabulary_size, allow_unk=False)
    prompts = [(4, 7, 2), (), (4,), (5, 5, 5, 5), (4,)]
    requests = [Request(index, prompt, anything) for index, prompt in enumerate(prompts)]
    together: dict[int, list[int]] = {}
    for drawn in generate(double, config, requests, together=3):
        together.setdefault(drawn.index, []).append(drawn.id)
    for index, prompt in enumerate(prompts):
        assert together[index] == ids_of(written(double, (index,), prompt, length=30)[index])


def test_another_attempt_is_another_text(double: Model) -> None:
    config = SamplingConfig(length=30)
    anything = Anything(double.config.vocabulary_size, allow_unk=False)

    def attempt(number: int) -> list[int]:
        request = Request(0, tuple(PROMPT), anything, attempt=number)
        return [drawn.id for drawn in generate(double, config, [request])]

    assert attempt(0) == ids_of(written(double, length=30)[0])
    assert attempt(1) == attempt(1) != attempt(0)


def test_several_temperatures_are_taken_by_turns_a_token_each(make_model: MakeModel) -> None:
    model = memoryless(make_model(5), [0.0, 0.1, 0.2, 0.4, 0.3])
    samples = written(model, range(40), length=30, temperature=(0, 1e9, 0))
    for place in range(30):
        ids = {ids_of(sample)[place] for sample in samples.values()}
        assert ids == ({1, 2, 3, 4} if place % 3 == 1 else {3})


def test_no_ngram_is_written_twice_nor_one_of_the_prompt(make_model: MakeModel) -> None:
    model = memoryless(make_model(5), [0.0, 0.1, 0.1, 0.7, 0.1])
    prompt = [3, 3, 4]
    for size in (1, 2, 3):
        for sample in written(model, range(5), prompt, no_repeat_ngram=size, length=12).values():
            ids = prompt + [id for id in ids_of(sample) if id != NOTHING]
            ngrams = [tuple(ids[at : at + size]) for at in range(len(ids) - size + 1)]
            of_prompt = [tuple(prompt[at : at + size]) for at in range(4 - size)]
            repeated = len(ngrams) - len(set(ngrams))
            assert repeated == len(of_prompt) - len(set(of_prompt))


def test_where_nothing_is_left_the_sample_ends(make_model: MakeModel) -> None:
    model = memoryless(make_model(5), [0.0, 0.1, 0.1, 0.7, 0.1])
    for sample in written(model, range(5), [], no_repeat_ngram=1).values():
        assert sorted(ids_of(sample)[:-1]) == [1, 2, 3, 4]
        assert sample[-1] == Drawn(sample[0].index, NOTHING, 0.0, "blocked")


def test_a_frequency_penalty_evens_out_what_is_written(make_model: MakeModel) -> None:
    model = memoryless(make_model(5), [0.0, 0.01, 0.01, 0.97, 0.01])
    ids = ids_of(written(model, length=400, frequency_penalty=1.0)[0])
    counts = np.bincount(ids, minlength=5)[1:]
    assert counts.max() - counts.min() < 15


def test_a_repetition_penalty_counts_the_prompt(make_model: MakeModel) -> None:
    model = memoryless(make_model(5), [0.2] * 5)
    ids = [
        ids_of(sample)[0]
        for sample in written(model, range(50), [2, 3], length=1, repetition_penalty=50).values()
    ]
    assert set(ids) == {1, 4}


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


class Alternating:
    """Lets ids of one parity come, then of the other; is told of each, and ends at the fifth."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def allowed(self) -> Mask:
        return np.array([id > 1 and id % 2 == len(self.taken) % 2 for id in range(7)])

    def take(self, id: int) -> FinishReason | None:
        self.taken.append(id)
        return "stop" if len(self.taken) == 5 else None

    def copy(self) -> "Alternating":
        raise AssertionError("nothing is copied where texts are drawn")


def test_each_sample_is_led_by_its_guide(make_model: MakeModel) -> None:
    model = memoryless(make_model(7), [1 / 7] * 7)
    guides = {index: Alternating() for index in range(20)}
    samples = written(model, range(20), [], guides.__getitem__, together=7)
    for index, sample in samples.items():
        assert ids_of(sample) == guides[index].taken
        assert [id % 2 for id in ids_of(sample)] == [0, 1, 0, 1, 0]
        assert sample[-1].finished == "stop"
    assert len({tuple(ids_of(sample)) for sample in samples.values()}) > 10


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


class Fickle:
    """Changes what may come after every so many tokens, and then back."""

    def __init__(self, every: int) -> None:
        self._every, self._taken = every, 0
        self._masks = [np.arange(11) % 3 != left_out for left_out in range(3)]

    def allowed(self) -> Mask:
        return self._masks[self._taken // self._every % 3]

    def take(self, id: int) -> FinishReason | None:
        assert self.allowed()[id]
        self._taken += 1
        return None

    def copy(self) -> "Fickle":
        raise AssertionError("nothing is copied where texts are drawn")


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("every", [1, 2, 7, 50])
@pytest.mark.parametrize("options", [{}, {"temperature": (1.0, 0.4, 2.0)}, {"fast": True}])
def test_what_is_drawn_ahead_is_what_would_have_been_drawn(
    model: Model, every: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def guide(index: int) -> Fickle:
        return Fickle(every)

    counts: list[int] = []
    write = Network.write

    def spied(self: Network, barrier: Any, temperatures: Any, uniforms: Any) -> Any:
        counts.append(len(uniforms))
        return write(self, barrier, temperatures, uniforms)

    monkeypatch.setattr(Network, "write", spied)
    monkeypatch.setattr("textgen.sampling.generator._SECONDS_AHEAD", math.inf)
    options |= {"length": 200}
    alone = written(model, (5,), guide=guide, **options)[5]
    if library(model.device, model.dtype) is not None:
        assert max(counts) > 1
        assert sum(counts) > 200, "some were drawn in vain"
    beside = written(model, (4, 5), guide=guide, **options)[5]
    assert ids_of(alone) == ids_of(beside)
    gaps = [abs(a.log_prob - b.log_prob) for a, b in zip(alone, beside, strict=True)]
    assert max(gaps) < 1e-4


def test_one_sample_after_another_is_as_each_alone(model: Model) -> None:
    options: dict[str, Any] = {"length": 150, "sentences": 9}
    one_by_one = written(model, range(6), together=1, **options)
    for index in range(6):
        assert ids_of(one_by_one[index]) == ids_of(written(model, (index,), **options)[index])


def test_weights_of_8_bits_are_near_and_not_the_same(make_model: MakeModel) -> None:
    model = make_model(hidden=(32, 24))
    exact, fast = (written(model, length=100, fast=fast)[0] for fast in (False, True))
    assert exact[0].log_prob == fast[0].log_prob  # the prompt is read exactly
    assert 1e-7 < abs(exact[1].log_prob - fast[1].log_prob) < 0.1
