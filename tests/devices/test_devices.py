"""Every kind of model in every use on a GPU: devices are not mixed, and waits are few."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textgen import LanguageModel, checkpoint, plan, train
from textgen.config import (
    KINDS,
    LSTMConfig,
    ModelConfig,
    Precision,
    SamplingConfig,
    TrainingConfig,
)
from textgen.data.batching import Streams
from textgen.errors import UsageError
from textgen.inference.likelihood import Document
from textgen.models import Model, build
from textgen.models.device import choose_device, choose_precision
from textgen.results import FinishReason
from textgen.sampling.generator import Request, Uniforms, generate
from textgen.sampling.sequence import AllowedIds, TokenSequence
from textgen.scoring import adaptation
from textgen.scoring.adaptation import AdaptingReader
from textgen.studies.plots.embeddings import map_embeddings
from textgen.studies.plots.memory import gradient_norms, loss_by_context
from textgen.studies.plots.neurons import read_states
from textgen.tokenizers.base import EOS
from textgen.training.distributed import ProcessGroup
from textgen.training.graphed import GraphedState, gradient_state
from textgen.training.prepare import make_state
from textgen.training.ranks import ProcessRank
from textgen.training.state import GradientState

from .conftest import Device

TEXT = "the cat sat on the mat.\nthe dog sat on the cat.\na mat is a mat.\n" * 20
LINES = TEXT.split("\n")[:6]
TRAINED = [name for name, kind in KINDS.items() if not kind.counts]
VOCABULARY = 11
CONFIG = SamplingConfig(length=50)
_SIZES = {"hidden_size": (7, 5), "embedding_size": 6, "order": 3, "window": 3, "states": 12}


def options(kind: str) -> dict[str, Any]:
    """Options that make a model of this kind small, and its training short."""
    names = ModelConfig.from_options({"model": kind}).fields()
    sizes = {name: size for name, size in _SIZES.items() if name in names}
    if not KINDS[kind].counts:
        sizes |= {"steps": 6, "batch_size": 3, "sequence_length": 8, "valid_every": 3}
    return {"model": kind, "baseline": False, **sizes}


def network(kind: str) -> Model:
    """A small model with drawn weights on the device."""
    model = build(ModelConfig.from_options(options(kind)).resolved(VOCABULARY))
    model.initialize(torch.Generator().manual_seed(0))
    model.initialize_from_text(read_ids())
    return model.to("cuda")


def streams(config: TrainingConfig) -> Streams:
    return Streams(
        read_ids(),
        batch_size=config.batch_size,
        sequence_length=config.sequence_length,
        run_windows=4,
        unknown_rate=0.0,
        seed=1,
    )


def read_ids() -> Any:
    return (1 + np.arange(600) ** 2 % (VOCABULARY - 1)).astype(np.uint16)


class Anything:
    """A constraint that allows every token."""

    def allowed(self) -> AllowedIds:
        return AllowedIds(None, np.ones(VOCABULARY, np.bool_))

    def append(
        self, id: int, log_prob: float, ending: FinishReason | None
    ) -> tuple[str, FinishReason | None]:
        return "", ending

    def copy(self) -> "Anything":
        return self


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("devices") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adaptation, and the text that it needs, in small."""
    for name, size in {"BLOCK": 32, "LEARNED": 16, "WINDOW": 8, "CONTEXT": 2}.items():
        monkeypatch.setattr(adaptation, name, size)


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, corpus: Path) -> Path:
    """A run of each kind on the CPU."""
    out = corpus.with_name(request.param)
    train(corpus, out=out, device="cpu", **options(request.param))
    return out


def uses(model: LanguageModel) -> Mapping[str, Callable[[], Any]]:
    """What can be done with a model; the results as numbers and texts to compare."""
    network, kind = model.model, model.header.model.model
    found: dict[str, Callable[[], Any]] = {
        "score": lambda: [s.log_prob for s in model.score(LINES)],
        "document": lambda: Document(network, EOS).read(model.tokenizer.encode(TEXT[:700])),
        "tokens": lambda: [
            (part.rank, part.entropy)
            for part in model.score(LINES[0], level="token", alternatives=2).parts or ()
        ],
        "blank": lambda: [c.log_prob for c in model.predict("the ____ sat").choices[:3]],
    }
    if not KINDS[kind].counts:
        found["adapt"] = lambda: [
            s.log_prob for s in model.scores(LINES, context="document", reader=AdaptingReader)
        ]
    if not model.is_causal:
        return found
    found |= {
        "words": lambda: [p.log_prob for p in model.score(LINES[0], level="word").parts or ()],
        "characters": lambda: [
            p.log_prob for p in model.score(LINES[0], level="character").parts or ()
        ],
        "sample": lambda: model.sample("the ", length=40 if "lstm" in kind else 9, seed=4)[0].text,
        "samples": lambda: [
            s.text for s in model.sample("the ", length=12, count=3, sentences=1, seed=4)
        ],
        "rules": lambda: [
            s.text
            for s in model.sample(
                "a ",
                length=4,
                count=2,
                top_k=9,
                top_p=0.9,
                typical=0.95,
                repetition_penalty=1.1,
                frequency_penalty=0.1,
                no_repeat_ngram=3,
                require=("dog",),
            )
        ],
        "beams": lambda: [s.text for s in model.sample("the ", length=6, beams=3, count=2)],
        "next": lambda: [c.log_prob for c in model.predict("the ").choices],
        "next words": lambda: [c.log_prob for c in model.predict("the ", words=1).choices],
        "memory": lambda: [
            c.loss for c in loss_by_context(model, LINES, tokens=9, contexts=(1, 4))
        ],
    }
    if network.token_vectors() is not None:
        found["embeddings"] = lambda: map_embeddings(model, TEXT[:300], tokens=6).points
    if any(each.is_floating_point() for each in network.start(1).tensors().values()):
        found["gradient"] = lambda: [
            norm.median for norm in gradient_norms(model, TEXT[:99], lags=3, places=2)
        ]
        found["neurons"] = lambda: list(read_states(model, TEXT[:9]).values.values())
    return found


