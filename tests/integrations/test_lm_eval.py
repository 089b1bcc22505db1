"""lm-evaluation-harness: figures computed by hand, and the verdicts of ``textgen pairs``."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from textgen import LanguageModel, checkpoint, train
from textgen.cli.app import main
from textgen.errors import UsageError

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
pytest.importorskip("lm_eval")

if TYPE_CHECKING:
    from textgen.integrations.lm_eval import TextgenLM
else:
    from textgen.integrations.lm_eval import TextgenLM

pytestmark = pytest.mark.filterwarnings("default")  # those of the other program are its own

SIZES: dict[str, Any] = {"steps": 1, "batch_size": 2, "sequence_length": 8, "threads": 1}
BIGRAMS = {  # p(next | before); a text begins after the newline
    "\n": {"a": 0.6, "b": 0.3, " ": 0.05, "\n": 0.05},
    "a": {"a": 0.1, "b": 0.2, " ": 0.5, "\n": 0.2},
    "b": {"a": 0.25, "b": 0.25, " ": 0.1, "\n": 0.4},
    " ": {"a": 0.15, "b": 0.8, " ": 0.04, "\n": 0.01},
}


def log_prob(text: str, before: str = "\n") -> float:
    """ln p of a text by the table."""
    return sum(
        math.log(BIGRAMS[one][other]) for one, other in zip(before + text, text, strict=False)
    )


def is_greedy(text: str, before: str = "\n") -> bool:
    return all(
        other == max(BIGRAMS[one], key=lambda character: BIGRAMS[one][character])
        for one, other in zip(before + text, text, strict=False)
    )


def requests(*arguments: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=each) for each in arguments]


@pytest.fixture(scope="module")
def bigram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain RNN whose state is the last character alone, and its output the table of bigrams."""
    folder = tmp_path_factory.mktemp("bigram")
    (folder / "corpus.txt").write_text("ab ba\n" * 50)
    size: dict[str, Any] = {"hidden_size": 5, "embedding_size": 0, "model": "rnn", "tie": False}
    train(folder / "corpus.txt", out=folder / "run", device="cpu", **size, **SIZES)
    model = LanguageModel.load(folder / "run", device="cpu")
    ids = {each: int(model.tokenizer.encode(each)[0]) for each in BIGRAMS}
    weights = {name: torch.zeros_like(each) for name, each in model.model.state_dict().items()}
    weights["layers.0.weight_ih_l0"] = 20 * torch.eye(5)  # tanh(20) is 1
    for before, after in BIGRAMS.items():
        weights["output.weight"][:, ids[before]] = -torch.inf
        for character, probability in after.items():
            weights["output.weight"][ids[character], ids[before]] = math.log(probability)
    weights["output.weight"].clamp_(min=-100)  # p(<UNK>) is 1e-44
    model.model.load_state_dict(weights)
    header = dataclasses.replace(model.header, rounding=None)
    checkpoint.save(folder / "bigram", header, model.model, model.tokenizer)
    return folder / "bigram"


@pytest.fixture(scope="module")
def model(bigram: Path) -> TextgenLM:
    return TextgenLM(bigram, device="cpu")


@pytest.mark.parametrize(
    ("context", "continuation"),
    [
        ("a", " b"),
        ("a ", "b"),  # a space at the end of the context is context
        ("b", "a "),  # and one at the end of a continuation is scored
        ("a", "  "),
        ("ab\n", "ab"),  # a context of several lines
        ("a", "\nb a"),  # and a continuation
        ("a", " b\n"),
    ],
)
def test_only_the_continuation_is_scored_and_each_character_given_the_one_before(
    model: TextgenLM, context: str, continuation: str
) -> None:
    ((found, greedy),) = model.loglikelihood(requests((context, continuation)))
    assert found == pytest.approx(log_prob(continuation, context[-1]), abs=1e-5)
    assert greedy is is_greedy(continuation, context[-1])


def test_after_an_empty_context_a_text_begins_at_the_start_and_ends(model: TextgenLM) -> None:
    given = requests(("", "ab"), ("", "ab\n"), ("", "a\nb"))
    found = [each for each, _ in model.loglikelihood(given)]
    expected = [log_prob(text) for text in ("ab\n", "ab\n", "a\nb\n")]
    assert found == pytest.approx(expected, abs=1e-5)
    rolling = model.loglikelihood_rolling(requests(("ab",), ("a\nb",), (" ab ",)))
    assert rolling == pytest.approx([expected[0], expected[2], log_prob(" ab \n")], abs=1e-5)


def test_the_space_that_would_divide_a_text_from_an_empty_context_is_left_out(
    model: TextgenLM,
) -> None:
    given = requests(("", " ab"), ("", "  ab "))
    found = [each for each, _ in model.loglikelihood(given)]
    assert found == pytest.approx([log_prob("ab\n"), log_prob(" ab \n")], abs=1e-5)


def test_without_eos_the_parts_of_a_text_sum_to_it(bigram: Path) -> None:
    model = TextgenLM(bigram, device="cpu", eos=False)
    given = requests(("", "ab ba"), ("", "ab"), ("ab", " ba"), ("", "ab\n"))
    whole, first, second, line = (each for each, _ in model.loglikelihood(given))
    assert whole == pytest.approx(log_prob("ab ba"), abs=1e-5)
    assert whole == pytest.approx(first + second, abs=1e-5)
    assert line == pytest.approx(log_prob("ab\n"), abs=1e-5)
    assert model.loglikelihood_rolling(requests(("ab ba",))) == [pytest.approx(whole, abs=1e-6)]


