"""What many tests share: small models with drawn weights, a small text, the real corpora."""

from __future__ import annotations

import functools
import io
import os
import shutil
import signal
import sys
import tempfile
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest

import textgen
from textgen.cli.app import main
from textgen.config import LSTMConfig, SamplingConfig, ScoringConfig, TokenizerConfig
from textgen.results import (
    NgramBaseline,
    PartScore,
    Sample,
    SentenceScore,
    TrainingResult,
    TrainingStart,
    TrainingStep,
    Validation,
)

if TYPE_CHECKING:
    import torch

    from textgen.inference.native.kernels import Loading
    from textgen.models import Model

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

MakeModel = Callable[..., "Model"]

# The tests' tensors are small: on a busy machine threads would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Started by "nohup make test &", they ignore signals, and so would every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _signum in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
    if signal.getsignal(_signum) is signal.SIG_IGN:
        signal.signal(_signum, signal.SIG_DFL)

# Nor is anything compiled beside them, and then found by one test and not by the one before.
# (Processes that run the tests side by side inherit this environment.)
COMPILER = os.environ.setdefault("CC_OF_TESTS", shutil.which(os.environ.get("CC", "cc")) or "")
os.environ["CC"] = "no compiler"
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir(), "no cache of textgen"))

TEXT = """the cat that the dogs chased sat down.
"no," said the cat, "i will not."
the dogs (who were tired) slept.

a cat is a cat.
the dogs that chased the cat were tired, and the cat was not.
"""


@pytest.fixture
def make_model() -> MakeModel:
    """Makes a small LSTM whose weights are drawn, biases too, wide enough to have opinions."""

    def make(
        vocabulary: int = 11,
        hidden: tuple[int, ...] = (7, 5),
        embedding: int | None = 6,
        *,
        tie: bool = False,
        ngrams: int = 0,
        seed: int = 0,
        spread: float = 3.0,
        dtype: torch.dtype | None = None,
    ) -> Model:
        import torch

        from textgen.models import build

        config = LSTMConfig(
            hidden_size=hidden,
            embedding_size=embedding,
            tie=tie,
            vocabulary_size=vocabulary,
            ngram_embeddings=ngrams,
            ngram_rows=20,
        )
        model = build(config)
        generator = torch.Generator().manual_seed(seed)
        model.initialize(generator)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 1 or name == "ngram_embedding.weight":
                    parameter.normal_(0, 0.3, generator=generator)
                elif name == "output.weight":
                    parameter.mul_(spread)
        return model.to(dtype or torch.float32).eval()

    return make


@pytest.fixture
def model(make_model: MakeModel) -> Model:
    """Eleven ids, layers of 7 and 5 units, float32."""
    return make_model()


@pytest.fixture
def text_ids() -> npt.NDArray[np.uint16]:
    """A few sentences as character ids: <UNK> 0, <EOS> (newline) 1, then the characters."""
    ids = {"\n": 1} | {c: id for id, c in enumerate(sorted(set(TEXT) - {"\n"}), start=2)}
    return np.array([ids[c] for c in TEXT], np.uint16)


@pytest.fixture(scope="session")
def compiler() -> str:
    """The C compiler, where there is one."""
    if not COMPILER:
        pytest.skip("no C compiler")
    return COMPILER


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory, compiler: str) -> Loading:
    """The compiled code."""
    from textgen.inference.native.kernels import Loading

    loading = Loading(tmp_path_factory.mktemp("compiled"), [compiler])
    assert loading.wait() is not None, "it does not compile"
    return loading


