"""Arguments of the Python API: what is of another type is refused by an error of textgen's."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textgen import LanguageModel, compare, plan, train
from textgen.config import KINDS
from textgen.errors import TextgenWarning, UsageError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("model")
    (folder / "text.txt").write_text("the king and the queen.\n" * 20, encoding="utf-8")
    sizes: dict[str, Any] = {"hidden_size": 8, "embedding_size": 4, "batch_size": 2}
    train(folder / "text.txt", out=folder / "run", steps=1, sequence_length=8, threads=1, **sizes)
    return LanguageModel.load(folder / "run", device="cpu")


@pytest.mark.parametrize(
    ("method", "arguments", "options"),
    [
        ("score", ([["the", "king"]],), {}),  # only a tuple is a prefix and its continuation
        ("score", (b"ab",), {}),
        ("score", ([b"ab"],), {}),
        ("score", (None,), {}),
        ("score", ([("the", None)],), {}),
        ("score", ([("the", " king", "x")],), {}),
        ("score", ("the", {"level": "word"}), {}),
        ("score", ("the",), {"level": "phrase"}),
        ("score", ("the",), {"prefix": 5}),
        ("scores", (["the"],), {"jobs": "2"}),
        ("scores", (["the"],), {"on_skip": 3}),
        ("sample", (None,), {}),
        ("sample", ([None],), {}),
        ("sample", (b"the",), {}),
        ("sample", ("the",), {"stop": 5}),
        ("samples", ("the",), {"accept": 3}),
        ("predict", (["a"],), {}),
        ("encode", (["a"],), {}),
        ("decode", ("ab",), {}),
        ("decode", ([[2, 3]],), {}),
        ("decode", ([[2], [3, 4]],), {}),
        ("decode", ([2.0],), {}),
        ("decode", ([10**30],), {}),
        ("decode", ([2, 10**6],), {}),
        ("decode", ([-1],), {}),
        ("logits", (None,), {}),
        ("logits", ([b"a"],), {}),
        ("hidden_states", ([None],), {}),
        ("predict", ("the",), {"words": "3"}),
        ("load", (None,), {}),
        ("load", ("run",), {"device": "tpu"}),
        ("load", ("run",), {"threads": 1.5}),
        ("load", ("run",), {"precision": "float8"}),
    ],
)
def test_an_argument_of_another_type_is_a_usage_error(
    model: LanguageModel, method: str, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        list(getattr(model, method)(*arguments, **options))


@pytest.mark.parametrize("function", [train, plan, compare], ids=["train", "plan", "compare"])
@pytest.mark.parametrize(
    "changed",
    [
        *({"out": None}, {"out": 5}, {"resume": "yes"}, {"overwrite": 1}, {"threads": "2"}),
        *({"device": "tpu"}, {"encoding": 5}, {"valid": ["v"]}, {"on_event": 3}, {"stop": 2}),
    ],
    ids=str,
)
def test_training_refuses_arguments_of_another_type_before_it_writes(
    function: Any, changed: dict[str, Any], tmp_path: Path
) -> None:
    parameters = inspect.signature(function).parameters
    out = {"out": tmp_path / "out"} if "out" in parameters else {}
    if changed.keys() <= parameters.keys():
        with pytest.raises(UsageError):
            function("corpus.txt", **(out | changed))
    with pytest.raises(UsageError, match="corpora must be text or a path"):
        function(["corpus.txt"], **out)
    assert list(tmp_path.iterdir()) == []


def test_a_text_is_encoded_and_decoded(model: LanguageModel) -> None:
    ids = model.encode("the king\nand")
    assert ids.shape == (12,) and ids[8] == 1
    assert model.decode(ids) == model.decode(ids.tolist()) == "the king\nand"
    assert model.decode([]) == ""


@pytest.mark.parametrize("kind", [*KINDS])
def test_logits_and_hidden_states_are_those_that_score_a_text(kind: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the king and the queen.\n" * 20, encoding="utf-8")
    options: dict[str, Any] = {} if KINDS[kind].counts else {"steps": 1, "batch_size": 2}
    train(tmp_path / "text.txt", out=tmp_path / "run", model=kind, threads=1, **options)
    model = LanguageModel.load(tmp_path / "run", device="cpu")
    texts = ["the queen", "", "king and"]
    scores = model.score(texts)
    several = model.logits(texts)
    for text, logits, score in zip(texts, several, scores, strict=True):
        targets = [*model.encode(text), 1]
        assert logits.shape == (len(targets), model.tokenizer.vocabulary_size)
        assert logits.dtype == np.float32
        log_probs = torch.from_numpy(logits).double().log_softmax(-1)
        total = sum(float(row[id]) for row, id in zip(log_probs, targets, strict=True))
        assert total == pytest.approx(score.log_prob, abs=1e-4)
        assert np.array_equal(model.logits(text), logits)
    if "hidden_size" not in KINDS[kind].options:
        with pytest.raises(UsageError, match=f"{re.escape(kind)} has no hidden states"):
            model.hidden_states(texts)
        return
    hidden = model.hidden_states(texts[0])
    assert hidden.shape == (10, model.header.model.layer_sizes[-1])
    assert [each.shape for each in model.hidden_states(texts)][1] == (1, hidden.shape[1])
    layer = model.model.output_layer
    if layer is not None and kind != "lstm+ngram":  # whose logits are of both
        same = layer(torch.from_numpy(hidden)).detach().numpy()
        assert same == pytest.approx(several[0], abs=1e-4)


def test_training_shows_its_progress_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("the king and the queen.\n" * 20, encoding="utf-8")
    seen: list[object] = []
    sizes: dict[str, Any] = {"hidden_size": 8, "batch_size": 2, "steps": 1, "threads": 1}
    train(tmp_path / "text.txt", out=tmp_path / "quiet", **sizes)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    train(tmp_path / "text.txt", out=tmp_path / "run", progress=True, on_event=seen.append, **sizes)
    captured = capsys.readouterr()
    assert captured.out == "" and "step 1" in captured.err
    assert seen


@pytest.mark.parametrize("shape", [(3, 5), (5,), (5, 3, 1)])
def test_ids_that_are_not_time_by_batch_of_the_state_are_refused(
    model: LanguageModel, shape: tuple[int, ...]
) -> None:
    network = model.model
    with pytest.raises(UsageError, match="time, batch"):
        network.hidden_states(torch.zeros(shape, dtype=torch.long), network.start(3))


def test_a_loaded_model_is_in_evaluation_mode_and_says_what_it_is(model: LanguageModel) -> None:
    assert not model.model.training
    assert repr(model).endswith("best': lstm 8, embedding 4, 1,667 parameters>")


def test_a_continuation_without_its_space_is_told_once(model: LanguageModel) -> None:
    given = [("the", " king"), ("the queen", "and"), ("the king", "and")]
    with pytest.warns(
        TextgenWarning, match="line 2: .* as one word, 'queenand'; if they are two"
    ) as told:
        scores = list(model.scores(given))
    assert len(told) == 1
    assert [score.text for score in scores] == [" king", "and", "and"]
    with pytest.warns(TextgenWarning, match="line 1: .*'theking'"):
        model.score("king and", prefix="the")
    for prefix, text in (
        ("the ", "king"),
        ("the", ", and"),
        ("the", "’s"),
        ("", "the"),
        ("猫", "が"),
    ):
        model.score([(prefix, text)])  # a warning would be an error


def test_a_prediction_that_continues_the_last_word_is_told(model: LanguageModel) -> None:
    with pytest.warns(TextgenWarning, match="may continue the last word of the text, as in 'qu"):
        model.predict("the qu", words=9)
    model.predict("the qu")  # a character goes on as it may
    model.predict("the queen ", words=9)
