"""A command line whose library is a stand-in: what it was asked, and results made up."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import textgen
from textgen.cli.app import main
from textgen.config import TokenizerConfig
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
    notes = ("reading checkpoints/x/best",)
    path = Path("checkpoints/x/best")
    generates = True

    def __init__(self, library: FakeLibrary) -> None:
        self._library = library
        self.tokenizer = types.SimpleNamespace(config=TokenizerConfig())

    def samples(self, prompts: list[str], **options: Any) -> Iterator[Sample]:
        options.pop("on_text", None)
        self._library.calls["samples"] = {"prompts": prompts, **options}
        count, seed = int(options.get("count", 1)), int(options.get("seed", 1))
        for index in self._library.order(len(prompts) * count):
            prompt, text = prompts[index // count], f" written {index}\n"
            unknown = tuple(each for each in prompt if each == "?")
            yield Sample(index, text, prompt, -1.5, 11, "length", seed, prompt_unknown=unknown)

    def scores(self, sentences: Iterable[str], **options: Any) -> Iterator[SentenceScore]:
        texts = list(sentences)
        self._library.calls["scores"] = {"sentences": texts, **options}
        in_parts = options.get("level", "sentence") != "sentence"
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
        train_tokens=900,
        valid_tokens=100,
        train_characters=900,
        level="char",
        device="cpu",
        precision="float32",
        threads=2,
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
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Runs the command line in this process: run("score", "x", "--text", "a")."""

    def call(*arguments: str | Path) -> Run:
        code = main([str(each) for each in arguments])
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return call
