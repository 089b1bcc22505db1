"""A load generator for ``textgen serve``: throughput of many clients, and time to the first token.

    python benchmarks/serving.py [--clients 64] [--rounds 5]

A model of 1x512 units with random weights is served by another process on the same machine. In each
round, ``sample --count N`` runs in this process, then N clients ask for as many tokens at once, for
whole texts and for streams; the figures are medians of the ratios within a round. Afterwards single
requests measure the time from the request to the first event of its stream, on the idle server.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from shared import ROOT, Rows, machine, median_ratio, run, show

from textgen.language_model import LanguageModel

SAVED = Rows("serving.json")
TOKENS = 300
PROMPT = "Once upon a time"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = untrained(Path(folder))
        model = LanguageModel.load(checkpoint, device="cpu")
        with served(checkpoint) as port:
            figures = compare(model, port, arguments.clients, arguments.rounds)
            figures |= first_tokens(port)
    key = {"shape": "1x512", "clients": arguments.clients, "machine": machine()}
    SAVED.put(key, {"figures": figures})
    show(f"1x512, {arguments.clients} clients", figures)


def untrained(folder: Path) -> Path:
    """A checkpoint of one update, on the first lines of the bundled stories."""
    text = (ROOT / "corpora" / "stories.txt").read_text(encoding="utf-8")[:100_000]
    corpus, out = folder / "stories.txt", folder / "model"
    corpus.write_text(text, encoding="utf-8")
    options = ("--hidden-size", 512, "--embedding-size", 128, "--steps", 1, "--batch-size", 4)
    run(sys.executable, "-m", "textgen", "train", corpus, "--out", out, *options)
    return out


@contextmanager
def served(checkpoint: Path) -> Iterator[int]:
    """The port of a server, which ends with the block."""
    command = [sys.executable, "-m", "textgen", "serve", str(checkpoint), "--port", "0"]
    server = subprocess.Popen([*command, "--device", "cpu"], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        lines = iter(server.stderr.readline, "")
        yield next(int(found[1]) for line in lines if (found := re.search(r":(\d+);", line)))
    finally:
        server.terminate()
        server.wait()


def compare(model: LanguageModel, port: int, clients: int, rounds: int) -> dict[str, float]:
    """Tokens per second of the server over those of ``sample``."""

    def sample() -> None:
        assert sum(each.tokens for each in model.samples(PROMPT, count=clients, length=TOKENS))

    def ask(stream: bool) -> None:
        asyncio.run(all_at_once(port, clients, stream))

    ways = {"sample": sample, "whole": lambda: ask(False), "streamed": lambda: ask(True)}
    found = []
    for number in range(rounds + 1):
        times = {}
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            times[name] = time.perf_counter() - begun
        if number:  # the first is to warm up
            found.append(times)
    tokens = clients * TOKENS
    return {
        "sample, tokens per second": tokens / float(np.median([each["sample"] for each in found])),
        "whole texts over sample": median_ratio(found, "sample", "whole"),
        "streams over sample": median_ratio(found, "sample", "streamed"),
    }


async def all_at_once(port: int, clients: int, stream: bool) -> None:
    answers = [ask_once(port, seed, TOKENS, stream) for seed in range(clients)]
    for body, _ in await asyncio.gather(*answers):
        assert stream == (b"[DONE]" in body), body[:200]


async def ask_once(port: int, seed: int, tokens: int, stream: bool) -> tuple[bytes, float]:
    """The answer to a request, and the seconds until its body began."""
    fields = {"prompt": PROMPT, "max_tokens": tokens, "seed": seed, "stream": stream}
    body = json.dumps(fields).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun = time.perf_counter()
    writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
    assert b" 200 " in await reader.readline()
    await reader.readuntil(b"\r\n\r\n")
    first = await reader.read(1)
    seconds = time.perf_counter() - begun
    rest = await reader.read()
    writer.close()
    return first + rest, seconds


def first_tokens(port: int, requests: int = 40) -> dict[str, float]:
    """Milliseconds to the first event of a stream, on an idle server."""
    found = []
    for seed in range(requests):
        _, seconds = asyncio.run(ask_once(port, seed, 20, True))
        found.append(1000 * seconds)
        time.sleep(0.05)
    return {
        "first token, ms, median": float(np.median(found)),
        "first token, ms, 9 of 10": float(np.quantile(found, 0.9)),
    }


if __name__ == "__main__":
    main()
