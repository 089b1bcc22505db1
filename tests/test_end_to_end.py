"""Every command through the real console script, as a person types it."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from textgen.cli.app import main

TEXTGEN = Path(sys.executable).with_name("textgen")
SMALL = (
    *("--hidden-size", "24", "--embedding-size", "8"),
    *("--batch-size", "4", "--sequence-length", "16", "--threads", "1"),
)
TEXT = "".join(
    f"The {who} {verb} the {what}.\n"
    for who in ("king", "queen", "fool", "café owner")
    for verb in ("sees", "likes", "forgets")
    for what in ("moon", "sea", "old door", "garden", "crown")
)


def textgen(
    *arguments: str | Path, stdin: str | None = None, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command; the exit code is part of the claim."""
    finished = subprocess.run(
        [TEXTGEN, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "NO_COLOR": "1", **environment},
        timeout=120,
    )
    return checked(finished, code)


def checked(
    finished: subprocess.CompletedProcess[str], code: int
) -> subprocess.CompletedProcess[str]:
    assert finished.returncode == code, finished.stderr
    if code:
        errors = [line for line in finished.stderr.splitlines() if "error:" in line]
        assert len(errors) == 1, finished.stderr
        assert errors[0].startswith("textgen: error: ")
        assert "Traceback" not in finished.stderr
    return finished


