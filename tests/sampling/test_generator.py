"""Samples of ids: what each depends on, and the distribution that they follow."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Self

import numpy as np
import pytest
import torch

from textgen.config import SamplingConfig
from textgen.inference.likelihood import Document
from textgen.inference.native.kernels import Network
from textgen.models import Model
from textgen.results import FinishReason
from textgen.sampling.generator import Batch, Drawn, Request, Uniforms, generate
from textgen.sampling.sequence import NOTHING, AllowedIds, Constraint, TokenSequence
from textgen.tokenizers.base import EOS, UNK

MakeModel = Callable[..., Model]
PROMPT = (4, 7, 2)


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def native(request: pytest.FixtureRequest) -> None:
    """Everything holds with compiled code and without."""
    if request.param == "compiled":
        request.getfixturevalue("compiled")


class Unconstrained:
    """Allows every id but ``<UNK>``, unless that is allowed too, and ends nothing."""

    def __init__(self, vocabulary_size: int, allow_unk: bool = False) -> None:
        self.ids: list[int] = []
        mask = np.ones(vocabulary_size, np.bool_)
        mask[UNK] = allow_unk
        self._allowed = AllowedIds(0, mask)

    def allowed(self) -> AllowedIds:
        return self._allowed

    def append(
        self, id: int, log_prob: float, ending: FinishReason | None
    ) -> tuple[str, FinishReason | None]:
        assert id == NOTHING or self.allowed().mask[id]
        self.ids.append(id)
        return "", ending

    def copy(self) -> Self:
        raise AssertionError("no constraint is copied where ids are drawn")


def requested(
    model: Model,
    config: SamplingConfig,
    index: int = 0,
    prompt: Sequence[int] | None = None,
    constraint: Constraint | None = None,
    attempt: int = 0,
) -> Request:
    size = model.config.vocabulary_size
    ids = tuple(id for id in PROMPT if id < size) if prompt is None else tuple(prompt)
    constraint = constraint or Unconstrained(size, config.allow_unk)
    sequence = TokenSequence(ids, config, constraint, size)
    key = (config.seed, index, attempt)
    return Request(index, ids, sequence, Uniforms(*key), Uniforms(*key, purpose="chances"))


def generated(
    model: Model, config: SamplingConfig, requests: Iterable[Request], together: int = 64
) -> dict[int, list[Drawn]]:
    """The tokens of each sample by its index."""
    samples: dict[int, list[Drawn]] = {}
    waiting = iter(requests)
    for drawn in generate(
        model,
        lambda count: list(islice(waiting, count)),
        fast=config.fast,
        together=together,
    ):
        samples.setdefault(drawn.index, []).append(drawn)
    return samples


def written(
    model: Model,
    indices: Sequence[int] = (0,),
    prompt: Sequence[int] | None = None,
    constraint: Callable[[int], Constraint] | None = None,
    together: int = 64,
    **options: Any,
) -> dict[int, list[Drawn]]:
    """The tokens of samples of one prompt. constraint: makes that of each index."""
    config = SamplingConfig.from_options({"length": 40} | options)
    requests = (
        requested(model, config, index, prompt, constraint(index) if constraint else None)
        for index in indices
    )
    return generated(model, config, requests, together)


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


def test_a_text_is_another_with_another_seed_index_or_attempt(double: Model) -> None:
    def text(seed: int = 5, index: int = 0, attempt: int = 0) -> list[int]:
        config = SamplingConfig(length=30, seed=seed)
        request = requested(double, config, index, attempt=attempt)
        return ids_of(generated(double, config, [request])[index])

    assert text() == text()
    assert text(attempt=1) == text(attempt=1)
    texts = [text(), text(seed=6), text(attempt=1), *(text(index=index) for index in range(1, 5))]
    assert len(set(map(tuple, texts))) == 7


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": (1.0, 0.3, 0.0)},
        {"repetition_penalty": 1.5, "frequency_penalty": 0.3},
        {"no_repeat_ngram": 3},
        {"top_p": 0.9, "min_p": 0.05, "typical": 0.9},
        {"dry_multiplier": 2.0, "xtc_probability": 0.5, "xtc_threshold": 0.05},
    ],
)
def test_a_sample_depends_on_its_seed_and_index_alone(
    double: Model, options: dict[str, Any]
) -> None:
    options |= {"length": 100, "sentences": 6}
    alone = written(double, (3,), **options)[3]
    for indices, together in (((0, 3, 4), 1), (range(7), 3), ((9, 3, 100), 64)):
        beside = written(double, indices, together=together, **options)[3]
        assert ids_of(beside) == ids_of(alone)
        # The states go on with their own samples when others end and new ones begin.
        gaps = [abs(a.log_prob - b.log_prob) for a, b in zip(alone, beside, strict=True)]
        assert max(gaps) < 1e-10


def test_no_more_are_written_at_once_than_asked_and_each_begins_as_one_ends(model: Model) -> None:
    config = SamplingConfig(sentences=1, length=50)
    waiting, begun, ended = iter(range(20)), 0, 0

    def next_requests(count: int) -> list[Request]:
        nonlocal begun
        requests = [requested(model, config, index) for index in islice(waiting, count)]
        begun += len(requests)
        return requests

    for drawn in generate(model, next_requests, together=4):
        assert begun - ended <= 4
        ended += drawn.finished is not None
    assert ended == 20


def test_samples_of_different_prompts_are_written_side_by_side(double: Model) -> None:
    config = SamplingConfig(length=30)
    prompts = [(4, 7, 2), (), (4,), (5, 5, 5, 5), (4,)]
    requests = [requested(double, config, *each) for each in enumerate(prompts)]
    together = generated(double, config, requests, together=3)
    for index, prompt in enumerate(prompts):
        alone = written(double, (index,), prompt, length=30)[index]
        assert ids_of(together[index]) == ids_of(alone)


def test_samples_of_different_rules_are_written_side_by_side(double: Model) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"top_p": 0.8},
        {"temperature": 0.5, "length": 50},
        {"frequency_penalty": 1.0},
        {"logit_bias": {3: 2.0}, "seed": 4},
        {"top_p": 0.8, "seed": 9},
    ]
    configs = [SamplingConfig.from_options({"length": 30} | each) for each in options]
    requests = [requested(double, config, index) for index, config in enumerate(configs)]
    together = generated(double, configs[0], requests, together=4)
    for index, each in enumerate(options):
        alone = written(double, (index,), **{"length": 30} | each)[index]
        assert ids_of(together[index]) == ids_of(alone)


def test_samples_join_and_leave_at_any_step(double: Model) -> None:
    config = SamplingConfig(length=30)
    batch, samples = Batch(double), dict[int, list[int]]()
    joining = {0: (0,), 3: (1, 2), 4: (3,), 20: (4, 5, 6)}
    for step in range(60):
        batch.step([requested(double, config, index) for index in joining.get(step, ())])
        if not batch.rows:
            break
        for drawn in batch.draw():
            samples.setdefault(drawn.index, []).append(drawn.id)
        if step == 10:  # as if its reader had gone
            batch.end(2)
    assert len(samples.pop(2)) == 8
    for index, ids in samples.items():
        assert ids == ids_of(written(double, (index,), length=30)[index])


def test_alternatives_are_the_most_probable_ids_of_the_model(double: Model) -> None:
    config = SamplingConfig(length=20, top_k=1, logit_bias=((3, 50.0),), allow_unk=True)
    request = dataclasses.replace(requested(double, config), alternatives=4)
    sample = generated(double, config, [request])[0]
    assert set(ids_of(sample)) == {3}
    state, read = double.start(1), [EOS, *PROMPT, *ids_of(sample)]
    logits, _ = double(torch.tensor(read).unsqueeze(1), state)
    log_probs = logits[len(PROMPT) : -1, 0].detach().log_softmax(-1)
    values, ids = log_probs.topk(4)
    for place, drawn in enumerate(sample):
        assert [id for id, _ in drawn.alternatives] == ids[place].tolist()
        assert [x for _, x in drawn.alternatives] == pytest.approx(values[place].tolist())
        assert drawn.log_prob == pytest.approx(float(log_probs[place, 3]))


def plainly_drawn(model: Model, config: SamplingConfig, index: int) -> list[int]:
    """The ids of a sample, worked out in the documented order of the rules with NumPy."""
    assert config.presence_penalty is not None and config.dry_multiplier is not None
    assert config.top_p is not None and config.xtc_probability is not None
    uniforms = Uniforms(config.seed, index)
    chances = Uniforms(config.seed, index, purpose="chances")
    ids = list(PROMPT)
    for _ in range(config.length):
        logits, _ = model(torch.tensor([EOS, *ids]).unsqueeze(1), model.start(1))
        row = logits[-1, 0].detach().numpy().copy()
        for id, bias in config.logit_bias:
            row[id] += bias
        row -= config.presence_penalty * np.isin(np.arange(len(row)), ids[len(PROMPT) :])
        repeated = np.full(len(row), -1)
        for place in range(1, len(ids)):
            same = 0
            while same < place and ids[place - 1 - same] == ids[-1 - same]:
                same += 1
            repeated[ids[place]] = max(repeated[ids[place]], same)
        penalties = config.dry_multiplier * config.dry_base ** (
            repeated - float(config.dry_allowed_length)
        )
        row -= np.where(repeated >= config.dry_allowed_length, penalties, 0)
        row[UNK] = -np.inf
        shares = np.exp((row - row.max()) / config.temperature[0])
        shares /= shares.sum()
        order = np.argsort(-shares)
        shares[order[1:][np.cumsum(shares[order])[:-1] >= config.top_p]] = 0
        shares /= shares.sum()
        if chances.next() < config.xtc_probability:
            top = [id for id in np.argsort(-shares) if shares[id] >= config.xtc_threshold]
            shares[top[:-1]] = 0
        cumulative = np.cumsum(shares)
        point = uniforms.next() * cumulative[-1]
        ids.append(int(np.searchsorted(cumulative, point, side="right")))
    return ids[len(PROMPT) :]


def test_a_writers_rules_give_the_text_worked_out_plainly(double: Model) -> None:
    config = SamplingConfig(
        length=60,
        temperature=(0.9,),
        logit_bias=((5, 1.0), (2, -0.5)),
        presence_penalty=0.2,
        dry_multiplier=0.8,
        top_p=0.95,
        xtc_probability=0.5,
        xtc_threshold=0.1,
    )
    for index in range(4):
        request = requested(double, config, index)
        drawn = ids_of(generated(double, config, [request])[index])
        assert drawn == plainly_drawn(double, config, index)


def test_several_temperatures_are_taken_by_turns_a_token_each(make_model: MakeModel) -> None:
    model = memoryless(make_model(5), [0.0, 0.1, 0.2, 0.4, 0.3])
    samples = written(model, range(40), length=30, temperature=(0, 1e9, 0))
    for place in range(30):
        ids = {ids_of(sample)[place] for sample in samples.values()}
        assert ids == ({1, 2, 3, 4} if place % 3 == 1 else {3})


def test_no_ngram_is_written_twice_nor_one_of_the_prompt(make_model: MakeModel) -> None:
    model = memoryless(make_model(5), [0.0, 0.1, 0.1, 0.7, 0.1])
    prompt = (3, 3, 4)
    for size in (1, 2, 3):
        for sample in written(model, range(5), prompt, no_repeat_ngram=size, length=12).values():
            ids = [*prompt, *(id for id in ids_of(sample) if id != NOTHING)]
            ngrams = [tuple(ids[at : at + size]) for at in range(len(ids) - size + 1)]
            of_prompt = [prompt[at : at + size] for at in range(4 - size)]
            repeated = len(ngrams) - len(set(ngrams))
            assert repeated == len(of_prompt) - len(set(of_prompt))


def test_where_nothing_is_left_the_sample_ends(make_model: MakeModel) -> None:
    model = memoryless(make_model(5), [0.0, 0.1, 0.1, 0.7, 0.1])
    for sample in written(model, range(5), [], no_repeat_ngram=1).values():
        assert sorted(ids_of(sample)[:-1]) == [1, 2, 3, 4]
        assert sample[-1] == Drawn(sample[0].index, NOTHING, 0.0, "", "blocked")


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


def test_temperature_zero_writes_the_most_probable_token_every_time(double: Model) -> None:
    ids = ids_of(written(double, temperature=0, allow_unk=True)[0])
    assert ids_of(written(double, temperature=0, allow_unk=True, seed=9)[0]) == ids
    state, read = double.start(1), [EOS, *PROMPT, *ids]
    logits, _ = double(torch.tensor(read).unsqueeze(1), state)
    assert logits[len(PROMPT) : -1, 0].argmax(-1).tolist() == ids


def test_unknown_is_never_written_unless_allowed(make_model: MakeModel) -> None:
    model = memoryless(make_model(4), [0.97, 0.01, 0.01, 0.01])
    for options in ({}, {"top_k": 1}, {"top_p": 0.5}, {"temperature": 0}):
        assert UNK not in ids_of(written(model, **options)[0])
    assert UNK in ids_of(written(model, allow_unk=True)[0])
    assert set(ids_of(written(model, allow_unk=True, temperature=0)[0])) == {UNK}


class Alternating(Unconstrained):
    """Allows ids of one parity, then of the other, and ends at the fifth token."""

    def allowed(self) -> AllowedIds:
        parity = len(self.ids) % 2
        return AllowedIds(parity, np.array([id > 1 and id % 2 == parity for id in range(7)]))

    def append(
        self, id: int, log_prob: float, ending: FinishReason | None
    ) -> tuple[str, FinishReason | None]:
        self.ids.append(id)
        return f"<{id}>", "stop" if len(self.ids) == 5 else None


def test_each_sample_satisfies_its_constraint_and_has_its_text(make_model: MakeModel) -> None:
    model = memoryless(make_model(7), [1 / 7] * 7)
    constraints = {index: Alternating(7) for index in range(20)}
    samples = written(model, range(20), [], constraints.__getitem__, together=7)
    for index, sample in samples.items():
        assert ids_of(sample) == constraints[index].ids
        assert [id % 2 for id in ids_of(sample)] == [0, 1, 0, 1, 0]
        assert sample[-1].finished == "stop"
        assert [drawn.text for drawn in sample] == [f"<{id}>" for id in ids_of(sample)]
    assert len({tuple(ids_of(sample)) for sample in samples.values()}) > 10


def test_a_sample_ends_at_its_length_with_the_sentence_if_it_ends_there(
    model: Model, make_model: MakeModel
) -> None:
    for length in (1, 2, 300):
        sample = written(model, length=length)[0]
        assert [drawn.finished for drawn in sample] == [None] * (length - 1) + ["length"]
    only_eos = memoryless(make_model(3), [0.0, 1.0, 0.0])
    for sentences, ending in ((2, "eos"), (3, "length"), (None, "length")):
        assert written(only_eos, length=2, sentences=sentences)[0][-1].finished == ending


@pytest.mark.parametrize("sentences", [1, 3])
def test_a_sample_ends_at_its_last_sentence(model: Model, sentences: int) -> None:
    samples = written(model, range(20), sentences=sentences, length=10_000)
    assert len({len(sample) for sample in samples.values()}) > 3
    for sample in samples.values():
        assert sample[-1].finished == "eos"
        assert sample[-1].id == EOS
        assert ids_of(sample).count(EOS) == sentences
        assert all(drawn.finished is None for drawn in sample[:-1])


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.5, "top_k": 4, "top_p": 0.9}, {"temperature": 0}]
)
def test_log_prob_is_the_one_the_scorer_gives_whatever_the_decoding(
    make_model: MakeModel, options: dict[str, float], dtype: torch.dtype, near: float
) -> None:
    model = make_model(dtype=dtype)
    for sample in written(model, range(3), length=200, **options).values():
        text = np.array([*PROMPT, *ids_of(sample)], np.uint16)
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
    samples = written(model, range(200), length=100, allow_unk=True)
    ids = [drawn.id for sample in samples.values() for drawn in sample]
    expected = shares * len(ids)
    statistic = ((np.bincount(ids, minlength=5) - expected) ** 2 / expected).sum()
    assert statistic < 18.5, "chi-square, 4 degrees of freedom, one in a thousand"
    firsts = np.bincount([sample[0].id for sample in samples.values()], minlength=5)
    assert ((firsts - shares * 200) ** 2 / (shares * 200)).sum() < 18.5


class Changing(Unconstrained):
    """Another mask after every so many tokens, by turns; equal masks are new objects each time."""

    def __init__(self, every: int) -> None:
        super().__init__(11)
        self._every = every

    def allowed(self) -> AllowedIds:
        excluded = len(self.ids) // self._every % 3
        return AllowedIds(excluded, np.arange(11) % 3 != excluded)


@pytest.mark.parametrize("native", ["compiled"], indirect=True)
@pytest.mark.parametrize(
    ("every", "options"), [(1, {}), (7, {"fast": True}), (50, {"temperature": (1.0, 0.4, 2.0)})]
)
def test_what_is_drawn_ahead_is_what_would_have_been_drawn(
    model: Model,
    every: int,
    options: dict[str, Any],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if options.get("fast"):
        request.getfixturevalue("two_threads")
    counts: list[int] = []
    write = Network.sample

    def spied(self: Network, mask: Any, temperatures: Any, uniforms: Any) -> Any:
        counts.append(len(uniforms))
        return write(self, mask, temperatures, uniforms)

    monkeypatch.setattr(Network, "sample", spied)
    monkeypatch.setattr("textgen.sampling.generator._SECONDS_AHEAD", math.inf)
    options = {"constraint": lambda index: Changing(every), "length": 120} | options
    alone = written(model, (5,), **options)[5]
    assert max(counts) > 1
    assert sum(counts) > 120, "some were drawn in vain"
    beside = written(model, (4, 5), **options)[5]
    assert ids_of(alone) == ids_of(beside)
    gaps = [abs(a.log_prob - b.log_prob) for a, b in zip(alone, beside, strict=True)]
    assert max(gaps) < 1e-4


def test_weights_of_8_bits_are_near_and_not_the_same(make_model: MakeModel) -> None:
    model = make_model(hidden=(32, 24))
    exact, fast = (written(model, length=100, fast=fast)[0] for fast in (False, True))
    assert exact[0].log_prob == fast[0].log_prob  # the prompt is read exactly
    assert 1e-7 < abs(exact[1].log_prob - fast[1].log_prob) < 0.1
