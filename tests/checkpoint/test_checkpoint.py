import functools
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from textgen import checkpoint, storage
from textgen.checkpoint import Header, Machine
from textgen.config import LSTMConfig, TokenizerConfig, TrainingConfig
from textgen.data.corpus import CorpusSource
from textgen.data.encoded import CorpusHeader, PartCounts
from textgen.errors import CheckpointError, DataError, ResourceError
from textgen.models import Model, build, count_parameters
from textgen.results import Validation
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import learn_tokenizer, save_tokenizer

WEIGHTS, CONFIG = "model.safetensors", "config.json"
VALIDATION = Validation(loss=1.5, tokens=100, characters=90, unknown=2, step=7, seconds=3.5)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return learn_tokenizer(TokenizerConfig(), [("the cat sat\n", False), ("a dog\n", True)])


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Model:
    return drawn_model(tokenizer)


def drawn_model(tokenizer: Tokenizer, tie: bool = False) -> Model:
    shape = LSTMConfig(hidden_size=(5, 4), tie=tie, embedding_size=4)
    model = build(shape.resolved(tokenizer.vocabulary_size))
    model.initialize(torch.Generator().manual_seed(0))
    return model


def header_of(model: Model, **changes: Any) -> Header:
    header = Header(
        model=model.config,
        training=TrainingConfig(steps=5),
        corpus=CorpusHeader(
            "line", "<u2", PartCounts(12, 12, 1, 0), PartCounts(4, 4, 1, 0), "f" * 64, "0" * 64
        ),
        source=CorpusSource(("corpus.txt",)),
        machine=Machine("cpu", "float32", threads=1),
        step=7,
        tokens_seen=700,
        seconds=3.5,
        tokens_per_second=200.0,
        parameters=count_parameters(model.config),
        validation=VALIDATION,
    )
    return replace(header, **changes)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, model: Model, tokenizer: Tokenizer) -> Path:
    """A run's folder with ``best`` and ``last``, which no test may change."""
    folder = tmp_path_factory.mktemp("saved")
    resumable = ({"state.hidden.0": torch.arange(3.0)}, {"step": 7, "streams": [1, 2]})
    checkpoint.save(folder / "best", header_of(model), model, tokenizer)
    checkpoint.save(folder / "last", header_of(model, step=9), model, tokenizer, resumable)
    return folder


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(saved, tmp_path / "run"))


def logits_of(model: Model) -> Tensor:
    ids = torch.arange(12).view(6, 2) % model.config.vocabulary_size
    with torch.no_grad():
        return model(ids, model.start(2))[0]


def resealed(run: Path, change: Callable[[Path], Any]) -> Path:
    """A copy of ``best`` with something changed and every checksum right again."""
    target = run.parent / "resealed"
    with storage.new_folder(target) as begun:
        for path in (run / "best").iterdir():
            if path.name != storage.MANIFEST:
                shutil.copy(path, begun)
        change(begun)
    return target


def assert_refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        checkpoint.load(folder)
    assert refused.value.exit_code == 3
    return str(refused.value)


# What is saved is what is loaded


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_every_file_follows_the_umask(run: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        saved = checkpoint.load(run)
        out = tmp_path / "last"
        state = ({"a": torch.zeros(2)}, {})
        checkpoint.save(out, saved.header, saved.model, saved.tokenizer, state)
    finally:
        os.umask(before)
    assert len(list(out.iterdir())) == 7
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o640}


@pytest.mark.parametrize("tie", [False, True])
def test_save_and_load_give_identical_logits(
    tmp_path: Path, tokenizer: Tokenizer, tie: bool
) -> None:
    model = drawn_model(tokenizer, tie)
    checkpoint.save(tmp_path / "best", header_of(model), model, tokenizer)
    loaded = checkpoint.load(tmp_path / "best")
    assert torch.equal(logits_of(loaded.model), logits_of(model))
    assert loaded.header == header_of(model)
    assert loaded.tokenizer.fingerprint == tokenizer.fingerprint
    assert loaded.tokenizer.encode("the cat").tolist() == tokenizer.encode("the cat").tolist()


