"""Models compared: the same tokens for all, each run once, continued where it was stopped."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

import textgen
from textgen.checkpoint import describe
from textgen.config import KINDS, HiddenMarkovConfig, ModelConfig
from textgen.config.model import Kind
from textgen.data.corpus import CorpusSource
from textgen.errors import (
    CheckpointError,
    DataError,
    DivergedError,
    LockedError,
    TextgenError,
    UsageError,
)
from textgen.models import count_parameters
from textgen.results import TrainingStart, TrainingStep
from textgen.storage import locked
from textgen.studies.compare.results import Comparison, ComparisonStart, RunResult, RunStart
from textgen.studies.compare.runs import Request, parse_options

TEXT = "".join(f"the {who} sees the {what}.\n" for who in ("cat", "dog") for what in "abcdefghij")
MODELS = "lstm:hidden-size=8,lstm:hidden-size=4,3"
NAMES = ["lstm:hidden-size=8", "lstm:hidden-size=4,3"]
Compared = tuple[Comparison, list[Any]]  # and its events


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def compare(corpus: Path, out: Path, **options: Any) -> Comparison:
    machine = {"device": "cpu", "threads": 1}
    short = {"models": MODELS, "batch_size": 2, "log_every": 1, "valid_every": 3}
    length = {} if "budget" in options else {"steps": 3}
    return textgen.compare(corpus, out=out, **(machine | short | length | options))


@pytest.fixture
def events() -> list[Any]:
    return []


def begun(events: list[Any]) -> list[tuple[str, int]]:
    return [(each.model, each.seed) for each in events if isinstance(each, RunStart)]


def stored(out: Path) -> Any:
    return json.loads((out / "comparison.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def both(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Both models compared in one go, and the events of it."""
    events: list[Any] = []
    return compare(corpus, tmp_path_factory.mktemp("both"), on_event=events.append), events


@pytest.fixture
def copied(both: Compared, tmp_path: Path) -> Path:
    """A copy of the folder of that comparison."""
    return Path(shutil.copytree(both[0].out, tmp_path / "c"))


def test_every_model_learns_from_the_same_tokens_and_is_an_ordinary_checkpoint(
    both: Compared,
) -> None:
    found, events = both
    assert begun(events) == [(name, 1) for name in NAMES]
    assert {row.model for row in found.rows} == set(NAMES)
    infos = [describe(run.checkpoint) for run in found.runs]
    assert infos[0].header.corpus == infos[1].header.corpus
    sources = [info.header.source.corpora for info in infos]
    assert sources == [(str(Path(found.out) / "tokens"),)] * 2
    for run, info in zip(found.runs, infos, strict=True):
        assert (run.steps, run.validation) == (3, info.header.validation)
        assert run.curve[-1].loss == pytest.approx(run.loss)
        written = textgen.LanguageModel.load(run.checkpoint, device="cpu", threads=1)
        (sample,) = written.sample(length=200, temperature=0.8, seed=1)
        assert run.sample == " ".join(sample.text.split())
    start = next(each for each in events if isinstance(each, ComparisonStart))
    assert (start.runs, start.finished, start.seconds) == (2, 0, None)


def test_seeds_may_be_added_later_and_have_a_mean_and_a_deviation(
    corpus: Path, copied: Path, events: list[Any]
) -> None:
    found = compare(corpus, copied, seeds=2, on_event=events.append)
    assert begun(events) == [(name, 2) for name in NAMES]
    assert found.rows[0].loss <= found.rows[1].loss
    for row in found.rows:
        one, other = (run.loss for run in row.runs)
        assert one != other
        assert row.loss == pytest.approx((one + other) / 2)
        assert row.loss_deviation == pytest.approx(abs(one - other) / math.sqrt(2))
        assert row.perplexity == pytest.approx(math.exp(row.loss))


def test_a_stopped_comparison_continues_and_trains_nothing_twice(
    corpus: Path, tmp_path: Path, both: Compared, events: list[Any]
) -> None:
    out = tmp_path / "c"
    corpus = Path(shutil.copy(corpus, tmp_path))

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
    corpus: Path, both: Compared, changed: dict[str, Any], named: str
) -> None:
    out = Path(both[0].out)
    before = (out / "comparison.json").read_bytes()
    with pytest.raises(UsageError) as caught:
        compare(corpus, out, **changed)
    assert named in str(caught.value)
    assert (out / "comparison.json").read_bytes() == before