Typed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Runs the command as ``textgen`` does, but in this process, which has torch already."""

    def run(*arguments: str | Path, stdin: str = "", code: int = 0) -> Any:
        capsys.readouterr()
        given = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
        monkeypatch.setattr("sys.stdin", given)
        returned = main(list(map(str, arguments)))
        said = capsys.readouterr()
        return checked(subprocess.CompletedProcess([], returned, said.out, said.err), code)

    return run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "my text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("checkpoints") / "a model"
    finished = textgen("train", corpus, "--out", out, "--steps", "60", *SMALL, "--format", "json")
    result = json.loads(finished.stdout)
    assert set(result) >= {
        "checkpoint",
        "steps",
        "tokens_seen",
        "seconds",
        "tokens_per_second",
        "parameters",
        "validation",
    }
    assert set(result["validation"]) >= {"loss", "perplexity", "bits_per_character", "tokens"}
    assert result["steps"] == 60
    return out


def test_train_says_what_to_type_next_and_resumes(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    finished = textgen("train", corpus, "--out", out, "--steps", "4", *SMALL)
    for command in ("textgen sample", "textgen score", "textgen info"):
        assert command in finished.stdout + finished.stderr
    finished = textgen("train", "--out", out, "--resume", "--steps", "8", "--format", "json")
    assert json.loads(finished.stdout)["steps"] == 8
    textgen("train", corpus, "--out", out, *SMALL, code=2)


def test_the_same_seed_gives_the_same_text_before_code_is_compiled_and_after(
    trained: Path, tmp_path: Path, compiler: str
) -> None:
    arguments = ("sample", trained, "--length", "300", "--seed", "7")
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    plain, first = textgen(*arguments), textgen(*arguments, CC=compiler, **cache)
    if sys.platform == "linux":
        assert len(list((tmp_path / "textgen").iterdir())) == 1
    second = textgen(*arguments, **cache)
    assert plain.stdout == first.stdout == second.stdout
    assert plain.stderr == first.stderr == second.stderr
    assert len(plain.stdout) >= 300


def test_sample_as_json_has_the_keys_that_scripts_rely_on(trained: Path, here: Typed) -> None:
    finished = here(
        "sample",
        trained,
        *("--prompt", "The "),
        *("--count", "3"),
        *("--sentences", "1"),
        *("--format", "json"),
    )
    samples = [json.loads(line) for line in finished.stdout.splitlines()]
    assert {sample["index"] for sample in samples} == {0, 1, 2}
    for sample in samples:
        assert list(sample)[:7] == [
            "index",
            "text",
            "prompt",
            "log_prob",
            "tokens",
            "finish_reason",
            "seed",
        ]
        assert "<UNK>" not in sample["text"]


def test_what_is_sampled_scores_as_it_was_drawn(trained: Path, here: Typed) -> None:
    options = ("--sentences", "1", "--count", "5", "--temperature", "0.7", "--format", "json")
    samples = [json.loads(line) for line in here("sample", trained, *options).stdout.splitlines()]
    samples = [sample for sample in samples if sample["finish_reason"] == "eos"]
    assert samples
    lines = "".join(sample["text"] + "\n" for sample in samples)
    scored = here("score", trained, "-", "--format", "json", stdin=lines).stdout.splitlines()
    for sample, line in zip(samples, scored, strict=False):
        score = json.loads(line)
        assert score["tokens"] == sample["tokens"]
        assert abs(score["log_prob"] - sample["log_prob"]) <= 1e-4 * sample["tokens"]


def test_sampling_into_a_pipe_that_closes_is_silent(trained: Path) -> None:
    command = f"'{TEXTGEN}' sample '{trained}' --count 200 --length 200 | head -c 100"
    finished = subprocess.run(
        ["sh", "-c", command], capture_output=True, encoding="utf-8", timeout=120
    )
    assert len(finished.stdout) >= 90
    assert finished.stderr.splitlines() == [f"note: reading {trained}/best"]


def test_prompts_on_stdin_are_each_gone_on_from(trained: Path, here: Typed) -> None:
    arguments = ("sample", trained, "--prompt", "-", "--sentences", "1", "--count", "2")
    finished = here(*arguments, stdin="The king\nThe fool\n")
    texts = finished.stdout.split("---------------\n")
    assert [text[:8] for text in texts] == ["The king"] * 2 + ["The fool"] * 2


def test_beams_find_a_text_at_least_as_likely_as_the_greedy_one(trained: Path, here: Typed) -> None:
    def log_prob(*options: str) -> float:
        arguments = ("sample", trained, "--prompt", "The ", "--length", "30", "--format", "json")
        return float(json.loads(here(*arguments, *options).stdout)["log_prob"])

    assert log_prob("--beams", "8") >= log_prob("--temperature", "0") - 1e-3


def test_novelty_indexes_the_corpus_once_and_says_what_is_copied(
    trained: Path, here: Typed
) -> None:
    arguments = ("sample", trained, "--novelty", "--copied-length", "5", "--format", "json")
    assert "indexing" in here(*arguments).stderr
    second = here(*arguments)
    assert "indexing" not in second.stderr
    novelty = json.loads(second.stdout)["novelty"]
    assert set(novelty) == {"longest_copied", "copied_share"}
    assert 0 <= novelty["copied_share"] <= 1
    alone = ("sample", trained, "--copied-length", "5", "--beams", "2", "--format", "json")
    assert set(json.loads(here(*alone).stdout)["novelty"]) == set(novelty)
    here("sample", trained, "--min-novelty", "1", "--copied-length", "1", code=3)


def test_predict_shows_bars_and_gives_scripts_all_of_the_distribution(
    trained: Path, here: Typed
) -> None:
    bars = here("predict", trained, "The ").stdout
    assert "█" in bars
    assert "entropy" in bars
    record = json.loads(here("predict", trained, "The ", "--format", "json").stdout)
    assert sum(choice["probability"] for choice in record["choices"]) == pytest.approx(1)
    words = here("predict", trained, "The ", "--words", "--top", "3", "--format", "json")
    assert len(json.loads(words.stdout)["choices"]) == 3


def test_score_as_json_gives_sentences_then_the_total(trained: Path, here: Typed) -> None:
    arguments = (
        "score",
        trained,
        "--text",
        "The king sees the sea.",
        "--text",
        "ehT ¿gnik seses eht aes.",
    )
    finished = here(*arguments, "--level", "token", "--format", "json")
    first, second, total = map(json.loads, finished.stdout.splitlines())
    for score in (first, second):
        assert set(score) == {
            "line",
            "text",
            "log_prob",
            "tokens",
            "unknown",
            "perplexity",
            "perplexity_without_unknown",
            "bits_per_character",
            "words",
            "characters",
            "bytes",
            "perplexity_per_word",
            "bits_per_byte",
            "comparable",
            "token_scores",
        }
        summed = sum(token["log_prob"] for token in score["token_scores"])
        assert abs(summed - score["log_prob"]) < 1e-9
        assert score["token_scores"][-1]["id"] == 1
    assert (first["unknown"], second["unknown"]) == (0, 1)
    assert first["log_prob"] > second["log_prob"]
    assert total["total"]["tokens"] == first["tokens"] + second["tokens"]
    assert "likelier" in here(*arguments).stdout


@pytest.mark.skipif(os.name == "nt", reason="needs a signal that a process can be sent")
def test_a_sentence_is_scored_as_it_comes_and_ctrl_c_ends_quietly(trained: Path) -> None:
    """Though stdin stays open, as a person's terminal does."""
    command = [TEXTGEN, "score", trained, "--format", "json"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as running:
        running.stdin.write("The king sees the sea.\n")
        running.stdin.flush()
        assert json.loads(running.stdout.readline())["line"] == 1
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130
        assert running.stdout.read() == ""
        assert "Fatal" not in (said := running.stderr.read())
        assert "Traceback" not in said


def test_validation_part_scores_as_training_reported(
    corpus: Path, trained: Path, tmp_path: Path, here: Typed
) -> None:
    boundary = json.loads((trained / "best" / "config.json").read_text())["corpus"]["boundary"]
    held_out = tmp_path / "held out.txt"
    held_out.write_text(TEXT[boundary:], encoding="utf-8")
    finished = here("score", trained, held_out, "--context", "document", "--format", "json")
    total = json.loads(finished.stdout.splitlines()[-1])["total"]
    info = json.loads(here("info", trained, "--format", "json").stdout)
    assert abs(-total["log_prob"] / total["tokens"] - info["validation"]["loss"]) < 1e-6


def test_a_copied_best_works_anywhere(trained: Path, tmp_path: Path, here: Typed) -> None:
    copy = tmp_path / "carried away"
    shutil.copytree(trained / "best", copy)
    assert here("sample", copy, "--length", "5").stdout
    assert "24" in here("info", copy).stdout


def test_a_damaged_checkpoint_is_refused(trained: Path, tmp_path: Path, here: Typed) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained / "best", copy)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    finished = here("sample", copy, code=3)
    assert "model.safetensors" in finished.stderr
    assert finished.stdout == ""
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x02}q\x00.")
    assert "pickle" in here("score", tmp_path / "pickle.pt", "--text", "a", code=3).stderr
    here("sample", tmp_path / "nowhere", code=1)


