"""Recurrent models as ONNX graphs, computed by onnxruntime."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from textgen import LanguageModel, train
from textgen.cli.app import main
from textgen.exports import onnx as door

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")  # of the example

ROOT = Path(__file__).resolve().parent.parent.parent
Array = npt.NDArray[Any]
TEXT = 'the dog saw "the cat" (again).\na cat saw a dog\nthe bird, well-known\n' * 20
MODELS: dict[str, dict[str, Any]] = {
    "lstm": {"hidden_size": (24, 16), "ngram_embeddings": 0, "embedding_size": 12},
    "lstm with n-grams": {"hidden_size": (16,), "ngram_embeddings": 4},
    "lstm tied": {"hidden_size": (20, 12), "embedding_size": 12, "tie": True},
    "lstm one-hot": {"hidden_size": (16,), "embedding_size": 0, "ngram_embeddings": 0},
    "gru": {"model": "gru", "hidden_size": (24, 16), "embedding_size": 12},
    "gru tied": {"model": "gru", "hidden_size": (16,), "embedding_size": 16, "tie": True},
    "rnn": {"model": "rnn", "hidden_size": (24, 16)},
    "rnn with relu": {"model": "rnn", "hidden_size": (16,), "activation": "relu"},
}


def trained(folder: Path, **options: Any) -> LanguageModel:
    text = folder / "text.txt"
    text.write_text(TEXT)
    options = {"steps": 2, "batch_size": 2, "sequence_length": 16, **options}
    train(text, out=folder / "run", baseline=False, **options)
    return LanguageModel.load(folder / "run", device="cpu")


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model with weights that are far from their start, and its session."""
    folder = tmp_path_factory.mktemp("onnx")
    model = trained(folder, **MODELS[request.param])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.normal_(0, 0.25, generator=generator)
    assert door.write(model, folder / "out") == []
    return model, onnxruntime.InferenceSession(folder / "out" / "model.onnx"), folder / "out"


def start(session: Any, batch: int, generator: np.random.Generator) -> dict[str, Array]:
    """A state that is not that of a start."""
    state: dict[str, Array] = {}
    for each in session.get_inputs()[1:]:
        shape = (batch, each.shape[1])
        if each.name == "last_ids":
            state[each.name] = generator.integers(-1, 5, shape)
        else:
            state[each.name] = generator.normal(0, 0.7, shape).astype(np.float32)
    return state


def by_torch(model: LanguageModel, ids: Array, state: dict[str, Array]) -> tuple[Array, Any]:
    names = {"last_ids": "ids"}
    tensors = {names.get(name, name): torch.from_numpy(rows) for name, rows in state.items()}
    with torch.inference_mode():
        logits, after = model.model(torch.from_numpy(ids), model.model.restore(tensors))
    named = after.named
    return logits.numpy(), [named[names.get(name, name)].numpy() for name in state]


@pytest.mark.parametrize("batch", [1, 3, 128])
@pytest.mark.parametrize("length", [1, 7, 500])
def test_logits_and_states_are_those_of_the_model_from_any_state(
    pair: Any, batch: int, length: int
) -> None:
    model, session, _ = pair
    generator = np.random.default_rng(batch + length)
    vocabulary = model.tokenizer.vocabulary_size
    ids = generator.integers(0, vocabulary, (length, batch))
    state = start(session, batch, generator)
    expected, states = by_torch(model, ids, state)
    logits, *after = session.run(None, {"ids": ids, **state})
    assert logits.shape == (length, batch, vocabulary)
    np.testing.assert_allclose(logits, expected, atol=2e-5, rtol=1e-5)
    for found, wanted in zip(after, states, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-5)
    # The state matters, in every row: none is dropped, and none is that of another row.
    zeros = {name: np.zeros_like(rows) for name, rows in state.items()}
    from_zeros, *_ = session.run(None, {"ids": ids, **zeros})
    assert (np.abs(from_zeros[0] - logits[0]).max(-1) > 1e-3).all()


def test_chunks_with_the_state_between_them_are_one_text(pair: Any) -> None:
    model, session, _ = pair
    generator = np.random.default_rng(0)
    ids = generator.integers(0, model.tokenizer.vocabulary_size, (23, 3))
    first = state = start(session, 3, generator)
    parts = []
    for begin, end in ((0, 1), (1, 3), (3, 10), (10, 23)):
        logits, *after = session.run(None, {"ids": ids[begin:end], **state})
        state = dict(zip(state, after, strict=True))
        parts.append(logits)
    whole, *after = session.run(None, {"ids": ids, **first})
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)
    for found, wanted in zip(state.values(), after, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_weight_of_two_layers_is_stored_once(pair: Any) -> None:
    model, _, folder = pair
    graph = onnx.load(folder / "model.onnx").graph
    stored = sum(
        int(np.prod(each.dims)) for each in graph.initializer if "constant" not in each.name
    )
    assert stored == sum(weight.numel() for weight in model.model.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"level": "char"},
        {"level": "word", "split": "whitespace", "min_count": 1},
        {"level": "word", "min_count": 1},
        {"level": "subword", "vocab_size": 300, "ngram_embeddings": 3},
    ],
    ids=["char", "whitespace", "punctuation", "subword"],
)
def test_the_example_scores_and_samples(tmp_path: Path, options: dict[str, Any]) -> None:
    model = trained(tmp_path, hidden_size=12, **options)
    door.write(model, tmp_path / "out")
    example = tmp_path / "out" / "example.py"
    for text in ("the dog saw", "a cat saw a"):
        run = subprocess.run(
            [sys.executable, str(example), text], capture_output=True, check=True, cwd="/"
        )
        first, _, sample = run.stdout.decode().partition("\n")
        log_prob = float(first.removeprefix("ln p: "))
        assert log_prob == pytest.approx(model.score(text).log_prob, abs=1e-4)
        assert sample.startswith(text) and len(sample) > len(text) + 1
    assert len(example.read_text(encoding="utf-8").splitlines()) <= 35


def test_without_rules_for_its_tokenizer_the_graph_has_a_vocabulary_and_no_example(
    tmp_path: Path,
) -> None:
    model = trained(tmp_path, hidden_size=12, level="subword", vocab_size=300, unk_literal="<unk>")
    (note,) = door.write(model, tmp_path / "out")
    assert "--unk-literal" in note
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"model.onnx", "vocabulary.json", "subword.model", "manifest.json"}


def test_weights_that_one_file_cannot_hold_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(tmp_path, hidden_size=32)
    monkeypatch.setattr(door, "_LARGEST_FILE", 1000)
    door.write(model, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.onnx", "model.onnx.data", "vocabulary.json", "example.py"} <= names
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    generator = np.random.default_rng(0)
    ids, state = generator.integers(0, 5, (4, 2)), start(session, 2, generator)
    expected, _ = by_torch(model, ids, state)
    np.testing.assert_allclose(session.run(None, {"ids": ids, **state})[0], expected, atol=1e-5)


def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "doors" / "onnx.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("mytext.txt").write_text(TEXT)
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    short = ["--steps", "2", "--batch-size", "2", "--hidden-size", "8"]
    for program, *arguments in filter(None, map(shlex.split, shell.splitlines())):
        if program == "python":
            run = subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            assert run.stdout.startswith(b"ln p: -")
        elif arguments[0] == "train":
            place = arguments.index("--budget")
            assert main([*arguments[:place], *arguments[place + 2 :], *short]) == 0
        elif program == "textgen":
            assert main(arguments) == 0, arguments
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["logits"].shape[:2] == (1, 2)
