"""What surrounds a run must not matter: hashing, locale, home, network, the machine's memory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from textgen import train

TEXT = "".join(f"the {who} sees the {what}.\n" for who in ("cat", "dog") for what in "abcdefghij")
SMALL = ("--hidden-size", "8", "--embedding-size", "4", "--device", "cpu", "--threads", "1")
OFFLINE = """
import os, sys
def refuse(event, arguments):
    if event.startswith("socket."):
        os.write(2, event.encode())
        os._exit(77)
sys.addaudithook(refuse)
from textgen.cli.app import main
sys.exit(main(sys.argv[1:]))
"""
SHORT_OF_MEMORY = """
import resource, sys
import textgen.training.prepare  # what is loaded already needs no room
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 2**28
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from textgen.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def run(program: str, *arguments: str | Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command with next to nothing in its environment."""
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "SYSTEMROOT") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=kept | {"LANG": "C", "TERM": "dumb", "OMP_NUM_THREADS": "1"} | extra,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def test_offline_without_home_or_locale_the_bytes_are_the_same_whatever_the_hash_seed(
    corpus: Path, tmp_path: Path
) -> None:
    arguments = ("train", corpus, "--out", tmp_path / "there", "--steps", "12", *SMALL)
    finished = run(OFFLINE, *arguments, PYTHONHASHSEED="12345")
    assert finished.returncode == 0, finished.stderr
    options: dict[str, Any] = {"hidden_size": 8, "embedding_size": 4, "device": "cpu"}
    train(corpus, out=tmp_path / "here", steps=12, threads=1, **options)
    for name in ("model.safetensors", "state.safetensors", "tokenizer.json"):
        there, here = (tmp_path / each / "last" / name for each in ("there", "here"))
        assert there.read_bytes() == here.read_bytes()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs a limit on memory")
def test_too_little_memory_is_one_line_that_names_what_to_lower(
    corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    large = ("--batch-size", "512", "--sequence-length", "256", "--hidden-size", "512")
    options = ("--steps", "3", "--device", "cpu", "--threads", "1", *large)
    finished = run(SHORT_OF_MEMORY, "train", corpus, "--out", out, *options)
    assert finished.returncode == 1, finished.stderr
    said = finished.stderr.splitlines()[-1]
    assert said.startswith("textgen: error: out of memory")
    for setting in ("--batch-size", "--hidden-size", "--sequence-length"):
        assert setting in said
    assert "Traceback" not in finished.stderr
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["last"]
