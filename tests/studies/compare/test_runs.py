"""Models compared: the same tokens for all, each run once, continued where it was stopped."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

import textgen
from textgen.checkpoint import describe
from textgen.config import KINDS, Kind, ModelConfig
from textgen.errors import DataError, DivergedError, LockedError, TextgenError, UsageError
from textgen.models import count_parameters
from textgen.results import TrainingStart, TrainingStep
from textgen.storage import locked
from textgen.studies.compare.results import Comparison, ComparisonStart, RunResult, RunStart
from textgen.studies.compare.runs import Request, parse_options

TEXT = "".join(f"the {who} sees the {what}.\n" for who in ("cat", "dog") for what in "abcdefghij")
MODELS = "lstm:hidden-size=8,lstm:hidden-size=4,3"
NAMES = ["lstm:hidden-size=8", "lstm:hidden-size=4,3"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def compare(corpus: Path, out: Path, **options: Any) -> Comparison:
    short = {"models": MODELS, "device": "cpu", "threads": 1, "batch_size": 2, "log_every": 1}
    length = {} if "budget" in options else {"steps": 3}
    return textgen.compare(corpus, out=out, **(short | length | options))


def begun(events: list[Any]) -> list[tuple[str, int]]:
    return [(each.model, each.seed) for each in events if isinstance(each, RunStart)]


def stored(out: Path) -> Any:
    return json.loads((out / "comparison.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, list[Any]]:
    """Both models compared in one go, and the events of it."""
    folder, events = tmp_path_factory.mktemp("both"), []
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    return compare(folder / "corpus.txt", folder / "c", on_event=events.append), events


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus and a comparison ``c`` of one model."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    compare(folder / "corpus.txt", folder / "c", models=NAMES[0])
    return folder


def test_every_model_learns_from_the_same_tokens_and_is_an_ordinary_checkpoint(
    both: tuple[Comparison, list[Any]],
) -> None:
    found, events = both
    assert begun(events) == [(name, 1) for name in NAMES]
    assert {row.model for row in found.rows} == set(NAMES)
    infos = [describe(run.checkpoint) for run in found.runs]
    assert infos[0].corpus == infos[1].corpus
    sources = [info.config["source"]["corpora"] for info in infos]
    assert sources == [[str(Path(found.out) / "tokens")]] * 2
    for run, info in zip(found.runs, infos, strict=True):
        assert (run.steps, run.parameters, run.validation) == (3, info.parameters, info.validation)
        assert run.curve[-1].loss == pytest.approx(run.loss)
        written = textgen.LanguageModel.load(run.checkpoint, device="cpu", threads=1)
        (sample,) = written.sample(length=200, temperature=0.8, seed=1)
        assert run.sample == " ".join(sample.text.split())
    start = next(each for each in events if isinstance(each, ComparisonStart))
    assert (start.runs, start.finished, start.seconds) == (2, 0, None)


def test_the_lowest_loss_comes_first_and_seeds_have_a_mean_and_a_deviation(
    corpus: Path, tmp_path: Path
) -> None:
    events: list[Any] = []
    found = compare(corpus, tmp_path / "c", seeds=2, seed=5, on_event=events.append)
    # Each model once before any a second time.
    assert begun(events) == [(name, seed) for seed in (5, 6) for name in NAMES]
    assert found.rows[0].loss <= found.rows[1].loss
    for row in found.rows:
        one, other = (run.loss for run in row.runs)
        assert one != other
        assert row.loss == pytest.approx((one + other) / 2)
        assert row.loss_deviation == pytest.approx(abs(one - other) / math.sqrt(2))
        assert row.perplexity == pytest.approx(math.exp(row.loss))


def test_a_stopped_comparison_continues_and_trains_nothing_twice(
    corpus: Path, tmp_path: Path, both: tuple[Comparison, list[Any]]
) -> None:
    out, events = tmp_path / "c", []

    def stop_in_the_second() -> int | None:
        steps = [each for each in events if isinstance(each, TrainingStep)]
        return 2 if len(steps) >= 4 else None

    stopped = compare(corpus, out, on_event=events.append, stop=stop_in_the_second)
    assert stopped.interrupted == 2
    assert [row.model for row in stopped.rows] == NAMES[:1]
    manifest = Path(stopped.runs[0].checkpoint) / "last" / "manifest.json"
    written = manifest.stat().st_mtime_ns
    corpus.unlink()  # it is not read again
    events.clear()
    found = compare(corpus, out, on_event=events.append)
    assert [each for each in events if isinstance(each, RunStart)] == [
        RunStart(NAMES[1], 1, 2, 2, pytest.approx(found.runs[0].seconds, abs=9), resumed=True)
    ]
    starts = [each.resumed_step for each in events if isinstance(each, TrainingStart)]
    assert starts and starts[0] > 0
    assert [row.loss for row in found.rows] == [row.loss for row in both[0].rows]
    assert manifest.stat().st_mtime_ns == written
    events.clear()
    assert compare(corpus, out, on_event=events.append) == found
    assert begun(events) == []


def test_models_and_seeds_may_be_added_later(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "c", tmp_path / "c")
    events: list[Any] = []
    found = compare(finished / "corpus.txt", tmp_path / "c", on_event=events.append)
    assert begun(events) == [(NAMES[1], 1)]
    assert len(found.runs) == 2
    assert list(stored(tmp_path / "c")["models"]) == NAMES


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"steps": 4}, "--steps was 3, and is 4"),
        ({"budget": "5s"}, "--budget was not given, and is 5"),
        ({"level": "word"}, "--level was not given, and is word"),
        ({"batch_size": 3}, "--batch-size was 2, and is 3"),
        ({"encoding": "latin-1"}, "--encoding was utf-8, and is latin-1"),
        ({"parameters": 900, "models": "lstm"}, "--parameters was not given, and is 900"),
    ],
)
def test_another_setting_is_refused_by_name(
    finished: Path, changed: dict[str, Any], named: str
) -> None:
    before = (finished / "c" / "comparison.json").read_bytes()
    with pytest.raises(UsageError) as caught:
        compare(finished / "corpus.txt", finished / "c", **({"models": NAMES[0]} | changed))
    assert named in str(caught.value)
    assert (finished / "c" / "comparison.json").read_bytes() == before


def test_another_corpus_needs_overwrite_which_begins_anew(finished: Path, tmp_path: Path) -> None:
    out, other, corpus = tmp_path / "c", tmp_path / "other.txt", finished / "corpus.txt"
    shutil.copytree(finished / "c", out)
    other.write_text(TEXT.replace("sees", "hears"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"the corpus was .*corpus\.txt, and is .*other\.txt"):
        compare(other, out, models=NAMES[0])
    with pytest.raises(Exception, match="missing"):
        compare(tmp_path / "missing.txt", out, models=NAMES[0], overwrite=True)
    assert len(compare(corpus, out, models=NAMES[0]).runs) == 1  # which has harmed nothing
    events: list[Any] = []
    found = compare(other, out, models=NAMES[1], overwrite=True, on_event=events.append)
    assert begun(events) == [(NAMES[1], 1)]
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert folders == [Path(found.runs[0].checkpoint).name, "tokens"]


def test_other_ids_than_those_of_the_finished_runs_are_refused(
    finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "corpus.txt").write_text(TEXT * 2, encoding="utf-8")
    shutil.copytree(finished / "c", tmp_path / "c", ignore=shutil.ignore_patterns("tokens"))
    raw = stored(tmp_path / "c")
    raw["settings"]["corpora"] = [str(tmp_path / "corpus.txt")]
    (tmp_path / "c" / "comparison.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(DataError, match="not the tokens that the comparison was begun with"):
        compare(tmp_path / "corpus.txt", tmp_path / "c")


def test_a_folder_of_something_else_and_one_in_use_are_refused(
    corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(UsageError, match="something other than a comparison"):
        compare(corpus, tmp_path / "mine", overwrite=True)
    with locked(tmp_path / "c"), pytest.raises(LockedError):
        compare(corpus, tmp_path / "c")


def test_tokens_that_tokenize_wrote_are_read_as_they_are(finished: Path, tmp_path: Path) -> None:
    tokens = finished / "c" / "tokens"
    found = compare(tokens, tmp_path / "d", models=NAMES[0])
    before = compare(finished / "corpus.txt", finished / "c", models=NAMES[0])
    assert found.rows[0].loss == before.rows[0].loss
    assert not (tmp_path / "d" / "tokens").exists()
    with pytest.raises(UsageError, match="--level needs the corpus as text"):
        compare(tokens, tmp_path / "e", level="word")


def test_widths_are_chosen_for_the_number_of_parameters(corpus: Path, tmp_path: Path) -> None:
    models = "lstm,lstm:embedding-size=3"
    found = compare(corpus, tmp_path / "c", models=models, parameters=2000, steps=1)
    for run in found.runs:
        config = describe(run.checkpoint).config["model"]
        (width,) = config["hidden_size"]

        def parameters(size: int, config: dict[str, Any] = config) -> int:
            embedding = 3 if config["embedding_size"] == 3 else min(128, size)
            changed = {"hidden_size": [size], "embedding_size": embedding}
            return count_parameters(ModelConfig.from_options(config | changed))

        assert run.parameters == parameters(width)
        nearest = min(abs(parameters(each) - 2000) for each in range(1, 40))
        assert abs(run.parameters - 2000) == nearest
    with pytest.raises(UsageError, match=r"--parameters 10 cannot be met by lstm: .* at least"):
        compare(corpus, tmp_path / "d", models="lstm", parameters=10)


def test_a_run_that_diverges_is_reported_and_the_others_are_trained(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = textgen.train

    def train(*corpora: Any, **options: Any) -> Any:
        result = real(*corpora, **options)
        if options.get("hidden_size") == (8,):
            raise DivergedError("the loss is not finite")
        return result

    monkeypatch.setitem(textgen.__dict__, "train", train)
    events: list[Any] = []
    found = compare(corpus, tmp_path / "c", on_event=events.append)
    again = compare(corpus, tmp_path / "c", on_event=events.append)
    assert [row.model for row in found.rows] == [NAMES[1], NAMES[0]]
    failed = found.rows[1]
    assert failed.runs[0].failed == "the loss is not finite"
    assert math.isnan(failed.loss)
    assert again.rows[1].runs == failed.runs
    assert sum(isinstance(each, RunResult) for each in events) == 2


def test_a_pseudo_loss_comes_last_and_is_never_called_a_loss(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from textgen.models.lstm import LSTMModel

    monkeypatch.setattr(LSTMModel, "is_causal", False)
    (first,) = compare(corpus, tmp_path / "c", models=NAMES[0]).rows
    monkeypatch.undo()
    assert (first.is_causal, first.sample) == (False, None)
    found = compare(corpus, tmp_path / "c")
    assert [row.is_causal for row in found.rows] == [True, False]
    assert found.rows[1] == first
    (pseudo, _) = stored(tmp_path / "c")["runs"]
    assert "validation" not in pseudo
    assert "loss" not in pseudo["pseudo_validation"]
    assert pseudo["pseudo_validation"]["pseudo_loss"] == found.rows[1].loss


def test_a_model_that_counts_has_no_length_no_learning_rate_and_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "counted", Kind("no:Where", (), counts=True))
    options = {"models": "lstm,counted", "seeds": 3, "budget": 9.0, "learning_rate": 0.1}
    request = Request(tmp_path, *parse_options(options))
    runs = [(variant.name, seed) for variant, seed in request.runs]
    assert runs == [("lstm", 1), ("counted", 1), ("lstm", 2), ("lstm", 3)]
    lstm, counted = (request.options_of(variant, seed) for variant, seed in request.runs[:2])
    assert counted == {"model": "counted", "seed": 1}
    assert lstm == {"model": "lstm", "seed": 1, "budget": 9.0, "learning_rate": 0.1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": "lstn"}, "did you mean lstm?"),
        ({"models": "lstm:embeddings=missing.vec"}, "missing.vec"),
        ({"learning_rat": 1}, "no option 'learning_rat'"),
        ({"seeds": 0}, "--seeds must be a whole number of at least 1"),
        ({"models": "lstm:hidden-size=8", "parameters": 99}, "cannot both be given"),
        ({"budget": 3, "steps": 4}, "--budget and --steps cannot both be given"),
        ({"models": "lstm:tie:embedding-size=4:hidden-size=8"}, "--tie needs"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    corpus: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TextgenError) as caught:
        textgen.compare(corpus, out=tmp_path / "c", **options)
    assert message in str(caught.value)
    assert not (tmp_path / "c").exists()


def test_an_empty_text_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match="empty"):
        compare(tmp_path / "empty.txt", tmp_path / "c")
    assert not (tmp_path / "c").exists()
