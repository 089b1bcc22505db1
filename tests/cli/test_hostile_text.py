"""Text that would drive a terminal, in a corpus, a vocabulary and the names of files."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from textgen.cli.app import COMMANDS, main
from textgen.presentation import console

pytestmark = pytest.mark.skipif(os.name == "nt", reason="such names are not possible")

ODD = "".join(map(chr, (*range(1, 9), 11, 12, *range(14, 32), *range(0x7F, 0xA0))))
ODD += "\u061c\u200b\u200e\u2028\u2029\u202e\u2066\ufeff\U000e0041"
LINE = f"the \x1b]0;title\x07{ODD}cat \x1b[5msat\u202e.\n"
NAME = "odd \x1b]0;x\x07\x9b5m\u202e\u2028\ufeff"
OURS = re.compile(r"\x1b\[(\?25[lh]|[\d;]*[mAHJK]|1?G)")
"""What rich writes to draw and to move the cursor; none of it is in the texts."""
SMALL = ("--steps", "2", "--hidden-size", "4", "--batch-size", "1", "--sequence-length", "8")
MACHINE = ("--device", "cpu", "--threads", "1")


class Stream(io.StringIO):
    def __init__(self, *, watched: bool) -> None:
        super().__init__()
        self._watched = watched

    def isatty(self) -> bool:
        return self._watched


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_as(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command: exit code, stdout and stderr."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")  # rich keeps the codes of a style

    def run(*arguments: str | Path, watched: bool) -> tuple[int, str, str]:
        out, err = Stream(watched=watched), Stream(watched=watched)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        code = main([str(each) for each in arguments])
        return code, out.getvalue(), err.getvalue()

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of hostile text under a hostile name, and files to use it on."""
    folder = tmp_path_factory.mktemp("hostile")
    corpus = folder / f"{NAME}.txt"
    corpus.write_text(LINE * 30, encoding="utf-8")
    for level in ("char", "word"):
        typed = ("--level", level, "--min-count", "1", "--out", str(folder / (level + NAME)))
        assert main(["train", str(corpus), *typed, *SMALL, *MACHINE]) == 0
    line = LINE.strip("\n")
    (folder / f"nbest{NAME}").write_text(f"{NAME} {line}\n{NAME} cat\n", encoding="utf-8")
    pair = {"sentence_good": line, "sentence_bad": "cat", "field": NAME}
    (folder / f"pairs{NAME}.jsonl").write_text(json.dumps(pair) + "\n", encoding="utf-8")
    (folder / f"rows{NAME}.tsv").write_text(f"the\t{line.replace(chr(9), '')}\n", encoding="utf-8")
    return folder


def _commands(folder: Path, what: str) -> Iterator[tuple[str | Path, ...]]:
    corpus, char, word = folder / f"{NAME}.txt", folder / f"char{NAME}", folder / f"word{NAME}"
    text = LINE.strip()
    if what == "text":
        yield "tokenize", corpus
        yield "tokenize", corpus, "--level", "word", "--format", "json"
        for each in ("tokens", "ids"):
            yield "tokenize", corpus, "--tokenizer", char, "--print", each
        yield "train", corpus, "--plan", *MACHINE
        yield "train", corpus, "--out", folder / f"again{NAME}", "--overwrite", *SMALL, *MACHINE
        compared = ("--models", "ngram", "--steps", "1", *MACHINE)
        yield "compare", corpus, "--out", folder / f"both{NAME}", *compared
    elif what == "plots":
        yield "plot", "loss", char
        yield "plot", "gradient", char, "--file", corpus, *MACHINE
        yield "plot", "neurons", char, text, *MACHINE
        yield "plot", "embeddings", word
    elif what == "score":
        for layout in ("table", "tsv", "json", "heatmap", "kenlm", "lm-zoo", "neural-complexity"):
            yield "score", word, corpus, "--format", layout, *MACHINE
        html = ("--html", folder / f"{NAME}.html")
        yield "score", char, corpus, "--level", "token", *html, *MACHINE
        rows = ("--continuations", folder / f"rows{NAME}.tsv", "--format", "theanolm")
        yield "score", word, *rows, *MACHINE
        for output in ("nbest", "json"):
            yield "rerank", char, folder / f"nbest{NAME}", "--format", output, *MACHINE
        yield "pairs", char, folder / f"pairs{NAME}.jsonl", "--by", "field", *MACHINE
    else:
        for model in (char, word):
            yield "predict", model, "the", "--top", "50", *MACHINE
            yield "predict", model, "the", "--format", "json", *MACHINE
            yield "sample", model, "--length", "90", "--prompt", text, "--count", "2", *MACHINE
            yield "sample", model, "--length", "90", "--format", "json", *MACHINE
            yield "info", model
            yield "info", model, "--format", "json"
        yield "predict", word, "the", "--words", *MACHINE
        yield "sample", char, "--length", "60", "--novelty", *MACHINE


