"""What a budget buys: textgen with defaults, in turns with training loops that people write.

    python benchmarks/quality.py [30s 90s 300s words ...] [--seeds 3]

Each seed of a study runs the command, then its reference for the same time, so that both run under
the same load. The figure is the loss of the whole validation part in document context. Rows go to
``results/quality.json`` one by one; a row that is there is not run again. The corpora are in the
folder that TEXTGEN_CORPORA names.

The reference for characters is a bare nn.LSTM, 1x512, embedding 128, 16 random offsets with carried
state, window 64, AdamW 4e-3 (0.9, 0.99), weight decay 0.1, 5 % warm-up then linear to zero by the
clock, dropout 0.1 on embedding and output, clip 1, orthogonal recurrence, forget bias 1, bf16 where
available; for 300 s, weight decay 0.2 and dropout 0.3. In its favour it draws new offsets and
starts from the zero state every 32 windows: otherwise its cell states grow without bound, and 600
steps in float32 end at 1.9 instead of 1.77.

The reference for words is the recipe of PyTorch's word_language_model example: 2x200, SGD with
learning rate 20, quartered when an epoch does not improve, clip 0.25, dropout 0.2, 20 x 35.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import SHAKESPEARE, TOLSTOY, Rows, machine, real_text, textgen
from torch import Tensor, nn
from torch.nn import functional

from textgen import LanguageModel
from textgen.config import LSTMConfig, parse_duration
from textgen.data.corpus import Corpus
from textgen.data.encoded import EncodedCorpus, encode_corpus
from textgen.models.device import autocast, choose_precision
from textgen.tokenizers.base import EOS, Tokenizer

SAVED = Rows("quality.json")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Study:
    corpus: str
    budget: str
    words: bool = False
    regularised: bool = False  # the reference has weight decay 0.2 and dropout 0.3
    alone: bool = False  # without a reference

    @property
    def options(self) -> list[str]:
        return ["--level", "word", "--split", "punctuation"] if self.words else []


STUDIES = {
    "30s": Study(SHAKESPEARE, "30s"),
    "90s": Study(SHAKESPEARE, "90s"),
    "300s": Study(SHAKESPEARE, "300s", regularised=True),
    "30m": Study(SHAKESPEARE, "30m", alone=True),
    "words": Study(TOLSTOY, "10m", words=True),
    "words-90s": Study(TOLSTOY, "90s", words=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", default=["30s", "90s", "300s", "words"])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    for name in arguments.studies:
        for seed in range(1, arguments.seeds + 1):
            key = {"study": name, "seed": seed, "machine": machine()}
            if not SAVED.has(key):
                row = key | compare(STUDIES[name], seed)
                SAVED.add(row)
                print(json.dumps({k: v for k, v in row.items() if k != "machine"}), flush=True)
    summarise()


def summarise() -> None:
    print(f"{'study':<12}{'seeds':>6}{'ours':>9}{'reference':>11}{'lower by':>10}")
    for name in STUDIES:
        found = [row for row in SAVED.all() if row["study"] == name and row["machine"] == machine()]
        if found:
            ours, theirs = (
                statistics.mean(row.get(who, {}).get("loss", math.nan) for row in found)
                for who in ("ours", "reference")
            )
            print(f"{name:<12}{len(found):>6}{ours:>9.4f}{theirs:>11.4f}{theirs - ours:>10.4f}")


def compare(study: Study, seed: int) -> dict[str, Any]:
    path = real_text(study.corpus)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        length = ("--budget", study.budget, "--seed", seed)
        (found,) = textgen("train", path, "--out", out, *length, *study.options)
        trained = LanguageModel.load(out)
        encoded = encode_corpus(Corpus.open([path]), trained.tokenizer)
        names = ("tokens_per_second", "seconds", "parameters")
        ours = {
            "loss": found["validation"]["loss"],
            "bits_per_character": found["validation"]["bits_per_character"],
            **{name: found[name] for name in names},
            "random_windows_of_256": random_windows(trained, encoded),
        }
        if study.alone:
            return {"ours": ours}
        reference = by_word_language_model if study.words else by_bare_lstm
        return {"ours": ours, "reference": reference(study, encoded, trained.tokenizer, seed)}


def random_windows(trained: LanguageModel, encoded: EncodedCorpus) -> float:
    """The protocol of nanoGPT: windows of 256 at random offsets, each from the start state."""
    random = np.random.default_rng(0)
    ids = np.asarray(encoded.valid, np.int64)
    starts = random.integers(0, len(ids) - 257, 2000)
    losses = []
    with torch.inference_mode():
        for some in np.array_split(starts, 20):
            window = torch.from_numpy(ids[some[None, :] + np.arange(257)[:, None]])
            logits, _ = trained.model(window[:-1], trained.model.start(len(some)))
            losses.append(functional.cross_entropy(logits.flatten(0, 1), window[1:].flatten()))
    return float(torch.stack(losses).mean())


class Bare(nn.Module):
    """Embedding, nn.LSTM, output layer, as in a tutorial."""

    def __init__(self, vocabulary: int, width: int, units: int, layers: int, dropout: float):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, units, layers, dropout=dropout if layers > 1 else 0.0)
        self.output = nn.Linear(units, vocabulary)
        self.dropout = nn.Dropout(dropout)
        self.shape = (layers, units)

    def forward(self, ids: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        hidden, state = self.lstm(self.dropout(self.embedding(ids)), state)
        return self.output(self.dropout(hidden)), state

    def start(self, batch: int) -> tuple[Tensor, Tensor]:
        layers, units = self.shape
        return torch.zeros(layers, batch, units), torch.zeros(layers, batch, units)


@torch.inference_mode()
def loss_of(model: Bare, ids: Tensor) -> float:
    """Loss of the whole text from the start state, in document context, in float32."""
    model.eval()
    state, total = model.start(1), 0.0
    inputs = torch.cat([ids.new_tensor([EOS]), ids[:-1]])
    for begin in range(0, len(ids), 4096):
        logits, state = model(inputs[begin : begin + 4096, None], state)
        targets = ids[begin : begin + 4096]
        total += float(functional.cross_entropy(logits[:, 0], targets, reduction="sum"))
    model.train()
    return total / len(ids)


def by_bare_lstm(
    study: Study, encoded: EncodedCorpus, tokenizer: Tokenizer, seed: int
) -> dict[str, float]:
    torch.manual_seed(seed)
    ids = torch.from_numpy(np.asarray(encoded.train, np.int64))
    decay, dropout = (0.2, 0.3) if study.regularised else (0.1, 0.1)
    model = Bare(tokenizer.vocabulary_size, 128, 512, 1, dropout)
    with torch.no_grad():
        for gate in model.lstm.weight_hh_l0.chunk(4):
            nn.init.orthogonal_(gate)
        model.lstm.bias_ih_l0[512:1024] = 1.0
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=4e-3, betas=(0.9, 0.99), weight_decay=decay, fused=True
    )
    precision = choose_precision("auto", CPU, LSTMConfig())
    budget, begun, steps = parse_duration(study.budget), time.perf_counter(), 0
    while (progress := (time.perf_counter() - begun) / budget) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(progress / 0.05, (1 - progress) / 0.95)
        if steps % 32 == 0:
            places, state = torch.randint(len(ids) - 65, (16,)), model.start(16)
        window = ids[(places + torch.arange(65).unsqueeze(1)) % len(ids)]
        places = (places + 64) % len(ids)
        with autocast(CPU, precision):
            logits, state = model(window[:-1], (state[0].detach(), state[1].detach()))
        loss = functional.cross_entropy(logits.float().flatten(0, 1), window[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
    seconds = time.perf_counter() - begun
    valid = torch.from_numpy(np.asarray(encoded.valid, np.int64))
    return {"loss": loss_of(model, valid), "tokens_per_second": steps * 1024 / seconds}


def by_word_language_model(
    study: Study, encoded: EncodedCorpus, tokenizer: Tokenizer, seed: int
) -> dict[str, float]:
    torch.manual_seed(seed)
    ids = torch.from_numpy(np.asarray(encoded.train, np.int64))
    valid = torch.from_numpy(np.asarray(encoded.valid, np.int64))
    rows = ids[: len(ids) // 20 * 20].view(20, -1).T.contiguous()  # (time, batch)
    model = Bare(tokenizer.vocabulary_size, 200, 200, 2, 0.2)
    nn.init.uniform_(model.embedding.weight, -0.1, 0.1)
    nn.init.uniform_(model.output.weight, -0.1, 0.1)
    nn.init.zeros_(model.output.bias)
    rate, best, tokens = 20.0, math.inf, 0
    budget, begun = parse_duration(study.budget), time.perf_counter()
    while time.perf_counter() - begun < budget:
        state = model.start(20)
        for at in range(0, len(rows) - 1, 35):
            if time.perf_counter() - begun > budget:
                break
            targets = rows[at + 1 : at + 36]
            logits, state = model(
                rows[at : at + len(targets)], (state[0].detach(), state[1].detach())
            )
            loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            model.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(parameter.grad, alpha=-rate)
            tokens += targets.numel()
        found = loss_of(model, valid)
        rate = rate if found < best else rate / 4
        best = min(best, found)
    seconds = time.perf_counter() - begun
    return {
        "loss": best,
        "perplexity": math.exp(best),
        "tokens_per_second": tokens / seconds,
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
