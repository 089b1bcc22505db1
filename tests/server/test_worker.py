"""Texts written side by side by the thread of a server, and their words in the protocol."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen import train
from textgen.language_model import LanguageModel
from textgen.sampling.generator import Batch
from textgen.server.completions import Completer, Completion
from textgen.server.config import ServerConfig
from textgen.server.protocol import LogProbs, ProtocolError, parse_completion
from textgen.server.worker import TOGETHER, Worker
from textgen.tokenizers.base import EOS

LEVELS: dict[str, dict[str, Any]] = {
    "char": {},
    "word": {"level": "word", "min_count": 1},
    "subword": {"level": "subword", "vocab_size": 290},
}
TEXT = "the cats and (a hat) sat\nand a café, the hat\nthe cat sat on the mat\n" * 20


@pytest.fixture(scope="module", params=LEVELS)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> LanguageModel:
    folder: Path = tmp_path_factory.mktemp("server")
    Path(folder, "text.txt").write_text(TEXT, encoding="utf-8")
    train(
        folder / "text.txt",
        out=folder / "mine",
        hidden_size=16,
        steps=2,
        batch_size=2,
        sequence_length=8,
        **LEVELS[request.param],
    )
    return LanguageModel.load(folder / "mine", device="cpu", precision="float64")


CONFIG = ServerConfig(max_waiting=10)


@pytest.fixture
def worker(model: LanguageModel) -> Iterator[Worker]:
    worker = Worker(model.model, max_waiting=CONFIG.max_waiting)
    worker.start()
    yield worker
    worker.cancel([*worker._running.values(), *worker._waiting])  # of a test that failed
    worker.stop()


def begun(
    model: LanguageModel, notify: Callable[[bool], None] = lambda has_ended: None, **fields: Any
) -> Completion:
    """A completion whose rows are not submitted yet."""
    body = json.dumps(fields).encode()
    asked = parse_completion(body, CONFIG, "mine", model.tokenizer.vocabulary_size)
    completer = Completer(model, CONFIG)
    generator, prompts = completer.prompts(asked)
    needed = asked.echo and asked.logprobs is not None
    works = completer.scoring(asked, prompts) if needed else ()
    scores = [score for work in works for score in work()] if needed else None
    return completer.begin(asked, generator, prompts, scores, notify)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def finish(completions: list[Completion]) -> None:
    wait_until(lambda: all(each.ready for each in completions))


def texts(completion: Completion) -> list[str]:
    finish([completion])
    return [choice.take()[0] for choice in completion.choices]


def written(worker: Worker, model: LanguageModel, **fields: Any) -> tuple[Completion, list[str]]:
    completion = begun(model, **fields)
    numbered(completion, 0)
    worker.submit(completion.rows)
    return completion, texts(completion)


def numbered(completion: Completion, first: int) -> None:
    """Give rows of different completers different numbers."""
    for number, row in enumerate(completion.rows):
        object.__setattr__(row.request, "index", first + number)


REQUESTS: list[dict[str, Any]] = [
    {"prompt": "the ", "seed": 4, "n": 3},
    {"prompt": ["the cat", "", "a"], "seed": 1, "temperature": 0.7},
    {"prompt": "the", "seed": 9, "stop": ["at", "e"]},
    {"prompt": "the", "seed": 9, "top_p": 0.8, "n": 2},
    {"prompt": "", "seed": 2, "ban": ["a", "e"]},
    {"prompt": "a", "seed": 3, "frequency_penalty": 1.5, "logit_bias": {"5": 3}},
    {"prompt": "a", "seed": 3, "dry_multiplier": 2, "xtc_probability": 0.5},
    {"prompt": "a", "seed": 6, "sentences": 1},
]


def test_all_at_once_each_is_the_text_of_sample(worker: Worker, model: LanguageModel) -> None:
    completions = [begun(model, max_tokens=50, **each) for each in REQUESTS]
    for number, each in enumerate(completions):
        numbered(each, 100 * number)
        worker.submit(each.rows)
    for asked, completion in zip(REQUESTS, completions, strict=True):
        options = dict(asked)
        prompts, count = options.pop("prompt"), options.pop("n", 1)
        if "logit_bias" in options:
            options["logit_bias"] = {int(id): bias for id, bias in options["logit_bias"].items()}
        expected = model.sample(prompts, length=50, count=count, **options)
        assert texts(completion) == [sample.text for sample in expected]
        for choice, sample in zip(completion.choices, expected, strict=True):
            reason = "length" if sample.finish_reason == "length" else "stop"
            assert (choice.finish_reason, choice.tokens) == (reason, sample.tokens)


def test_ids_of_a_prompt_are_the_prompt_with_or_without_the_eos_of_its_start(
    worker: Worker, model: LanguageModel
) -> None:
    ids = model.tokenizer.encode("the cat").tolist()
    wanted = written(worker, model, prompt="the cat", seed=1)[1]
    assert written(worker, model, prompt=ids, seed=1)[1] == wanted
    completion, found = written(worker, model, prompt=[EOS, *ids], seed=1)
    assert found == wanted
    assert completion.prompt_tokens == len(ids) + 1


@pytest.mark.parametrize("text", ["the cat sat ", "the café\nhat", "", "the zebra; é"])
def test_log_probs_of_an_echoed_prompt_are_those_of_score(model: LanguageModel, text: str) -> None:
    completion = begun(model, prompt=text, echo=True, logprobs=3, max_tokens=0)
    (choice,) = completion.choices
    echoed, found = choice.take()
    assert echoed == text
    assert found is not None and found.top_logprobs is not None
    total = sum(each for each in found.token_logprobs if each is not None)
    expected = sum(
        model.score(line, eos=place < text.count("\n"), context="document").log_prob
        for place, line in enumerate(text.split("\n")[:1])
    )
    if "\n" not in text:
        assert total == pytest.approx(expected, abs=1e-9)
    assert "".join(found.tokens) == text or "<UNK>" in found.tokens or "bytes:" in str(found.tokens)
    for log_prob, top in zip(found.token_logprobs, found.top_logprobs, strict=True):
        assert log_prob is not None and top is not None
        assert 1 <= len(top) <= 3 and max(top.values()) >= log_prob - 1e-9


def test_log_probs_of_what_is_written_are_those_of_score(
    worker: Worker, model: LanguageModel
) -> None:
    fields = {"prompt": "the ", "max_tokens": 12, "seed": 3, "logprobs": 2}
    completion = begun(model, **fields)
    worker.submit(completion.rows)
    finish([completion])
    text, found = completion.choices[0].take()
    assert found is not None and found.top_logprobs is not None
    (sample,) = model.sample("the ", length=12, seed=3)
    assert sum(x for x in found.token_logprobs if x is not None) == pytest.approx(sample.log_prob)
    ids = [*model.tokenizer.continuation("the ").ids.tolist(), *sample.ids]
    echoed = begun(model, prompt=ids, max_tokens=0, echo=True, logprobs=2).choices[0].take()[1]
    assert echoed is not None and echoed.top_logprobs is not None
    assert len(found.tokens) == 12
    np.testing.assert_allclose(
        np.array(echoed.token_logprobs[-12:], float), np.array(found.token_logprobs, float)
    )
    for one, other in zip(echoed.top_logprobs[-12:], found.top_logprobs, strict=True):
        # The space that the prompt ends with is not the token's.
        assert list(one.values()) == pytest.approx(list(other.values()))
    assert found.text_offset[0] == len("the ")
    assert text == sample.text


def test_the_first_token_of_ids_that_begin_with_eos_has_no_log_prob(model: LanguageModel) -> None:
    ids = model.tokenizer.encode("the cat").tolist()
    with_eos = begun(model, prompt=[EOS, *ids], echo=True, logprobs=1, max_tokens=0)
    without = begun(model, prompt=ids, echo=True, logprobs=1, max_tokens=0)
    one, other = with_eos.choices[0].take()[1], without.choices[0].take()[1]
    assert isinstance(one, LogProbs) and isinstance(other, LogProbs)
    assert one.token_logprobs == [None, *other.token_logprobs]
    assert one.text_offset == [0, *other.text_offset]


def test_a_row_that_is_given_up_is_free(worker: Worker, model: LanguageModel) -> None:
    news = threading.Event()
    long = begun(
        model, lambda has_ended: news.set(), prompt=[""] * 64, n=4, max_tokens=16384, stream=True
    )
    worker.submit(long.rows)
    assert news.wait(60)
    wait_until(lambda: worker.rows[0] == TOGETHER)
    worker.cancel(long.rows)
    wait_until(lambda: worker.rows == (0, 0))
    wanted = [sample.text for sample in model.sample("a", length=16, seed=1)]
    assert written(worker, model, prompt="a", seed=1)[1] == wanted


def test_beyond_the_limit_rows_are_refused_and_others_go_on(
    worker: Worker, model: LanguageModel
) -> None:
    first = begun(model, prompt=[""] * (TOGETHER + CONFIG.max_waiting), max_tokens=60, seed=1)
    worker.submit(first.rows)
    second = begun(model, prompt="")
    with pytest.raises(ProtocolError) as error:
        worker.submit(second.rows)
    assert (error.value.status, error.value.code) == (429, "rate_limit_exceeded")
    expected = model.sample([""] * (TOGETHER + CONFIG.max_waiting), length=60, seed=1)
    assert texts(first) == [sample.text for sample in expected]


def test_an_error_ends_the_rows_and_not_the_worker(
    worker: Worker, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Batch) -> None:
        raise ArithmeticError("no")

    completion = begun(model, prompt=["", "a"])
    with monkeypatch.context() as context:
        context.setattr(Batch, "draw", fail)
        worker.submit(completion.rows)
        finish([completion])
        with pytest.raises(ArithmeticError):
            completion.choices[0].take()
    wanted = [sample.text for sample in model.sample("a", length=16, seed=1)]
    assert written(worker, model, prompt="a", seed=1)[1] == wanted


def test_other_work_is_done_between_two_tokens(worker: Worker, model: LanguageModel) -> None:
    long = begun(model, prompt=[""] * 8, max_tokens=16384)
    worker.submit(long.rows)
    assert worker.call(lambda: worker.rows[0]).result(60) in range(9)

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        worker.call(fail).result(60)
    worker.cancel(long.rows)
