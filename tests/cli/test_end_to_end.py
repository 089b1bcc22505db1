"""The commands on a real model; in processes of their own where the claim is about a process."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

TEXTGEN = Path(sys.executable).with_name("textgen")
SMALL = (
    *("--hidden-size", "24", "--embedding-size", "8", "--batch-size", "4"),
    *("--sequence-length", "16", "--threads", "1"),
)


def json_lines(ended: Any) -> list[Any]:
    return [json.loads(line) for line in ended.out.splitlines()]


def test_train_says_what_to_type_next_and_resumes(corpus: Path, tmp_path: Path, typed: Any) -> None:
    out = tmp_path / "run"
    ended = typed("train", corpus, "--out", out, "--steps", "4", *SMALL)
    for command in ("textgen sample", "textgen score", "textgen info"):
        assert command in ended.out
    ended = typed("train", "--out", out, "--resume", "--steps", "8", "--format", "json")
    assert json.loads(ended.out)["steps"] == 8
    typed("train", corpus, "--out", out, *SMALL, code=2)


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_ctrl_c_saves_and_resume_goes_on(corpus: Path, tmp_path: Path, typed: Any) -> None:
    out = tmp_path / "run"
    command = [TEXTGEN, "train", corpus, "--out", out, "--steps", "1000000", *SMALL]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    while "step" not in running.stderr.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    shown, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "--resume" in shown + said
    done = json.loads((out / "last" / "config.json").read_text())["progress"]["step"]
    ended = typed("train", "--out", out, "--resume", "--steps", done + 5, "--format", "json")
    assert json.loads(ended.out)["steps"] == done + 5


def test_the_same_seed_gives_the_same_text_before_code_is_compiled_and_after(
    trained: Path, tmp_path: Path, compiler: str, typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from textgen.inference.native.kernels import Loading

    arguments = ("sample", trained, "--length", "300", "--seed", "7")
    environment = {**os.environ, "CC": compiler, "XDG_CACHE_HOME": str(tmp_path)}
    compiling = subprocess.run(
        [TEXTGEN, *arguments], env=environment, capture_output=True, encoding="utf-8", check=True
    )
    plain = typed(*arguments)
    assert (compiling.stdout, compiling.stderr) == (plain.out, plain.err)
    assert len(plain.out) >= 300
    if sys.platform == "linux":
        (compiled,) = (tmp_path / "textgen").iterdir()
        loading = Loading(compiled.parent, None)
        assert loading.library is not None
        monkeypatch.setattr("textgen.inference.native.kernels.loading", cache(lambda: loading))
        assert typed(*arguments).out == plain.out


@pytest.mark.skipif(os.name == "nt", reason="needs a signal that a process can be sent")
def test_a_sentence_is_scored_as_it_comes_without_home_or_locale_and_ctrl_c_ends_quietly(
    trained: Path,
) -> None:
    """Though stdin stays open, as a person's terminal does."""
    odd = {"LANG": "C", "LC_ALL": "C", "HOME": "", "TERM": "dumb", "COLUMNS": "40"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [TEXTGEN, "score", trained, "--format", "json"]
    with subprocess.Popen(command, env={**os.environ, **odd}, encoding="utf-8", **pipes) as running:
        running.stdin.write("The café owner sees\n")
        running.stdin.flush()
        assert json.loads(running.stdout.readline())["text"] == "The café owner sees"
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130
        assert running.stdout.read() == ""
        assert "Fatal" not in (said := running.stderr.read())
        assert "Traceback" not in said


def test_what_is_sampled_scores_as_it_was_drawn(trained: Path, typed: Any) -> None:
    options = ("--sentences", "1", "--count", "5", "--temperature", "0.7", "--format", "json")
    samples = json_lines(typed("sample", trained, *options))
    assert {sample["index"] for sample in samples} == set(range(5))
    assert not any("<UNK>" in sample["text"] for sample in samples)
    samples = [sample for sample in samples if sample["finish_reason"] == "eos"]
    assert samples
    lines = "".join(sample["text"] + "\n" for sample in samples)
    scores = json_lines(typed("score", trained, "-", "--format", "json", stdin=lines))
    for sample, score in zip(samples, scores, strict=False):
        assert score["tokens"] == sample["tokens"]
        assert abs(score["log_prob"] - sample["log_prob"]) <= 1e-4 * sample["tokens"]


def test_novelty_indexes_the_corpus_once_and_says_what_is_copied(trained: Path, typed: Any) -> None:
    shutil.rmtree(trained / "novelty", ignore_errors=True)
    arguments = ("sample", trained, "--novelty", "--copied-length", "5", "--format", "json")
    assert "indexing" in typed(*arguments).err
    second = typed(*arguments)
    assert "indexing" not in second.err
    novelty = json.loads(second.out)["novelty"]
    assert set(novelty) == {"longest_copied", "copied_share"}
    assert 0 <= novelty["copied_share"] <= 1
    alone = ("sample", trained, "--copied-length", "5", "--beams", "2", "--format", "json")
    assert set(json.loads(typed(*alone).out)["novelty"]) == set(novelty)
    typed("sample", trained, "--min-novelty", "1", "--copied-length", "1", code=3)


def test_predict_shows_bars_and_gives_scripts_all_of_the_distribution(
    trained: Path, typed: Any
) -> None:
    bars = typed("predict", trained, "The ").out
    assert "█" in bars
    assert "entropy" in bars
    record = json.loads(typed("predict", trained, "The ", "--format", "json").out)
    assert sum(choice["probability"] for choice in record["choices"]) == pytest.approx(1)
    words = typed("predict", trained, "The ", "--words", "--top", "3", "--format", "json")
    assert len(json.loads(words.out)["choices"]) == 3


def test_score_as_json_gives_sentences_then_the_total(trained: Path, typed: Any) -> None:
    sentences = ("The king sees the sea.", "ehT ¿gnik seses eht aes.")
    arguments = ("score", trained, "--text", sentences[0], "--text", sentences[1])
    first, second, total = json_lines(typed(*arguments, "--level", "token", "--format", "json"))
    for score in (first, second):
        summed = sum(token["log_prob"] for token in score["token_scores"])
        assert abs(summed - score["log_prob"]) < 1e-9
        assert score["token_scores"][-1]["id"] == 1
    assert (first["unknown"], second["unknown"]) == (0, 1)
    assert first["log_prob"] > second["log_prob"]
    assert total["total"]["tokens"] == first["tokens"] + second["tokens"]
    assert "likelier" in typed(*arguments).out


@pytest.mark.parametrize("level", [("word",), ("subword", "--vocab-size", "300")])
def test_every_level_trains_samples_and_scores(
    level: tuple[str, ...], corpus: Path, tmp_path: Path, typed: Any
) -> None:
    out = tmp_path / "run"
    typed("train", corpus, "--out", out, "--level", *level, "--steps", "5", *SMALL)
    assert typed("sample", out, "--length", "12", "--prompt", "The king").out
    first, _ = json_lines(typed("score", out, "--text", "The king sees.", "--format", "json"))
    assert first["log_prob"] < 0


def test_bad_input_is_one_line_and_creates_nothing(
    corpus: Path, tmp_path: Path, typed: Any
) -> None:
    out = tmp_path / "run"
    empty, binary, latin = (tmp_path / name for name in ("empty", "binary", "latin"))
    empty.write_bytes(b"")
    binary.write_bytes(bytes(range(256)) * 8)
    latin.write_bytes("Zoë\n".encode("latin-1"))
    for code, arguments in (
        (3, (empty,)),
        (3, (binary,)),
        (3, (latin,)),
        (1, (tmp_path / "missing.txt",)),
        (2, (corpus, "--resume", "--overwrite")),
    ):
        assert typed("train", "--out", out, *arguments, code=code).out == ""
        assert not out.exists()


def test_a_dash_reads_the_texts_to_predict_from_stdin(typed: Any, trained: Path) -> None:
    out = typed("predict", trained, "-", "--format", "json", stdin="The \n\nking").out
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["The ", "", "king"]
    out = typed("predict", trained, "-", "--top", "2", stdin="The \nking").out
    assert [line for line in out.splitlines() if line in ("The", "king")] == ["The", "king"]


def test_a_command_says_that_it_reads_last_only_where_there_is_no_best(
    trained: Path, tmp_path: Path, typed: Any
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    commands = (["sample", run, "--length", "2"], ["plot", "gradient", run, "--lags", "2"])
    for command in commands:
        assert typed(*command).lines == []
        assert f"note: reading {run / 'best'}" in typed(*command, "--verbose").lines
    shutil.rmtree(run / "best")
    for command in commands:
        assert typed(*command).lines == [
            f"note: reading {run / 'last'}: there is no best checkpoint yet"
        ]
        assert typed(*command, "--quiet").lines == []
    assert typed("sample", run / "last", "--length", "2").lines == []