def test_greedy_is_what_greedy_decoding_writes(model: TextgenLM) -> None:
    (written,) = model.generate_until(requests(("a", {"until": ["\n"], "max_gen_toks": 2})))
    assert written == " b"
    ((_, greedy),) = model.loglikelihood(requests(("a", written)))
    assert greedy
    ((_, of_unknown),) = model.loglikelihood(requests(("a", " ?")))
    assert not of_unknown


def test_texts_are_read_in_any_order_and_answered_in_theirs(model: TextgenLM) -> None:
    random.seed(1)
    pairs = [
        ("".join(random.choices("ab ", k=random.randint(0, 9))), "ab" * random.randint(1, 40))
        for _ in range(60)
    ]
    alone = [model.loglikelihood(requests(pair))[0] for pair in pairs[:6]]
    together = model.loglikelihood(requests(*pairs))
    assert [each for each, _ in together[:6]] == pytest.approx([a for a, _ in alone], abs=1e-5)
    for (context, text), (found, _) in zip(pairs, together, strict=True):
        ended = text if context else text + "\n"
        assert found == pytest.approx(log_prob(ended, context[-1:] or "\n"), abs=1e-4)


def test_options_of_generation_are_heeded(model: TextgenLM) -> None:
    greedy, stopped, short, *drawn = model.generate_until(
        requests(
            ("", {"until": ["\n"], "max_gen_toks": 6}),
            ("", {"until": "b", "max_gen_toks": 6}),
            ("", {"until": [], "max_gen_toks": 1, "temperature": 0.0}),
            ("", {"max_gen_toks": 40, "do_sample": True, "seed": 1}),
            ("", {"max_gen_toks": 40, "do_sample": True, "seed": 2}),
            ("", {"max_gen_toks": 40, "temperature": 0.01}),
        )
    )
    assert (greedy, stopped, short) == ("a b", "a ", "a")
    assert drawn[0] != drawn[1]
    assert drawn[2].startswith("a b\na b\n")  # nearly greedy
    with pytest.raises(UsageError, match="no such option: num_beams"):
        model.generate_until(requests(("", {"num_beams": 4})))


def test_a_bidirectional_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("ab ba\n" * 50)
    out, size = tmp_path / "run", {"hidden_size": 4, "embedding_size": 4}
    train(tmp_path / "corpus.txt", out=out, model="bidirectional", device="cpu", **size, **SIZES)
    with pytest.raises(UsageError, match="bidirectional"):
        TextgenLM(out)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Minimal pairs as BLiMP has them, and a task of the harness in the form of its own."""
    random.seed(2)
    pairs = [
        {
            "sentence_good": "".join(random.choices("ab ", k=random.randint(1, 9))) + "a",
            "sentence_bad": "".join(random.choices("ab ", k=random.randint(1, 9))) + "b",
            "UID": "made_up",
        }
        for _ in range(40)
    ]
    lines = "".join(json.dumps(pair) + "\n" for pair in pairs)
    (tmp_path / "pairs.jsonl").write_text(lines)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "pairs.yaml").write_text(
        f"""task: local_pairs
dataset_path: json
dataset_kwargs: {{data_files: {{train: {tmp_path / "pairs.jsonl"}}}}}
output_type: multiple_choice
validation_split: train
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{{{[sentence_good, sentence_bad]}}}}"
num_fewshot: 0
metric_list: [{{metric: acc}}]
"""
    )
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def test_minimal_pairs_get_the_verdicts_of_textgen_pairs(
    task: Path, bigram: Path, model: TextgenLM, capsys: pytest.CaptureFixture[str]
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(task / "tasks"), include_defaults=False)
    found = simple_evaluate(model=model, tasks=["local_pairs"], task_manager=manager)
    by_document = {each["doc_id"]: each["acc"] for each in found["samples"]["local_pairs"]}
    capsys.readouterr()
    assert main(["pairs", str(bigram), str(task / "pairs.jsonl"), "--format", "json"]) == 0
    records = list(map(json.loads, capsys.readouterr().out.splitlines()))
    verdicts = [float(record["right"]) for record in records[:-1]]
    assert [by_document[number] for number in range(len(verdicts))] == verdicts
    assert 0 < sum(verdicts) < len(verdicts)
    accuracy = found["results"]["local_pairs"]["acc,none"]
    assert accuracy == pytest.approx(records[-1]["total"]["accuracy"])


def test_the_command_of_the_harness_finds_the_model_by_name(
    task: Path, bigram: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.__main__ import cli_evaluate

    arguments = ["--model", "textgen", "--model_args", f"checkpoint={bigram},threads=1"]
    arguments += ["--tasks", "local_pairs", "--include_path", str(task / "tasks")]
    arguments += ["--output_path", str(task / "results.json")]
    monkeypatch.setattr(sys, "argv", ["lm_eval", *arguments])
    cli_evaluate()
    (written,) = task.glob("results*.json")
    assert "acc,none" in json.loads(written.read_text())["results"]["local_pairs"]
