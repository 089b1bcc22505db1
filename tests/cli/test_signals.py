"""A command that is ended by a signal leaves no temporary file."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from textgen import storage

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals end a process there")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "MODEL", "CORPUS", "--html", "OUT/page.html"),
        ("sample", "MODEL", "--length", "5", "--novelty"),
        ("plot", "loss", "MODEL", "--out", "OUT/loss.svg"),
        ("tokenize", "CORPUS", "--out", "OUT/tokens"),
        ("compare", "CORPUS", "--out", "OUT/both", "--models", "ngram", "--steps", "1"),
        ("train", "CORPUS", "--out", "OUT/run", "--model", "ngram"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_nothing_is_left(
    run: Any,
    trained: Path,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    signum: signal.Signals,
) -> None:
    if "plot" in arguments:
        pytest.importorskip("matplotlib")
    model = tmp_path / "model"
    shutil.copytree(trained, model, ignore=shutil.ignore_patterns("novelty"))
    places = {"MODEL": str(model), "CORPUS": str(corpus), "OUT": str(tmp_path)}
    signals = []

    def before(own: Any) -> Any:
        def interrupted(*given: Any, **named: Any) -> Any:
            if not signals:
                signals.append(signum)
                os.kill(os.getpid(), signum)
            return own(*given, **named)

        return interrupted

    monkeypatch.setattr(storage.NewFile, "write", before(storage.NewFile.write))
    monkeypatch.setattr(storage, "write_manifest", before(storage.write_manifest))
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)]
    for name, place in places.items():
        arguments = tuple(each.replace(name, place) for each in arguments)
    assert run(*arguments).code == 128 + signum
    assert signals
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)] == handlers
    assert not [*tmp_path.rglob("*.new")]