def test_tied_weights_are_saved_once_and_tied_again(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = drawn_model(tokenizer, tie=True)
    checkpoint.save(tmp_path / "best", header_of(model), model, tokenizer)
    assert "output.weight" not in load_file(tmp_path / "best" / WEIGHTS)
    loaded = checkpoint.load(tmp_path / "best").model
    assert loaded.get_parameter("output.weight") is loaded.get_parameter("embedding.weight")


def test_a_copied_best_loads_anywhere(run: Path, tmp_path: Path, model: Model) -> None:
    copy = tmp_path / "else where" / "renamed - model"
    shutil.copytree(run / "best", copy)
    shutil.rmtree(run)
    assert torch.equal(logits_of(checkpoint.load(copy).model), logits_of(model))


def test_saving_the_same_twice_writes_the_same_bytes(
    run: Path, model: Model, tokenizer: Tokenizer
) -> None:
    before = {path.name: path.read_bytes() for path in (run / "best").iterdir()}
    checkpoint.save(run / "best", header_of(model), model, tokenizer)
    assert {path.name: path.read_bytes() for path in (run / "best").iterdir()} == before


def test_best_is_read_before_last(run: Path) -> None:
    loaded = checkpoint.load(run)
    assert (loaded.name, loaded.header.step) == ("best", 7)
    shutil.rmtree(run / "best")
    loaded = checkpoint.load(run)
    assert (loaded.name, loaded.header.step) == ("last", 9)


def test_last_old_is_read_where_a_kill_left_no_last(run: Path) -> None:
    shutil.rmtree(run / "best")
    (run / "last").rename(run / "last.old")
    for path in (run, run / "last"):
        loaded = checkpoint.load(path)
        assert (loaded.name, loaded.header.step) == ("last", 9)
    (run / "last.new").mkdir()
    assert checkpoint.load(run).header.step == 9


def test_nothing_there_says_how_to_train(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ResourceError, match="textgen train") as refused:
            checkpoint.load(path)
        assert refused.value.exit_code == 1


def test_the_state_of_training_goes_there_and_back(run: Path) -> None:
    tensors, values = checkpoint.load_resumable(run / "last")
    assert torch.equal(tensors["state.hidden.0"], torch.arange(3.0))
    assert values == {"step": 7, "streams": [1, 2]}
    with pytest.raises(CheckpointError, match="no training state"):
        checkpoint.load_resumable(run / "best")


def test_a_full_disk_while_saving_leaves_the_old(
    run: Path, model: Model, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    def full(*_: object) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(ResourceError, match="No space left"):
        checkpoint.save(run / "best", header_of(model, step=8), model, tokenizer)
    monkeypatch.undo()
    assert checkpoint.load(run / "best").header.step == 7
    assert sorted(path.name for path in run.iterdir()) == ["best", "last"]


# Hostile headers, their checksums right


ABSENT = object()
HOSTILE_CONFIGS: list[tuple[str, Any]] = [
    *[(key, ABSENT) for key in ("format", "model", "training", "corpus", "source", "machine")],
    *[(key, ABSENT) for key in ("progress", "parameters")],
    *[("format", value) for value in (None, 0, 3, 5, "4", True, 1.5)],
    *[("model", value) for value in (None, [], "lstm", {})],
    *[("model.model", value) for value in ("gru", 5, [], {})],
    *[("model.hidden_size", v) for v in (None, [], [5], [4, 5], "5,4,3", [5, "4"], [[5], 4], 5.5)],
    *[("model.hidden_size", [size, 4]) for size in (0, -1, 10**9, 2**62, 10**30)],
    *[("model.embedding_size", value) for value in (None, 0, 5, "4", 10**9, 2**62)],
    *[("model.tie", value) for value in (None, True, "no", 1)],
    *[("model.vocabulary_size", value) for value in (None, 0, 5, "13", 1e9, 10**9)],
    *[("training", value) for value in (None, [], 5)],
    *[("training.learning_rate", value) for value in (-1, "x", 1e999)],
    *[("training.betas", value) for value in (5, [], ["a", "b"], [2, 3])],
    *[("training.budget", value) for value in ("x", -1, [])],
    *[("corpus", value) for value in (None, 5, "text")],
    *[(key, value) for key in ("machine", "source") for value in (None, 5, "x")],
    *[("progress", value) for value in (None, [], {}, "x")],
    *[("progress.step", value) for value in (None, "x", [], 1e999, 1.5, -1, 2**70, True)],
    *[("progress.seconds", value) for value in (-1, 1e308, "1")],
    *[("corpus.train.tokens", value) for value in (None, "x", -1, 2**63, 1.0)],
    *[("corpus.unit", value) for value in ("page", 5, [])],
    *[("machine.threads", value) for value in (0, "x", 2**40)],
    *[("versions", value) for value in ([], {"torch": 2})],
    ("source.corpora", ["\ud800"]),
    *[("validation", value) for value in (5, [], {}, "x")],
    *[("validation.loss", value) for value in (None, "x", [], 1e308, True)],
    *[("validation.tokens", value) for value in (-1, 1e3)],
    *[("parameters", value) for value in (None, "x", [])],
]


@pytest.mark.parametrize(
    ("path", "value"),
    HOSTILE_CONFIGS,
    ids=lambda value: "absent" if value is ABSENT else str(value)[:30],
)
def test_a_header_that_does_not_fit_is_refused(run: Path, path: str, value: Any) -> None:
    def change(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        *parents, name = path.split(".")
        place = functools.reduce(dict.__getitem__, parents, config)
        if value is ABSENT:
            del place[name]
        else:
            place[name] = value
        (folder / CONFIG).write_text(json.dumps(config))

    assert_refused(resealed(run, change))


def test_a_tokenizer_of_another_size_is_refused(run: Path, tmp_path: Path) -> None:
    other = learn_tokenizer(TokenizerConfig(), [("xyz\n", True)])

    forged = resealed(run, lambda folder: save_tokenizer(other, folder))
    assert "do not belong together" in assert_refused(forged)


# Pickles are never opened


class Trap:
    """Opening its pickle makes the file ``sprung``."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sprung,)


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_is_named_and_never_opened(run: Path, tmp_path: Path, protocol: int) -> None:
    sprung, data = tmp_path / "sprung", pickle.dumps(Trap(tmp_path / "sprung"), protocol)
    (tmp_path / "model.pt").write_bytes(data)
    assert "pickle" in assert_refused(tmp_path / "model.pt")
    for name in (WEIGHTS, CONFIG, "tokenizer.json", storage.MANIFEST):
        shutil.copytree(run / "best", tmp_path / name)
        (tmp_path / name / name).write_bytes(data)
        assert "pickle" in assert_refused(tmp_path / name)
    assert_refused(resealed(run, lambda folder: (folder / WEIGHTS).write_bytes(data)))
    assert not sprung.exists()
    pickle.loads(data)
    assert sprung.exists(), "the trap works"


def test_a_pytorch_archive_is_named_and_never_opened(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "model.pt")
    assert "zip archive" in assert_refused(tmp_path / "model.pt")


# What a checkpoint tells of itself


def test_a_checkpoint_is_described_from_its_json_and_metrics(run: Path, model: Model) -> None:
    lines = [
        {"event": "step", "step": 20, "loss": 2.5},
        {"event": "validation", "step": 40, "seconds": 2.0}
        | checkpoint.validation_json(replace(VALIDATION, step=40)),
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"half'
    (run / "metrics.jsonl").write_text(text)
    info = checkpoint.describe(run)
    assert (info.name, info.header.parameters) == (
        "best",
        sum(p.numel() for p in model.parameters()),
    )
    assert info.header.validation == VALIDATION
    assert info.training_curve == ((20, 2.5),)
    assert [point.step for point in info.curve] == [40]
    assert info.header.model == model.config
    assert info.tokenizer.level == "char"
    assert info.bytes >= 4 * info.header.parameters


@pytest.mark.parametrize(
    "change",
    [
        *(("step", value) for value in ("20", 2.5, None, -1, 5, 2**60, [])),
        *(("loss", value) for value in ("x", 1e308, True, [])),
        *(("seconds", value) for value in (None, -1, 1e300)),
        *(("seconds", 1), ("tokens_seen", 6), ("epoch", 0.5)),  # less than in the line before
        ("tokens_seen", {}),
        ("event", []),
    ],
)
def test_a_damaged_line_of_the_metrics_is_named(run: Path, change: tuple[str, Any]) -> None:
    good = {"event": "step", "step": 20, "loss": 2.5, "tokens_seen": 7, "epoch": 1, "seconds": 2}
    damaged = [json.dumps(good), json.dumps(good | dict([change])), '{"step": 1']
    if change != ("event", []):
        damaged[0] = damaged[0].replace("20", "10")
    (run / "metrics.jsonl").write_text("\n".join(damaged))
    for read in (checkpoint.describe, checkpoint.loss_curves):
        with pytest.raises(CheckpointError, match=r"damaged \(.*metrics\.jsonl, line 2\)"):
            read(run)


def test_a_loss_that_was_not_finite_is_no_point_of_a_curve(run: Path) -> None:
    lines = [{"event": "validation", "step": 1, "seconds": 1.0, "loss": None}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert checkpoint.describe(run).curve == ()


def test_the_curves_of_a_run_have_tokens_and_epochs_for_validations_too(run: Path) -> None:
    at_once = {"event": "validation", "seconds": 2.0} | checkpoint.validation_json(VALIDATION)
    step = {"event": "step", "loss": 2.5, "seconds": 1.0}
    lines: list[dict[str, Any]] = [
        step | {"step": 20, "tokens_seen": 2000, "epoch": 0.5},
        step | {"step": 40, "tokens_seen": 3000, "epoch": 0.75},
        *(at_once | {"step": number} for number in (0, 10, 40, 80)),
    ]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    curves = checkpoint.loss_curves(run)
    assert [(point.step, point.tokens, point.seconds) for point in curves.training] == [
        (20, 2000, 1),
        (40, 3000, 1),
    ]
    assert [(point.tokens, point.epochs) for point in curves.validation] == [
        (0, 0),
        (1000, 0.25),
        (3000, 0.75),
        (6000, 1.5),
    ]
    (run / "metrics.jsonl").unlink()
    with pytest.raises(DataError, match="no learning curve"):
        checkpoint.loss_curves(run)


def test_a_checkpoint_is_described_without_torch(run: Path) -> None:
    program = (
        "import sys; from textgen.checkpoint import describe; "
        "print(describe(sys.argv[1]).header.parameters, 'torch' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program, run], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == [str(checkpoint.describe(run).header.parameters), "False"]


def test_a_damaged_checkpoint_is_not_described(run: Path) -> None:
    with (run / "best" / WEIGHTS).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(CheckpointError):
        checkpoint.describe(run)