def assert_alike(there: Any, here: Any, name: str) -> None:
    """Equal texts, and numbers that differ by no more than rounding."""
    if isinstance(here, list | tuple):
        assert len(there) == len(here), name
        for one, other in zip(there, here, strict=True):
            assert_alike(one, other, name)
    elif isinstance(here, str):
        assert there == here, name
    else:
        np.testing.assert_allclose(there, here, atol=1e-4, err_msg=name)


def test_a_use_on_the_device_gives_what_it_gives_on_the_cpu(run: Path, device: Device) -> None:
    expected = {name: use() for name, use in uses(LanguageModel.load(run, device="cpu")).items()}
    with device():
        on_device = LanguageModel.load(run, device="cuda")
        for name, use in uses(on_device).items():
            try:
                found = use()
            except Exception as error:
                raise AssertionError(f"{run.name}: {name}") from error
            assert_alike(found, expected[name], f"{run.name}: {name}")


def test_training_on_the_device_stopped_and_resumed_is_training_on_the_cpu(
    run: Path, corpus: Path, tmp_path: Path, device: Device
) -> None:
    with device():
        on_device = trained_and_resumed(corpus, tmp_path, run.name, "float32")
    on_cpu = checkpoint.describe(run / "last").header
    assert on_device.machine.device == "cuda"
    assert on_device.validation is not None and on_cpu.validation is not None
    assert on_device.validation.loss == pytest.approx(on_cpu.validation.loss, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "precision"), [("lstm", "bf16"), ("bidirectional", "fp16"), ("hmm", "fp16")]
)
def test_training_in_half_precision_is_resumed(
    kind: str, precision: str, corpus: Path, tmp_path: Path, device: Device
) -> None:
    with device():
        header = trained_and_resumed(corpus, tmp_path, kind, precision)
    assert (header.step, header.machine.precision) == (6, precision)


def trained_and_resumed(corpus: Path, out: Path, kind: str, precision: str) -> checkpoint.Header:
    """Train on the device, stop after two updates, and continue from what is saved."""
    polls, chosen = iter([None]), {} if KINDS[kind].counts else {"precision": precision}
    given = options(kind) | chosen | {"device": "cuda", "overwrite": True}
    train(corpus, out=out, stop=lambda: next(polls, 2), **given)
    train(out=out, resume=True, device="cuda", baseline=False)
    return checkpoint.describe(out / "last").header


