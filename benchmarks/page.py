"""The page of ``export --to html`` in a headless Chromium: speed, memory and size.

    python benchmarks/page.py

needs Playwright and Chromium; without Chromium it says so and ends. It makes an LSTM of 1x384 units
over the characters of a text, with drawn weights, for speed does not depend on them; writes with
the page's own worker, with the same in plain JavaScript, and with ``sample --fast`` in turn, so
that all have the same machine; and at last a million tokens, while the memory of the browser's
processes is read. CPU seconds are those of the process that computes: on a busy machine they say
what a core of its own would give.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from shared import Rows, machine, median, show

import textgen
from textgen import LanguageModel
from textgen.exports.html import engine_of, page
from textgen.inference.native.kernels import loading

TOKENS, ROUNDS, MANY = 1000, 3, 1_000_000
CORPUS = "".join(chr(c) for c in range(32, 96)) + "\n"

ASK = """async ({engine, weights, bytes, before}) => {
  const worker = new Worker(URL.createObjectURL(new Blob([before, engine])));
  window.written = 0;
  await new Promise((resolve) => {
    worker.onmessage = resolve;
    worker.postMessage({kind: "open", characters: weights, bytes, breakers: []});
  });
  window.write = (length, seed) => new Promise((resolve) => {
    worker.onmessage = ({data}) => {
      window.written = data.tokens;
      if (data.done) resolve(data.seconds);
    };
    const settings = {
      temperature: 1, topP: 1, logitBias: [], dryMultiplier: 0, xtcProbability: 0,
      seed, length, stop: "", oneSentence: false,
    };
    worker.postMessage({kind: "write", text: "", settings, pace: 0});
  });
}"""


def renderers() -> dict[int, tuple[float, int]]:
    """CPU seconds and resident bytes of each renderer process of Chromium."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if b"chromium" not in command or b"--type=renderer" not in command:
                continue
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            found[int(folder.name)] = seconds, int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            continue
    return found


def cpu_seconds() -> float:
    return sum(seconds for seconds, _ in renderers().values())


def memory() -> int:
    return sum(size for _, size in renderers().values())


def prepare(tab: Any, data: bytes, path: Path, *, before: str = "") -> None:
    """Open a page; its worker runs ``before`` first."""
    path.write_bytes(data)
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-open]", state="attached", timeout=300_000)
    pattern = r'id="weights"[^>]* data-bytes="(\d+)">(.*?)</script>'
    found = re.search(pattern, data.decode("utf-16"), re.S)
    assert found is not None
    weights = {"weights": found[2], "bytes": int(found[1])}
    tab.evaluate(ASK, {"engine": engine_of("char"), "before": before, **weights})


def trained(folder: Path, hidden: int) -> LanguageModel:
    (folder / "text.txt").write_text(CORPUS * 300)
    textgen.train(
        folder / "text.txt", out=folder / str(hidden), steps=1, hidden_size=hidden, threads=1
    )
    return LanguageModel.load(folder / str(hidden), device="cpu", threads=1)


def measure_speed(tab: Any, plain: Any, folder: Path) -> dict[str, Any]:
    """plain: a tab for the page without WebAssembly."""
    model = trained(folder, 384)
    data, _ = page(model)
    parameters, multiplied = model.header.parameters, model.model.matmul_parameters()
    prepare(tab, data, folder / "page.html")
    prepare(plain, data, folder / "page.html", before="self.WebAssembly = undefined;")
    loading().wait()
    rounds = []
    for seed in range(ROUNDS):
        begun = cpu_seconds()
        wall = tab.evaluate(f"write({TOKENS}, {seed})")
        of_page = cpu_seconds() - begun
        begun = cpu_seconds()
        plain.evaluate(f"write({TOKENS}, {seed})")
        of_plain = cpu_seconds() - begun
        begun, clock = time.process_time(), time.perf_counter()
        model.sample(length=10 * TOKENS, seed=seed, fast=True)
        of_sample, sample_wall = time.process_time() - begun, time.perf_counter() - clock
        rounds.append(
            {
                "page_characters_per_second": TOKENS / wall,
                "page_characters_per_cpu_second": TOKENS / of_page,
                "without_webassembly_per_cpu_second": TOKENS / of_plain,
                "sample_fast_characters_per_second": 10 * TOKENS / sample_wall,
                "sample_fast_characters_per_cpu_second": 10 * TOKENS / of_sample,
                "fraction_of_sample_fast": of_sample / (10 * of_page),
            }
        )
        show(f"round {seed + 1}", rounds[-1])
    return {
        "weights": parameters,
        "file_bytes": len(data),
        "file_bytes_per_weight": round(len(data) / parameters, 3),
        "flop_per_token": 2 * multiplied,
        "bytes_read_per_token": 4 * multiplied,
        "rounds": ROUNDS,
        **{name: round(median(rounds, name), 3) for name in rounds[0]},
    }


def measure_memory(tab: Any, folder: Path) -> dict[str, Any]:
    """The resident memory of the renderer while a million tokens are written."""
    prepare(tab, page(trained(folder, 16))[0], folder / "small.html")
    tab.evaluate(f"void write({MANY}, 1)")
    sizes: dict[int, int] = {}
    while MANY not in sizes:
        time.sleep(0.5)
        sizes[tab.evaluate("written")] = memory()
    tenths = [min(sizes, key=lambda tokens: abs(tokens - MANY * k / 10)) for k in range(1, 11)]
    return {"megabytes_by_tokens": {tokens: round(sizes[tokens] / 1e6, 1) for tokens in tenths}}


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("skipped: there is no Chromium")
        return
    rows = Rows("page.json")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        where = {"browser": f"Chromium {browser.version}", "machine": machine()}
        speed = measure_speed(browser.new_page(), browser.new_page(), Path(name))
        rows.put({"measured": "writing, lstm 1x384 of characters"}, speed | where)
        held = measure_memory(browser.new_page(), Path(name))
        rows.put({"measured": "memory, a million tokens"}, held | where)
        show("memory", held)
        browser.close()


if __name__ == "__main__":
    main()
