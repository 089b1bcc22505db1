"""``--checkpoint-at``: checkpoints that are kept after amounts of tokens or words."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen import LanguageModel, checkpoint, storage, train
from textgen.cli.app import main
from textgen.config import TextAmount, TokenizerConfig, TrainingConfig
from textgen.config.training import parse_amounts
from textgen.data.batching import Streams, WordCounter
from textgen.errors import DataError, ResourceError, UsageError
from textgen.models.mixture import MixtureModel
from textgen.results import CheckpointSaved, TrainingEvent, TrainingPhase, TrainingWarning
from textgen.tokenizers.base import EOS, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer
from textgen.training import run_directory, trainer
from textgen.training.run_directory import check_space

from .conftest import RUN, SHAPE, TEXT, events_of, files_of, of_kind, stop_at, written

SMALL: dict[str, Any] = {**RUN, **SHAPE, "dropout": 0.2, "baseline": False}
POINTS = "0.2k,64,0.5k,100w"
STEP_OF = {"64": 1, "0.2k": 4, "0.5k": 8}  # of 64 tokens each


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps with checkpoints on its way, which no test may change."""
    folder = tmp_path_factory.mktemp("trained")
    text = written(folder / "corpus.txt", TEXT)
    train(text, out=folder / "run", steps=12, checkpoint_at=POINTS, **SMALL)
    return folder / "run"


def weights_at(out: Path) -> dict[str, bytes]:
    files = (out / "at").glob("*/model.safetensors")
    return {path.parent.name: path.read_bytes() for path in files}


# Options


def test_amounts_are_read_in_decimal_units_and_sorted() -> None:
    assert parse_amounts("10M, 1Mw,500k,1.5M,64") == ("64", "500k", "1.5M", "10M", "1Mw")
    assert parse_amounts(["1G", "2"]) == ("2", "1G")
    numbers = [TextAmount.parsed(each).number for each in ("64", "1.5M", "2G", "0.25k")]
    assert numbers == [64, 1_500_000, 2_000_000_000, 250]


@pytest.mark.parametrize(
    "wrong",
    ["", "M", "5m", "5K", "1,,2", "-1M", "0", "0.5", "1.2345k", "5MB", "5wM", "1e6", "٣M", "../x"],
)
def test_what_is_no_amount_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"no amount of text.*--checkpoint-at.*5M"):
        TrainingConfig.from_options({"checkpoint_at": wrong})


def test_an_amount_that_is_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="twice: 1000k and 1M"):
        parse_amounts("1M,1000k")
    assert parse_amounts("1M,1Mw") == ("1M", "1Mw")