@pytest.mark.parametrize("kind", TRAINED)
def test_an_update_does_not_wait_for_the_device(kind: str, device: Device) -> None:
    with device() as cuda:
        state = make_state(network(kind), read_ids(), TrainingConfig.from_options(options(kind)))
        state.update(1e-3)  # which prepares
        cuda.waits.clear()
        for _ in range(4):  # the last ones recorded
            state.update(1e-3)
        # Sentences of different lengths are sorted on the CPU.
        allowed = 4 if kind == "bidirectional" else 0
        assert cuda.waits.total() <= allowed, cuda.waits


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "bidirectional"])
def test_a_drawn_token_waits_for_the_device_a_few_times(kind: str, device: Device) -> None:
    """For the token itself; and n-grams are looked up on the CPU."""
    allowed = 2 if "ngram" in kind else 1
    with device() as cuda:
        model, tokens = network(kind), 5
        requests = [
            Request(
                0, (3, 4), TokenSequence((3, 4), CONFIG, Anything(), VOCABULARY), Uniforms(1, 0)
            )
        ]
        drawn = generate(model, lambda most: [requests.pop()] if requests else [])
        next(drawn)
        cuda.waits.clear()
        for _ in range(tokens):
            next(drawn)
        assert cuda.waits.total() <= tokens * allowed, cuda.waits


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_of_validation_waits_for_the_device_a_few_times(kind: str, device: Device) -> None:
    with device() as cuda:
        model, windows = network(kind), 4
        document = Document(model, EOS, segments=1)
        document.read(read_ids()[:64])
        cuda.waits.clear()
        document.read(read_ids()[64 : 64 + windows * 64])
        assert cuda.waits.total() <= windows * (1 if kind == "bidirectional" else 0) + 1


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("lstm", "fp16"), ("lstm+ngram", "float32"), ("feedforward", "float32"), ("hmm", "float32")],
)
def test_a_recorded_update_is_the_update(kind: str, precision: Precision, device: Device) -> None:
    """Also after a state is restored, a loss taken, and a gradient that is not finite."""
    config = TrainingConfig.from_options(options(kind) | {"dropout": 0.3})
    with device():
        states = [
            of(network(kind), streams(config), config, precision)
            for of in (GraphedState, GradientState)
        ]
        losses: list[list[float]] = []
        for state in states:
            for step in range(7):
                state.update(0.01 * (1 + step))
                if step == 4:
                    snapshot = state.snapshot()
            weights = [each.detach() for each in state.model.parameters()]
            before = [each.clone() for each in weights]
            for weight in weights:
                weight.fill_(torch.nan)
            losses.append([state.take_mean_loss()])
            state.update(0.01)
            assert not state.is_finite
            state.restore(snapshot)
            for weight, number in zip(weights, before, strict=True):
                weight.copy_(number)
            for _ in range(5):
                state.update(0.01)
            losses[-1].append(state.take_mean_loss())
            losses[-1].append(state.gradient_norm)
        assert isinstance(states[0], GraphedState) and states[0]._graph is not None
        near = 1e-4 if precision == "float32" else 1e-2
        assert losses[0] == pytest.approx(losses[1], rel=near)
        for one, other in zip(*(state.model.parameters() for state in states), strict=True):
            torch.testing.assert_close(one.cpu(), other.cpu(), rtol=near, atol=near)


def test_a_document_is_read_once_though_rounding_depends_on_the_batch(
    simulated: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise that this few units show as often as hundreds show that of cuBLAS."""
    read_window, windows = Document.read_window, 0
    generator = torch.Generator().manual_seed(0)

    def noisy(self: Document, *arguments: Any) -> Any:
        nonlocal windows
        windows += 1
        read, state = read_window(self, *arguments)

        def with_noise(rows: torch.Tensor) -> torch.Tensor:
            if not rows.is_floating_point():
                return rows
            return rows * (1 + 3e-6 * torch.randn(rows.shape, generator=generator).to(rows.device))

        return read, type(state)({name: with_noise(rows) for name, rows in state.named.items()})

    monkeypatch.setattr(Document, "read_window", noisy)
    with simulated():
        Document(network("lstm"), EOS, segments=8).read(np.tile(read_ids(), 10))
    in_one_pass = 6000 // 8 // 64 + 1
    assert in_one_pass <= windows < 3 * in_one_pass


def test_one_hot_input_of_a_large_vocabulary_does_not_wait(simulated: Device) -> None:
    config = LSTMConfig(hidden_size=(5,), embedding_size=0).resolved(700)
    with simulated() as cuda:
        model = build(config)
        model.initialize(torch.Generator().manual_seed(0))
        model.to("cuda").hidden_states(
            torch.zeros(3, 2, dtype=torch.int64).to("cuda"), model.start(2)
        )
        assert not cuda.waits
        assert model.has_fixed_shapes


def test_in_half_precision_on_a_gpu_gradients_are_scaled(simulated: Device) -> None:
    """cuDNN's recurrent layers compute in fp16 under any autocast."""
    config = TrainingConfig(steps=1)
    with simulated():
        where = choose_device("auto")
        assert choose_precision("auto", where, LSTMConfig(hidden_size=(512,))) == "fp16"
        for precision in ("bf16", "fp16"):
            state = gradient_state(network("lstm"), streams(config), config, precision)
            state.update(1e-3)
            assert state.snapshot().scaler is not None, precision


def test_a_model_larger_than_the_memory_of_the_gpu_is_refused(
    corpus: Path, simulated: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    with simulated():
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (10**5, 10**5))
        with pytest.raises(UsageError, match=r"bytes of 100,000"):
            plan(corpus, device="cuda", steps=1)
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("requested", "backend"), [("cpu", "gloo"), ("auto", "cpu:gloo,cuda:nccl")]
)
def test_nccl_connects_only_processes_that_use_gpus(
    requested: str, backend: str, simulated: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    groups: list[Any] = []
    for name, stand_in in {
        "rendezvous": lambda *_, **__: iter([(None, 0, 2)]),
        "PrefixStore": lambda *_: None,
        "dist.is_nccl_available": lambda: True,
        "dist.init_process_group": lambda backend, **_: asked.append(backend),
        "dist.new_group": lambda **given: groups.append(given["timeout"]),
    }.items():
        monkeypatch.setattr(f"textgen.training.distributed.{name}", stand_in)
    with simulated():
        ProcessGroup(ProcessRank(0, 2, 0), requested)  # type: ignore[arg-type]
    assert asked == [backend]
    # A rank that dies during an update is noticed in minutes; waiting for a save may take hours.
    assert min(groups) <= timedelta(minutes=5) if "nccl" in backend else len(groups) == 1
