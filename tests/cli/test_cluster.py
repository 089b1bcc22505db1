"""``--executor`` without datatrove: what is refused, and the line that installs it."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

from textgen.errors import UsageError, install_line

SCORE = ["score", "x", "documents", "--executor", "local"]
TOKENIZE = ["tokenize", "documents", "--executor", "local", "--out", "y"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (SCORE, "--executor needs --out"),
        (["score", "x", "--executor", "local", "--out", "y"], "--executor needs files"),
        (["score", "x", "-", "--executor", "local", "--out", "y"], "--executor needs files"),
        ([*SCORE, "--out", "y", "--text", "a"], "--executor and --text cannot both"),
        ([*SCORE, "--out", "y", "--context", "document"], "--executor and --context cannot both"),
        ([*SCORE, "--out", "y", "--jobs", "2"], "--executor and --jobs cannot both"),
        ([*SCORE, "--out", "y", "--tasks", "0"], "--tasks must be at least 1"),
        (["score", "x", "a", "--tasks", "2"], "--tasks applies to --executor only"),
        (["score", "x", "a", "--executor", "sge"], "--executor must be one of local, slurm, ray"),
        (TOKENIZE, "--executor needs --tokenizer"),
        ([*TOKENIZE, "--tokenizer", "x", "--level", "word"], "--executor and --level cannot both"),
        (["tokenize", "a", "--tasks", "2"], "--tasks applies to --executor only"),
    ],
)
def test_what_does_not_apply_is_refused(run: Any, arguments: list[str], error: str) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert error in ended.lines[-1]


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where none of the other programs is installed."""
    packages = {"datatrove", "lm_eval"}
    for name in list(sys.modules):
        if name.startswith("textgen.integrations.") or name.partition(".")[0] in packages:
            monkeypatch.delitem(sys.modules, name)
    for name in packages:
        monkeypatch.setitem(sys.modules, name, None)


def test_a_missing_package_is_named_with_the_line_that_installs_it(
    nothing_installed: None, run: Any
) -> None:
    ended = run(*SCORE, "--out", "y")
    assert ended.code == 2
    assert "needs the package datatrove" in ended.lines[-1]
    assert install_line("cluster") in ended.lines[-1]
    with pytest.raises(UsageError, match="needs the package lm_eval") as refused:
        importlib.import_module("textgen.integrations.lm_eval")
    assert install_line("lm-eval") in str(refused.value)
