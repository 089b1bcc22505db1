"""A folder as checkpoints and tokenizers are stored in."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from textgen import storage

Write = Callable[[Path, str], None]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def write() -> Write:
    """Writes a folder with two files that have this content: write(target, content)."""

    def write(target: Path, content: str) -> None:
        with storage.new_folder(target) as begun:
            (begun / "data.bin").write_bytes(content.encode() + bytes(range(40)))
            storage.write_json(begun / "config.json", {"format": 1, "content": content})

    return write


@pytest.fixture
def target(tmp_path: Path, write: Write) -> Path:
    """A folder with the content "old"."""
    write(tmp_path / "run" / "last", "old")
    return tmp_path / "run" / "last"
