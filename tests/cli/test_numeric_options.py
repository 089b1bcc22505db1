"""Every option that is a number, of every command, with numbers that arithmetic may not bear."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

import textgen
from textgen.cli.app import COMMANDS
from textgen.errors import TextgenError

METAVARS = {"N", "X", "TIME", "BASE", "N[,N...]", "X[,X...]"}
NUMBERS = (
    *("0", "-1", "1e-320", "1e-308", "3.5e38", "1e308", "-3.5e38", "-1e308", "nan", "inf", "-inf"),
    *map(str, (2**31, 2**63 - 1, 2**63, 10**30)),
    "9" * 5000,
)
ARGUMENTS: dict[str, list[str]] = {
    "tokenize": ["TEXT"],
    "train": ["TEXT", "--out", "OUT"],
    "sample": ["MODEL", "--length", "3"],
    "score": ["MODEL", "--text", "The king sees."],
    "predict": ["MODEL", "The"],
    "compare": ["TEXT", "--out", "OUT", "--models", "lstm"],
    "plot gradient": ["MODEL"],
    "plot embeddings": ["MODEL"],
    "plot memory": ["MODEL", "--what", "context"],
    "plot neurons": ["MODEL", "The king"],
    "rerank": ["MODEL", "NBEST"],
    "pairs": ["MODEL", "PAIRS"],
    "serve": ["MODEL"],
}
BESIDE = {
    "--length": ["--sentences", "1", "--stop", "e", "--stop", " ", "--temperature", "0"],
    "--length-penalty": ["--beams", "2"],
    "--adapt-rate": ["--adapt", "--text", "The king sees the sea. " * 400],
    "--mix-weight": ["--mix", "MODEL"],
    "--order": ["--model", "ngram"],
    "--window": ["--model", "feedforward"],
    "--states": ["--model", "hmm"],
}
ONLY_READ = {"--count"}  # as many samples would be written


def commands() -> dict[str, Any]:
    found = {}
    for name, each in COMMANDS.items():
        command = each.load(name)
        subcommands = getattr(command, "commands", {})
        found |= {f"{name} {n}": sub for n, sub in subcommands.items()} or {name: command}
    return found


OPTIONS = [
    (name, max(param.opts, key=len))
    for name, command in commands().items()
    for param in command.params
    if param.metavar in METAVARS and "--x" not in param.opts
]


def test_every_option_that_is_a_number_is_among_them() -> None:
    assert {name for name, _ in OPTIONS} == ARGUMENTS.keys()
    assert len(OPTIONS) > 50
    assert {"--temperature", "--clip", "--adapt-rate", "--lags"} < {option for _, option in OPTIONS}


@pytest.fixture
def files(trained: Path, corpus: Path, tmp_path: Path) -> dict[str, str]:
    nbest, pairs = tmp_path / "nbest", tmp_path / "pairs.jsonl"
    nbest.write_text("a The king sees.\na The queen sees.\n")
    pairs.write_text('{"sentence_good": "The king sees.", "sentence_bad": "king The."}\n')
    paths = {"MODEL": trained, "TEXT": corpus, "OUT": tmp_path / "x"}
    return {name: str(path) for name, path in {**paths, "NBEST": nbest, "PAIRS": pairs}.items()}


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=[" ".join(each) for each in OPTIONS])
def test_a_number_is_refused_in_one_line_or_borne(
    run: Any, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, option: str
) -> None:
    """What trains is only read: runs of these lengths do not end."""
    done = Mock(side_effect=TextgenError("read"))
    monkeypatch.setitem(textgen.__dict__, "train", done)
    monkeypatch.setitem(textgen.__dict__, "compare", done)
    if option in ONLY_READ:
        fake = SimpleNamespace(
            load=Mock(
                return_value=SimpleNamespace(
                    name="best", path=Path("m/best"), notes=(), samples=done
                )
            )
        )
        monkeypatch.setattr("textgen.language_model.LanguageModel", fake)
    if name == "serve":  # until it would begin
        monkeypatch.setattr("textgen.server.command.listen", done)
    arguments = [*name.split(), *ARGUMENTS[name], *BESIDE.get(option, [])]
    for number in NUMBERS:
        ended = run(*(files.get(each, each) for each in arguments), f"{option}={number}")
        errors = [line for line in ended.lines if "error:" in line]
        assert ended.code in (0, 1, 2, 3), ended.err
        assert len(errors) == (ended.code != 0), ended.err
        if ended.code == 1:
            assert errors == ["textgen: error: read"]
        assert not any("bug in textgen" in line or "Traceback" in line for line in ended.lines)
        assert all(len(line) < 400 for line in errors)


@pytest.mark.parametrize(
    "options",
    [
        {"clip": 1e9, "dropout": 1 - 2**-53, "warmup": 1 - 2**-53},
        {"clip": 1e-320, "learning_rate": 1e-320, "warmup": 1e-320, "dropout": 1e-320},
        {"learning_rate": 999.0, "weight_decay": 999.0},
        {"weight_decay": 1e-320, "valid_every": 2**63 - 1, "log_every": 2**63 - 1},
    ],
)
def test_a_run_bears_the_ends_of_the_ranges(
    corpus: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    small = {"hidden_size": 4, "embedding_size": 2, "batch_size": 2, "sequence_length": 8}
    try:
        textgen.train(corpus, out=tmp_path / "x", steps=3, threads=1, **small, **options)
    except TextgenError as error:
        assert error.exit_code == 4  # it diverged
