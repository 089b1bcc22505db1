"""What the README tells a person to type works as it stands there."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from textgen.cli import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = ["--steps", "3", "--batch-size", "2", "--sequence-length", "8", "--threads", "1"]
TEXT = "".join(f"the {who} of Zürich was {how}.\n" for who in "abcdefgh" for how in ("ill", "well"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to type in, with a text of one's own."""
    (tmp_path / "mytext.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "glove.txt").write_text("the 0.5 0.25\nill -1 2\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shortened(arguments: list[str]) -> list[str]:
    """The same command, for a run of a few steps with a small network."""
    if arguments[0] not in ("train", "compare"):
        return arguments
    kept = list(arguments)
    for length in ("--budget", "--epochs", "--steps"):
        if length in kept:
            place = kept.index(length)
            del kept[place : place + 2]
    if "--resume" in kept:
        return [*kept, "--steps", "4"]
    if arguments[0] == "compare":
        return kept + SHORT + ([] if "--models" in kept else ["--models", "lstm,rnn"])
    if "ngram" in kept:
        return kept  # it takes no steps
    return kept + SHORT + ([] if "--hidden-size" in kept else ["--hidden-size", "8"])


def test_every_command_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = [shlex.split(line)[1:] for line in commands() if line.startswith("textgen ")]
    assert {arguments[0] for arguments in typed} >= {
        *("tokenize", "train", "sample", "predict", "score", "compare", "plot", "info")
    }
    # A reader trains before using the model, whichever is explained first.
    for arguments in sorted(typed, key=lambda arguments: arguments[0] != "train"):
        monkeypatch.setattr(sys, "argv", ["textgen", *shortened(arguments)])
        with pytest.raises(SystemExit) as exited:
            sys.exit(app.main())
        assert exited.value.code in (None, 0), arguments


def test_the_python_example_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("python")
    exec(example.replace('budget="10m", hidden_size=512', "steps=3, hidden_size=8"), {})
    assert "surprisal" not in capsys.readouterr().err


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [line.split()[1] for line in commands() if line.startswith("make ")]
    assert {"demo", "test", "check", "bench", "corpus"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_every_file_that_the_tree_names_is_there() -> None:
    tree = next(block for block in blocks("text") if "pyproject.toml" in block)
    named = re.findall(r"^(\s*)([\w./-]+?/?)(?:\s{2,}|$)", tree, re.MULTILINE)
    folders: list[tuple[int, Path]] = [(-1, ROOT)]
    for indent, name in named:
        while folders[-1][0] >= len(indent):
            folders.pop()
        path = folders[-1][1] / name
        assert path.exists(), path
        if name.endswith("/"):
            folders.append((len(indent), path))