@pytest.fixture
def compiled(loaded: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps and draws are those of compiled code."""
    monkeypatch.setattr("textgen.inference.native.kernels.loading", functools.cache(lambda: loaded))


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compiled code takes two threads wherever it has the choice."""
    import torch

    monkeypatch.setattr("textgen.inference.native.kernels._WEIGHTS_PER_THREAD", 1)
    monkeypatch.setattr("textgen.inference.native.kernels._LOGITS_PER_THREAD", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real corpora, where the environment names one."""
    named = os.environ.get("TEXTGEN_CORPORA")
    if not named:
        pytest.skip("TEXTGEN_CORPORA names no folder with tinyshakespeare.txt and its like")
    return Path(named)


@pytest.fixture
def random_ids() -> Callable[..., npt.NDArray[Any]]:
    """Draws ids of a vocabulary: random_ids(count, vocabulary, seed)."""

    def draw(count: int, vocabulary: int = 11, seed: int = 0) -> npt.NDArray[np.uint16]:
        return np.random.default_rng(seed).integers(0, vocabulary, count).astype(np.uint16)

    return draw


VALIDATION = Validation(loss=1.5, tokens=100, characters=100, step=40, seconds=9.0)


@dataclass
class Run:
    """How a command ended. lines: of stderr."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


@dataclass
class FakeLibrary:
    """Stands in for the model. calls: the arguments of each call, by the name of the function."""

    calls: dict[str, Any] = field(default_factory=dict)
    fail: BaseException | None = None
    interrupted: int | None = None
    during_training: Callable[[Any], None] | None = None
    scores: list[SentenceScore] = field(default_factory=list)
    order: Callable[[int], Iterable[int]] = range  # in which samples are finished

    def train(self, *corpora: str, on_event: Any, stop: Any, **options: Any) -> TrainingResult:
        self.calls["train"] = {"corpora": corpora, **options}
        self._maybe_fail()
        on_event(_start(options["out"]))
        if self.during_training is not None:
            self.during_training(stop)
        on_event(TrainingStep(20, 0.5, 2.0, 5e-3, 0.8, 20480, 41000.0, 0.5, 5.0, 5.0))
        on_event(VALIDATION)
        return TrainingResult(
            checkpoint=str(options["out"]),
            steps=40,
            tokens_seen=40960,
            seconds=9.5,
            tokens_per_second=41000.5,
            parameters=1234567,
            validation=VALIDATION,
            last_validation=VALIDATION,
            uniform_loss=4.0,
            interrupted=stop(),
            ngram=NgramBaseline(order=6, loss=2.0, train_tokens=900, valid_tokens=100),
            peak_memory_bytes=433_000_000,
        )

    def load(self, path: str, **options: Any) -> FakeModel:
        self.calls["load"] = {"path": path, **options}
        self._maybe_fail()
        return FakeModel(self)

    def _maybe_fail(self) -> None:
        if self.fail is not None:
            raise self.fail


class FakeModel:
    notes: tuple[str, ...] = ()
    path = Path("checkpoints/x/best")
    is_causal = True

    def __init__(self, library: FakeLibrary) -> None:
        self._library = library
        self.tokenizer = types.SimpleNamespace(config=TokenizerConfig())

    def samples(
        self, prompts: list[str], config: SamplingConfig, *, on_text: Any
    ) -> Iterator[Sample]:
        self._library.calls["samples"] = {"prompts": prompts, "config": config}
        count, seed = config.count, config.seed
        for index in self._library.order(len(prompts) * count):
            prompt, text = prompts[index // count], f" written {index}\n"
            unknown = tuple(each for each in prompt if each == "?")
            yield Sample(index, text, prompt, -1.5, 11, "length", seed, prompt_unknown=unknown)

    def score_sample(self, sample: Sample) -> float | None:
        return sample.log_prob - 1

    def scores(
        self, sentences: Iterable[str], config: ScoringConfig, **options: Any
    ) -> Iterator[SentenceScore]:
        texts = list(sentences)
        self._library.calls["scores"] = {"sentences": texts, "config": config, **options}
        in_parts = config.level != "sentence"
        yield from self._library.scores or (
            _score(line, text if isinstance(text, str) else text.text, in_parts=in_parts)
            for line, text in enumerate(texts, 1)
        )


def _score(line: int, text: str, *, in_parts: bool) -> SentenceScore:
    """Every token, <EOS> among them, has probability 1/4; a ? is unknown."""
    quarter = -1.3862943611198906
    symbols = [*text, "<EOS>"]
    unknown = text.count("?")
    scores = tuple(
        PartScore(
            "<UNK>" if each == "?" else each,
            each.removeprefix("<EOS>"),
            quarter,
            each == "?",
            id=0 if each == "?" else 5,
        )
        for each in symbols
    )
    return SentenceScore(
        log_prob=quarter * len(symbols),
        tokens=len(symbols),
        unknown=unknown,
        unknown_log_prob=quarter * unknown,
        characters=len(symbols),
        words=len(text.split()) + 1,
        bytes=len(text.encode()) + 1,
        line=line,
        text=text,
        parts=scores if in_parts else None,
    )


def _start(out: object) -> TrainingStart:
    return TrainingStart(
        parameters=1234567,
        vocabulary_size=65,
        device="cpu",
        precision="float32",
        description="lstm 512",
        out=str(out),
        notes=("a thing worth knowing",),
    )


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    """The stand-in, in the place of what needs torch."""
    fake = FakeLibrary()
    monkeypatch.setitem(textgen.__dict__, "train", fake.train)
    module: Any = types.ModuleType("textgen.language_model")
    module.LanguageModel = types.SimpleNamespace(load=fake.load)
    monkeypatch.setitem(sys.modules, "textgen.language_model", module)
    return fake


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Runs the command line in this process: run("score", "x", stdin="a")."""

    def call(*arguments: str | Path, stdin: str = "") -> Run:
        typed = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", typed)
        code = main([str(each) for each in arguments])
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return call