def _errors(folder: Path) -> Iterator[tuple[str | Path, ...]]:
    missing = folder / f"missing{NAME}"
    for command in COMMANDS:
        yield command, missing
        yield command, f"--{NAME}"
        yield command, NAME, NAME, NAME
    yield ("train", missing, "--out", missing)
    yield ("predict", folder / f"char{NAME}", f"____{NAME}____")
    yield ("sample", folder / f"char{NAME}", "--require", f"{NAME}\u2603")
    yield (NAME,)


@pytest.mark.parametrize("watched", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize("what", ["text", "plots", "score", "models"])
def test_no_text_drives_a_terminal(folder: Path, run_as: Run, what: str, *, watched: bool) -> None:
    for arguments in _commands(folder, what):
        code, out, err = run_as(*arguments, watched=watched)
        assert code == 0, (arguments, err)
        assert _is_clean(err), arguments
        data = {"tsv", "kenlm", "lm-zoo", "neural-complexity", "theanolm"} & {*arguments}
        raw = data or (arguments[0] in ("sample", "rerank") and "json" not in arguments)
        assert _is_clean(out) or (raw and not watched), arguments
        if "json" in arguments:
            assert all(json.loads(line) for line in out.splitlines())


@pytest.mark.parametrize("watched", [True, False], ids=["terminal", "pipe"])
def test_no_error_drives_a_terminal(folder: Path, run_as: Run, *, watched: bool) -> None:
    for arguments in _errors(folder):
        code, out, err = run_as(*arguments, watched=watched)
        assert code in (1, 2, 3), (arguments, err)
        assert "textgen: error" in OURS.sub("", err)
        assert _is_clean(err), arguments
        assert _is_clean(out), arguments


def _is_clean(text: str) -> bool:
    text = OURS.sub("", text)
    return console.shown(text, keep="\n\t\r") == text


def test_a_name_that_is_no_text_is_an_escape(tmp_path: Path, run_as: Run) -> None:
    path = tmp_path / os.fsdecode(b"odd\xff")
    _, out, err = run_as("info", path, watched=True)
    assert _is_clean(out + err)
    assert "odd\\udcff" in OURS.sub("", err)


@pytest.mark.parametrize("watched", [True, False])
def test_what_nobody_escaped_is_escaped_at_the_gate(
    monkeypatch: pytest.MonkeyPatch, *, watched: bool
) -> None:
    out, err = Stream(watched=watched), Stream(watched=watched)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    console.emit(LINE)
    assert _is_clean(out.getvalue()) == watched, "in a pipe a text is as it is"
    console.say(LINE)
    console.live_console().print(LINE)
    assert _is_clean(err.getvalue())
    before = len(out.getvalue())
    console.show(LINE)
    assert _is_clean(out.getvalue()[before:])


def test_nothing_is_written_but_through_the_gate() -> None:
    package = Path(console.__file__).parents[1]
    writes = re.compile(r"(?<![.\w])print\(|stdout\.write|stderr\.write|\bConsole\(|\becho\(")
    for path in package.rglob("*.py"):
        if path != Path(console.__file__):
            found = writes.findall(path.read_text(encoding="utf-8"))
            name = path.relative_to(package).as_posix()
            # Constant help; a console that only wraps; a program that is exported.
            allowed = {
                "cli/app.py": ["echo("],
                "presentation/training.py": ["Console("],
                "exports/onnx.py": ["print("] * 2,
            }
            assert found == allowed.get(name, []), path
