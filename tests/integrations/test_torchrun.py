"""Two agents of ``torchrun`` that find each other, as on two machines, and train one model."""

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from textgen import train

from ..test_readme import ROOT, blocks

pytest.importorskip("datatrove", reason="of make integrations alone: it takes a minute")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="torchrun needs libuv there")

TEXT = "the cat that the dogs chased sat down.\nthe dogs (who were tired) slept.\n" * 8

PAGE = ROOT / "docs" / "doors" / "cluster.md"
OPTIONS = ["--hidden-size", "8", "--sequence-length", "8", "--batch-size", "2", "--log-every", "3"]


@pytest.mark.parametrize("line", [0, 1], ids=["two nodes", "one or two nodes"])
def test_two_agents_train_one_model_as_one_process_with_twice_the_batch_does(
    tmp_path: Path, line: int
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(TEXT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    commands = [block for block in blocks(PAGE, "sh") if block.startswith("torchrun ")]
    _, *words = shlex.split(commands[line].replace("\\\n", " "))
    here = {"FIRST:29400": f"127.0.0.1:{port}", "mytext.txt": str(corpus)}
    here |= {"checkpoints/mine": str(tmp_path / "two")}
    agent = [sys.executable, "-m", "torch.distributed.run", "--local-addr", "127.0.0.1"]
    agent += [here.get(word, word) for word in words]
    length = ["--steps", "12", "--dropout", "0", "--device", "cpu", "--format", "json"]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    agents = [
        subprocess.Popen(
            [*agent, *length, *OPTIONS],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=900) for process in agents]
    assert [process.returncode for process in agents] == [0, 0], ended
    (said,) = (out for out, _ in ended if out)  # process 0 alone speaks
    one = train(
        corpus,
        out=tmp_path / "one",
        steps=12,
        dropout=0.0,
        batch_size=4,
        hidden_size=8,
        sequence_length=8,
        log_every=3,
        device="cpu",
    )
    assert json.loads(said)["tokens_seen"] == one.tokens_seen
    expected, found = (
        load_file(tmp_path / name / "last" / "model.safetensors") for name in ("one", "two")
    )
    for name, weight in expected.items():
        assert (weight - found[name]).abs().max() < 1e-5, name