def test_a_model_that_is_counted_has_no_checkpoints_on_the_way(
    corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--checkpoint-at is no option of --model ngram"):
        train(corpus, out=tmp_path / "run", model="ngram", checkpoint_at="1k")


# What is saved


def test_each_is_of_the_first_update_that_has_read_its_amount(run: Path) -> None:
    assert {path.name for path in (run / "at").iterdir()} == {*STEP_OF, "100w"}
    for name, step in STEP_OF.items():
        loaded = checkpoint.load(run / "at" / name)
        assert (loaded.name, loaded.header.step) == (f"at/{name}", step)
        assert loaded.header.tokens_seen == 64 * step


def test_each_has_weights_and_tokenizer_alone_and_works_by_its_path(run: Path) -> None:
    for name in STEP_OF:
        folder = run / "at" / name
        assert {path.name for path in folder.iterdir()} == {
            "config.json",
            "manifest.json",
            "model.safetensors",
            "tokenizer.json",
            "vocabulary.json",
        }
        model = LanguageModel.load(folder)
        assert model.notes == ()
        assert model.score("the cat sees the ball.").log_prob < 0
    weights = weights_at(run)
    assert len({weights[name] for name in STEP_OF}) == len(STEP_OF)


def test_the_weights_are_those_of_the_step(run: Path, corpus: Path, tmp_path: Path) -> None:
    train(corpus, out=tmp_path / "short", steps=12, stop=stop_at(4), **SMALL)
    last = (tmp_path / "short" / "last" / "model.safetensors").read_bytes()
    assert last == weights_at(run)["0.2k"]


def test_keeping_them_does_not_change_the_run(run: Path, corpus: Path, tmp_path: Path) -> None:
    train(corpus, out=tmp_path / "run", steps=12, **SMALL)
    for name in ("best/model.safetensors", "last/model.safetensors", "last/state.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes()


def test_a_checkpoint_has_the_newest_validation_and_the_curve_until_then(run: Path) -> None:
    described = checkpoint.describe(run / "at" / "0.2k")
    assert described.name == "at/0.2k"
    validation = described.header.validation
    assert validation is not None
    assert validation.step <= 4
    assert described.curve
    assert max(each.step for each in described.curve) <= 4
    curves = checkpoint.loss_curves(run / "at" / "0.5k")
    assert max(point.step for point in curves.validation) <= 8 < 12
    whole = checkpoint.loss_curves(run)
    assert max(point.step for point in whole.validation) == 12
    steps = {name: point.step for name, point in whole.kept}
    assert steps == {f"at/{name}": step for name, step in {**STEP_OF, "100w": 8}.items()}
    until_then = checkpoint.loss_curves(run / "at" / "0.2k").kept
    assert [name for name, _ in until_then] == ["at/64", "at/0.2k"]
    assert all(point.tokens == 64 * point.step for _, point in whole.kept)


def test_a_curve_before_the_first_log_line_is_refused_with_the_reason(
    corpus: Path, tmp_path: Path
) -> None:
    options = SMALL | {"log_every": 50, "valid_every": 50, "checkpoint_at": "64"}
    train(corpus, out=tmp_path / "run", steps=4, **options)
    with pytest.raises(DataError, match="nothing was logged before this checkpoint"):
        checkpoint.loss_curves(tmp_path / "run" / "at" / "64")


def test_a_run_in_a_folder_called_at_is_a_run(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "at")
    assert checkpoint.find(tmp_path / "at" / "last")[0] == "last"
    assert len(checkpoint.describe(tmp_path / "at").curve) > 1


def test_amounts_after_the_end_are_noted(corpus: Path, tmp_path: Path) -> None:
    options = SMALL | {"checkpoint_at": "64,1M,2M,5Mw"}
    events = events_of(corpus, out=tmp_path / "run", steps=2, **options)
    texts = [event.text for event in of_kind(TrainingWarning, events)]
    assert "no checkpoint at 1M, 2M: the run ended after 128 tokens" in texts
    assert any(text.startswith("no checkpoint at 5Mw: the run ended after") for text in texts)
    saved = [event.name for event in of_kind(CheckpointSaved, events)]
    assert saved.count("at/64") == 1
    assert {path.name for path in (tmp_path / "run" / "at").iterdir()} == {"64"}


def test_several_amounts_within_one_update_are_each_kept(corpus: Path, tmp_path: Path) -> None:
    train(corpus, out=tmp_path / "run", steps=1, checkpoint_at="1,10,64", **SMALL)
    weights = weights_at(tmp_path / "run")
    assert {*weights} == {"1", "10", "64"}
    assert len(set(weights.values())) == 1


def test_the_mixture_of_a_checkpoint_is_fitted(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []
    monkeypatch.setattr(
        MixtureModel, "fit_mixture", lambda self, chunks: fitted.append(len(chunks))
    )
    out, length = tmp_path / "run", {"steps": 4, "valid_every": 4}
    options = {**SMALL, "model": "lstm+ngram", "order": 3, **length}

    def check(event: TrainingEvent) -> None:
        if isinstance(event, CheckpointSaved) and event.name == "at/128":
            assert len(fitted) == 1

    train(corpus, out=out, on_event=check, checkpoint_at="128", **options)
    assert len(fitted) == 2


def test_the_space_of_all_of_them_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=50 * 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    check_space(tmp_path, 10**6)
    with pytest.raises(ResourceError, match="not enough space"):
        check_space(tmp_path, 10**6, more=6)


# Resume


@pytest.mark.parametrize("step", [1, 4, 5, 8, 11])
def test_a_resumed_run_keeps_those_it_passed_and_saves_those_to_come(
    run: Path, corpus: Path, tmp_path: Path, step: int
) -> None:
    out = tmp_path / "run"
    train(corpus, out=out, steps=12, checkpoint_at=POINTS, stop=stop_at(step), **SMALL)
    passed = {name for name, number in STEP_OF.items() if number <= step}
    assert passed == {path.name for path in (out / "at").iterdir()} - {"100w"}
    before = files_of(out / "at")
    train(out=out, resume=True)
    assert weights_at(out) == weights_at(run)
    after = files_of(out / "at")
    assert {name: after[name] for name in before} == before
    values = [storage.read_json(each / "last" / "state.json")["progress"] for each in (out, run)]
    assert values[0]["words_seen"] == values[1]["words_seen"] > 0


class Killed(BaseException):
    pass


@pytest.mark.parametrize("save_every", [1e-6, 1e6], ids=["last at each step", "last at the end"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["0.2k", "100w"])
def test_a_kill_beside_a_save_loses_none(
    run: Path, corpus: Path, tmp_path: Path, when: str, name: str, save_every: float
) -> None:
    out = tmp_path / "run"
    options = SMALL | {"checkpoint_at": POINTS, "save_every": save_every}

    def kill(event: TrainingEvent) -> None:
        begins = isinstance(event, TrainingPhase) and event.what == f"at/{name}"
        done = isinstance(event, CheckpointSaved) and event.name == f"at/{name}"
        if (begins and when == "before") or (done and when == "after"):
            raise Killed

    with pytest.raises(Killed):
        train(corpus, out=out, steps=12, on_event=kill, **options)
    (out / "at").mkdir(exist_ok=True)
    (out / "at" / f"{name}.new").mkdir(exist_ok=True)  # as a kill within the write leaves
    train(out=out, resume=True)
    assert weights_at(out) == weights_at(run)
    assert {path.name for path in (out / "at").iterdir()} == {*STEP_OF, "100w"}


def test_a_run_that_goes_back_saves_the_amount_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trainer(trainer.Trainer):
        def _wait(self) -> bool:
            finite = super()._wait()
            step = self.state.progress.step
            if step == 4 and self.state.progress.rollbacks == 0:
                return False
            return finite

    monkeypatch.setattr("textgen.training.prepare.Trainer", Trainer)
    out = tmp_path / "run"
    train(corpus, out=out, steps=8, checkpoint_at="0.2k,100w", **SMALL)
    assert storage.read_json(out / "last" / "state.json")["progress"]["rollbacks"] == 1
    assert checkpoint.load(out / "at" / "0.2k").header.step == 4
    monkeypatch.undo()
    train(corpus, out=tmp_path / "whole", steps=8, checkpoint_at="0.2k,100w", **SMALL)
    headers = [checkpoint.load(folder / "last").header for folder in (out, tmp_path / "whole")]
    assert headers[0].words_seen == headers[1].words_seen


def test_amounts_may_be_added_when_a_run_goes_on(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(corpus, out=out, steps=4, checkpoint_at="64", **SMALL)
    train(out=out, resume=True, steps=8, checkpoint_at="64,0.5k")
    assert {path.name for path in (out / "at").iterdir()} == {"64", "0.5k"}
    assert checkpoint.load(out).header.training.checkpoint_at == ("64", "0.5k")


def test_words_cannot_be_counted_from_the_middle_of_a_run(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(corpus, out=out, steps=2, **SMALL)
    before = files_of(out)
    with pytest.raises(UsageError, match=r"--checkpoint-at with words .*not counted"):
        train(out=out, resume=True, steps=4, checkpoint_at="100w")
    assert files_of(out) == before


def test_a_checkpoint_of_before_there_were_amounts_is_read(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    shutil.rmtree(out / "at")
    for name in ("best", "last"):
        config = storage.read_json(out / name / "config.json")
        del config["training"]["checkpoint_at"]
        config["progress"].pop("words_seen", None)
        storage.write_json(out / name / "config.json", config)
    state = storage.read_json(out / "last" / "state.json")
    del state["progress"]["words_seen"]
    storage.write_json(out / "last" / "state.json", state)
    for name in ("best", "last"):
        (out / name / "manifest.json").unlink()
        storage.write_manifest(out / name)
    assert checkpoint.load(out).header.training.checkpoint_at == ()
    train(out=out, resume=True, steps=16)
    assert checkpoint.load(out / "last").header.step == 16


def test_a_new_run_in_place_of_an_old_one_has_none_of_its_checkpoints(
    run: Path, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    train(corpus, out=out, steps=2, overwrite=True, checkpoint_at="64", **SMALL)
    assert {path.name for path in (out / "at").iterdir()} == {"64"}
    with pytest.raises(UsageError, match="never written to"):
        train(corpus, out=out, init_from=out / "at" / "64", overwrite=True)
    train(corpus, out=tmp_path / "tuned", init_from=out / "at" / "64", steps=1, **RUN)
    init_from = checkpoint.load(tmp_path / "tuned").header.init_from
    assert init_from is not None
    assert (init_from.checkpoint, init_from.step) == ("at/64", 1)


def test_one_that_cannot_be_written_ends_the_run_with_its_place(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, state: Any, name: str, validation: Any) -> Path:
        raise storage.write_error(self.out / "at" / name, OSError(28, "No space left on device"))

    monkeypatch.setattr(run_directory.RunDirectory, "save_at", full)
    with pytest.raises(ResourceError, match=r"at.64.*No space left"):
        train(corpus, out=tmp_path / "run", steps=2, checkpoint_at="64", **SMALL)


# Words

PROSE = (
    'He said, "well-known (sic)."\nno  two\tspaces \n\n (a) "b" -- c\'s \u3000 it\n'
    "\xa0 x\u2581y ｡\n Über\u2028Ångström ￭ end\n" * 3
)
CONFIGS = [
    TokenizerConfig(min_count=1),
    TokenizerConfig(unit="document", min_count=1),
    TokenizerConfig(unit="paragraph", min_count=2),
    TokenizerConfig(level="word", min_count=1),
    TokenizerConfig(level="word", unit="document", min_count=1),
    TokenizerConfig(level="word", split="whitespace", min_count=2),
    TokenizerConfig(level="subword", vocab_size=320),
    TokenizerConfig(level="subword", subword_model="bpe", vocab_size=320, unit="paragraph"),
]


def learned(config: TokenizerConfig) -> tuple[Tokenizer, Any]:
    tokenizer = learn_tokenizer(config, [(PROSE, True)])
    return tokenizer, np.append(tokenizer.encode(PROSE), [EOS])


def words_of(tokenizer: Tokenizer, ids: list[int]) -> int:
    """The words of what ids decode to, as wc -w counts; <EOS> ends a word."""
    count, unit = 0, list[int]()
    for id in [*ids, EOS]:
        if id == EOS:
            count += len(tokenizer.decode(unit).encode().split())
            unit = []
        else:
            unit.append(id)
    return count


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_words_are_counted_as_wc_counts_them_in_the_text(config: TokenizerConfig) -> None:
    tokenizer, ids = learned(config)
    counter = WordCounter(tokenizer)
    text = np.concatenate([[EOS], ids])
    assert counter.count(text[None]) == words_of(tokenizer, ids.tolist())
    if config.least_count == 1 or config.level == "subword":
        assert counter.count(text[None]) == len(PROSE.encode().split())
    # So they are up to each token: a word is counted where it begins.
    total = 0
    for place in range(len(ids)):
        total += counter.count(text[None, place : place + 2])
        assert total == words_of(tokenizer, ids[: place + 1].tolist())


@pytest.mark.parametrize("config", CONFIGS[:4], ids=str)
def test_the_windows_of_a_run_count_the_words_of_what_they_read(config: TokenizerConfig) -> None:
    tokenizer, ids = learned(config)
    options: dict[str, Any] = {
        "batch_size": 3,
        "sequence_length": 5,
        "run_windows": 2,
        "unknown_rate": 0.3,
        "seed": 1,
    }
    streams = Streams(ids.astype(np.uint16), **options)
    part = Streams(ids.astype(np.uint16), **options, local=slice(1, 2))
    streams.word_counter = part.word_counter = WordCounter(tokenizer)
    plain = Streams(ids.astype(np.uint16), **{**options, "unknown_rate": 0.0})
    for _ in range(30):
        window, own = streams.next(), part.next()
        read = plain.next().ids.T
        assert window.words == own.words == WordCounter(tokenizer).count(read)


def test_one_stream_counts_the_words_of_the_text_once_an_epoch() -> None:
    text = "".join(f"line {number} of a text\n" for number in range(40))
    tokenizer = learn_tokenizer(TokenizerConfig(level="word", min_count=1), [(text, True)])
    ids = tokenizer.encode(text)
    options: dict[str, Any] = {"run_windows": 1, "unknown_rate": 0.0, "seed": 0}
    streams = Streams(ids, batch_size=1, sequence_length=len(ids), **options)
    streams.word_counter = WordCounter(tokenizer)
    assert streams.next().words == len(text.split())


def test_the_words_of_a_run_are_in_its_header_and_in_json(run: Path) -> None:
    header = checkpoint.load(run / "last").header
    assert header.words_seen is not None
    assert 0 < header.words_seen < header.tokens_seen
    config = json.loads((run / "at" / "100w" / "config.json").read_text())
    assert 100 <= config["progress"]["words_seen"] < 120


def test_the_commands_take_them(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, lines = str(run / "at" / "0.2k"), tmp_path / "lines.txt"
    lines.write_text("the cat sees the ball.\n")
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("the cat sees the ball.\tcat the the ball sees.\n")
    assert main(["score", folder, str(lines)]) == 0
    assert main(["pairs", folder, str(pairs)]) == 0
    assert main(["info", folder]) == 0
    assert "4 steps" in capsys.readouterr().out
    assert main(["plot", "loss", folder, "--out", str(tmp_path / "loss.png")]) == 0
    assert (tmp_path / "loss.png").exists()
    capsys.readouterr()
    assert main(["plot", "loss", str(run)]) == 0
    assert "◇: at/64, at/0.2k, at/0.5k, at/100w." in capsys.readouterr().out
    out = str(tmp_path / "new")
    text = str(written(tmp_path / "text.txt", TEXT))
    length = ["--steps", "2", "--batch-size", "4", "--sequence-length", "16"]
    small = [*length, "--hidden-size", "8", "--checkpoint-at", "64,20w", "--checkpoint-at", "128"]
    assert main(["train", text, "--out", out, *small]) == 0
    for name in ("64", "20w", "128"):
        assert main(["score", f"{out}/at/{name}", str(lines)]) == 0
    counted = ["--model", "ngram", "--order", "2", "--out", str(tmp_path / "ngram")]
    assert main(["train", text, *counted]) == 0