def test_another_corpus_needs_overwrite_which_begins_anew(
    corpus: Path, copied: Path, tmp_path: Path, events: list[Any]
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(TEXT.replace("sees", "hears"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"the corpus was .*corpus\.txt, and is .*other\.txt"):
        compare(other, copied)
    with pytest.raises(Exception, match="missing"):
        compare(tmp_path / "missing.txt", copied, overwrite=True)
    assert len(compare(corpus, copied).runs) == 2  # which has harmed nothing
    found = compare(other, copied, models=NAMES[1], overwrite=True, on_event=events.append)
    assert begun(events) == [(NAMES[1], 1)]
    folders = sorted(path.name for path in copied.iterdir() if path.is_dir())
    assert folders == [Path(found.runs[0].checkpoint).name, "tokens"]


def test_other_ids_than_those_of_the_finished_runs_are_refused(
    copied: Path, tmp_path: Path
) -> None:
    (tmp_path / "corpus.txt").write_text(TEXT * 2, encoding="utf-8")
    shutil.rmtree(copied / "tokens")
    raw = stored(copied)
    raw["settings"]["corpora"] = [str(tmp_path / "corpus.txt")]
    (copied / "comparison.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(DataError, match="not the tokens that the comparison was started with"):
        compare(tmp_path / "corpus.txt", copied)


def test_a_damaged_comparison_is_named(corpus: Path, copied: Path) -> None:
    file, raw = copied / "comparison.json", stored(copied)
    changes: list[tuple[str, Any]] = [
        *((name, value) for name in ("settings", "models", "tokens") for value in (None, [], 5)),
        *(("runs", value) for value in (None, 5, {"a": 1}, [5], [{}], ["x"])),
        *(("runs.0.parameters", value) for value in (-1, 2**70, 1e308, "x", None)),
        *(("runs.0.seconds", value) for value in (-1, 1e308, "x", None)),
        *(("runs.0.validation", value) for value in (5, [], {}, "x")),
        *(("runs.0.curve", value) for value in (None, 5, [None], [[]], "x")),
        *(("runs.0.validation.loss", value) for value in (1e308, "x", None)),
        *((f"runs.0.{name}", 5) for name in ("model", "checkpoint", "sample", "failed")),
    ]
    for path, value in changes:
        changed = place = json.loads(json.dumps(raw))
        *parents, name = (int(key) if key.isdigit() else key for key in path.split("."))
        for key in parents:
            place = place[key]
        place[name] = value
        file.write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"damaged \(.*comparison\.json\)"):
            compare(corpus, copied)
    for name in ("Infinity", "1e999", "[" * 2000 + "]" * 2000):
        text = json.dumps(raw).replace('"errors": "strict"', f'"errors": {name}')
        file.write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"damaged \(.*comparison\.json\)"):
            compare(corpus, copied)


def test_a_folder_of_something_else_and_one_in_use_are_refused(
    corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(UsageError, match="something other than a comparison"):
        compare(corpus, tmp_path / "mine", overwrite=True)
    with locked(tmp_path / "c"), pytest.raises(LockedError):
        compare(corpus, tmp_path / "c")


def test_tokens_that_tokenize_wrote_are_read_as_they_are(both: Compared, tmp_path: Path) -> None:
    tokens = Path(both[0].out) / "tokens"
    (row,) = compare(tokens, tmp_path / "d", models=NAMES[0]).rows
    assert row.loss in [each.loss for each in both[0].rows]
    assert not (tmp_path / "d" / "tokens").exists()
    with pytest.raises(UsageError, match="--level needs the corpus as text"):
        compare(tokens, tmp_path / "e", level="word")


def test_widths_are_chosen_for_the_number_of_parameters(corpus: Path, tmp_path: Path) -> None:
    options = {"models": "lstm:embedding-size=3", "parameters": 2000, "steps": 1}
    (run,) = compare(corpus, tmp_path / "c", **options).runs
    config = describe(run.checkpoint).header.model.to_json()

    def parameters(width: int) -> int:
        # Without n-gram embeddings, whose number does not depend on the width.
        shape = config | {"hidden_size": [width], "ngram_embeddings": 0}
        return count_parameters(ModelConfig.from_options(shape))

    (width,) = config["hidden_size"]
    off = [abs(parameters(each) - 2000) for each in (width, width - 1, width + 1)]
    assert off[0] == min(off)  # wider models have more parameters
    with pytest.raises(UsageError, match=r"--parameters 10 cannot be met by lstm: .* at least"):
        compare(corpus, tmp_path / "d", models="lstm", parameters=10)


def test_a_run_that_diverges_is_reported_and_the_others_are_trained(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    real = textgen.train

    def train(*corpora: Any, **options: Any) -> Any:
        result = real(*corpora, **options)
        if options.get("hidden_size") == (8,):
            raise DivergedError("the loss is not finite")
        return result

    monkeypatch.setitem(textgen.__dict__, "train", train)
    found = compare(corpus, tmp_path / "c", on_event=events.append)
    again = compare(corpus, tmp_path / "c", on_event=events.append)
    assert [row.model for row in found.rows] == [NAMES[1], NAMES[0]]
    failed = found.rows[1]
    assert failed.runs[0].failed == "the loss is not finite"
    assert math.isnan(failed.loss)
    assert again.rows[1].runs == failed.runs
    assert sum(isinstance(each, RunResult) for each in events) == 2


def test_models_may_be_added_later_and_a_pseudo_loss_comes_last_under_its_own_name(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    from textgen.models.lstm import LSTMModel

    monkeypatch.setattr(LSTMModel, "is_causal", False)
    (first,) = compare(corpus, tmp_path / "c", models=NAMES[0]).rows
    monkeypatch.undo()
    assert (first.is_causal, first.sample) == (False, None)
    found = compare(corpus, tmp_path / "c", on_event=events.append)
    assert begun(events) == [(NAMES[1], 1)]
    assert list(stored(tmp_path / "c")["models"]) == NAMES
    assert [row.is_causal for row in found.rows] == [True, False]
    assert found.rows[1] == first
    (pseudo, _) = stored(tmp_path / "c")["runs"]
    assert "validation" not in pseudo and "loss" not in pseudo["pseudo_validation"]
    assert pseudo["pseudo_validation"]["pseudo_loss"] == found.rows[1].loss


def test_a_model_that_counts_has_no_length_no_learning_rate_and_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "counted", Kind("no:Where", lambda: HiddenMarkovConfig, counts=True))
    options = {"models": "lstm,counted", "seeds": 3, "budget": 9.0, "learning_rate": 0.1}
    request = Request(tmp_path, CorpusSource(), *parse_options(options))
    runs = [(variant.name, seed) for variant, seed in request.runs]
    assert runs == [("lstm", 1), ("counted", 1), ("lstm", 2), ("lstm", 3)]
    lstm, counted = (request.options_of(variant, seed) for variant, seed in request.runs[:2])
    assert counted == {"model": "counted", "seed": 1}
    assert lstm == {"model": "lstm", "seed": 1, "budget": 9.0, "learning_rate": 0.1}
    with pytest.raises(UsageError, match="--dropout is no option of --model counted"):
        textgen.compare(out=tmp_path / "c", models="counted:dropout=0.1")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TEXT, {"models": "lstm:embeddings=missing.vec"}, "missing.vec"),
        (TEXT, {"learning_rat": 1}, "no option 'learning_rat'"),
        (TEXT, {"seeds": 0}, "--seeds must be a whole number of at least 1"),
        (TEXT, {"models": "lstm:hidden-size=8", "parameters": 99}, "cannot both be given"),
        (TEXT, {"budget": 3, "steps": 4}, "--budget and --steps cannot both be given"),
        (TEXT, {"models": "lstm:tie:embedding-size=4:hidden-size=8"}, "--tie needs"),
        ("", {}, "empty"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    with pytest.raises(TextgenError) as caught:
        textgen.compare(tmp_path / "text.txt", out=tmp_path / "c", **options)
    assert message in str(caught.value)
    assert not (tmp_path / "c").exists()