def test_tokenize_learns_shows_and_encodes(corpus: Path, tmp_path: Path, here: Typed) -> None:
    out = tmp_path / "words"
    finished = here(
        "tokenize", corpus, "--level", "word", "--out", out, "--min-count", "1", "--format", "json"
    )
    learned = json.loads(finished.stdout)
    assert set(learned) >= {
        "level",
        "vocabulary_size",
        "tokens",
        "characters",
        "unknown_rate",
        "fingerprint",
    }
    assert learned["characters"] == len(TEXT)
    shown = here("tokenize", "--tokenizer", out, "--print", "tokens", stdin="The king sees x.\n")
    assert "king" in shown.stdout
    mask = here("tokenize", "--tokenizer", out, "--print", "mask", stdin="The king sees x.\n")
    assert mask.stdout.split().count("1") == 1
    run = tmp_path / "run"
    here("train", out, "--out", run, "--steps", "3", *SMALL)
    assert here("sample", run, "--length", "5").stdout


@pytest.mark.parametrize("level", ["word", "subword"])
def test_every_level_trains_samples_and_scores(
    level: str, corpus: Path, tmp_path: Path, here: Typed
) -> None:
    size = ("--vocab-size", "300") if level == "subword" else ()
    out = tmp_path / "run"
    here("train", corpus, "--out", out, "--level", level, *size, "--steps", "5", *SMALL)
    assert here("sample", out, "--length", "12", "--prompt", "The king").stdout
    finished = here("score", out, "--text", "The king sees the sea.", "--format", "json")
    assert json.loads(finished.stdout.splitlines()[0])["log_prob"] < 0


def test_bad_input_is_one_line_and_creates_nothing(
    corpus: Path, tmp_path: Path, here: Typed
) -> None:
    out = tmp_path / "run"
    empty, binary, latin = (tmp_path / name for name in ("empty", "binary", "latin"))
    empty.write_bytes(b"")
    binary.write_bytes(bytes(range(256)) * 8)
    latin.write_bytes("Zoë\n".encode("latin-1"))
    for code, arguments in (
        (3, ("train", empty, "--out", out)),
        (3, ("train", binary, "--out", out)),
        (3, ("train", latin, "--out", out)),
        (1, ("train", tmp_path / "missing.txt", "--out", out)),
        (2, ("train", corpus, "--out", out, "--learning-rate", "1e309")),
        (2, ("train", corpus, "--out", out, "--budget", "soon")),
        (2, ("train", corpus, "--out", out, "--steps", "3", "--epochs", "2")),
        (2, ("train", corpus, "--out", out, "--hiden-size", "3")),
    ):
        assert here(*arguments, code=code).stdout == ""
        assert not out.exists()


def test_it_works_without_home_locale_or_terminal(trained: Path) -> None:
    environment = {"LANG": "C", "LC_ALL": "C", "HOME": "", "TERM": "dumb", "COLUMNS": "40"}
    finished = textgen("score", trained, "--text", "The café owner sees", **environment)
    assert "café" in finished.stdout


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_resume_goes_on(
    corpus: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "run"
    command = [TEXTGEN, "train", corpus, "--out", out, "--steps", "1000000", *SMALL]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    while "step" not in running.stderr.readline():
        assert running.poll() is None
    running.send_signal(number)
    shown, said = running.communicate(timeout=60)
    assert running.returncode == code
    assert "--resume" in shown + said
    done = json.loads((out / "last" / "config.json").read_text())["progress"]["step"]
    total = ("--steps", str(done + 5))
    finished = textgen("train", "--out", out, "--resume", *total, "--format", "json")
    assert json.loads(finished.stdout)["steps"] == done + 5
