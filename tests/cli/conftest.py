"""A checkpoint that was really trained, and the commands applied to it in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import textgen

TEXT = "".join(
    f"The {who} {verb} the {what}.\n"
    for who in ("king", "queen", "fool", "café owner")
    for verb in ("sees", "likes", "forgets")
    for what in ("moon", "sea", "old door", "garden", "crown")
)
SMALL = {"hidden_size": 24, "embedding_size": 8, "batch_size": 4, "sequence_length": 16}


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of a test run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def corpus(shared: Path) -> Path:
    path = shared / "my text.txt"
    with FileLock(shared / "corpus.lock"):
        if not path.exists():
            path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(corpus: Path, shared: Path) -> Path:
    """A character model of the corpus after 60 steps, trained once."""
    out = shared / "a model"
    with FileLock(shared / "trained.lock"):
        if not out.exists():
            textgen.train(corpus, out=out, steps=60, threads=1, **SMALL)
    return out


@pytest.fixture
def typed(run: Any) -> Callable[..., Any]:
    """Runs a command whose exit code is part of the claim: typed("sample", x, stdin="a\\n")."""

    def call(*arguments: str | Path, stdin: str = "", code: int = 0) -> Any:
        ended = run(*arguments, stdin=stdin)
        assert ended.code == code, ended.err
        errors = [line for line in ended.lines if "error:" in line]
        assert len(errors) == (code != 0)
        return ended

    return call
