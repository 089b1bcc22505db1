"""Tokens a second: textgen's own drawing against a loop around an eager ``nn.LSTM``, by turns.

    python benchmarks/sampling.py [SHAPE ...] [--batch 1 16 128]

All draw from the whole softmax at temperature 1, of weights drawn at random; textgen's figures are
those of the whole path, one Python object a token included: with compiled code, as on a machine
without a compiler, and with --fast. The share of the limit is of the bytes of the weights that a
step reads over the speed at which PyTorch sums so many bytes here, with as many threads, in the
same minute. Medians of the rounds.
"""

import argparse
import itertools
import statistics
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import torch
from shared import Rows, by_turns, machine
from torch import nn

from textgen import native
from textgen.config import ModelConfig, SamplingConfig
from textgen.models import Model, build
from textgen.native.loading import loading
from textgen.results import FinishReason
from textgen.sampling.generator import Request, generate
from textgen.tokenizers.base import Mask

KEPT = Rows("sampling.json")
SHAPES = {
    "1x512": ModelConfig(hidden_size=(512,), embedding_size=128, tie=False),
    "2x512": ModelConfig(hidden_size=(512, 512), embedding_size=128, tie=False),
    "AWD-LSTM": ModelConfig(hidden_size=(1150, 1150, 400), embedding_size=400, tie=True),
}
VOCABULARIES = {"1x512": 66, "2x512": 66, "AWD-LSTM": 10_000}


class Anything:
    """Lets everything come, and ends nothing."""

    def __init__(self, size: int) -> None:
        self._allowed = np.ones(size, np.bool_)

    def allowed(self) -> Mask:
        return self._allowed

    def take(self, id: int) -> FinishReason | None:
        return None

    def copy(self) -> "Anything":
        return self


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=list(SHAPES))
    parser.add_argument("--batch", nargs="*", type=int, default=[1, 16, 128])
    arguments = parser.parse_args()
    loading().wait()
    for shape, batch in itertools.product(arguments.shapes, arguments.batch):
        figures = compare(shape, batch)
        KEPT.put({"shape": shape, "batch": batch, "machine": machine()}, {"figures": figures})
        print(f"{shape:<10} {batch:>4} ", end="")
        print("  ".join(f"{name} {value:,.4g}" for name, value in figures.items()), flush=True)


@torch.inference_mode()
def compare(shape: str, batch: int) -> dict[str, float]:
    model = build(SHAPES[shape].resolved(VOCABULARIES[shape]))
    model.initialize(torch.Generator().manual_seed(0))
    ways = {
        "textgen": drawing(model, batch),
        "without a compiler": without_compiler(lambda: drawing(model, batch)),
        "fast": drawing(model, batch, fast=True),
        "eager nn.LSTM": eager_loop(model, batch),
        "reading": sum_of(step_bytes(model)),
    }
    rounds = by_turns(ways)

    def over(one: str, other: str) -> float:
        return statistics.median(times[other] / times[one] for times in rounds)

    tokens = {
        f"{name}, tokens a second": batch / statistics.median(times[name] for times in rounds)
        for name in ways
        if name != "reading"
    }
    ratios = {
        f"{name} over eager": over(name, "eager nn.LSTM")
        for name in ("textgen", "without a compiler", "fast")
    }
    return {
        **tokens,
        **ratios,
        "share of the bandwidth limit": over("textgen", "reading"),
        "bandwidth, GB/s": step_bytes(model)
        / statistics.median(times["reading"] for times in rounds)
        / 1e9,
    }


def without_compiler(make: Callable[[], Callable[[], object]]) -> Callable[[], object]:
    def plainly(call: Callable[[], Any]) -> Any:
        library, native.library = native.library, nothing
        try:
            return call()
        finally:
            native.library = library

    step = plainly(make)
    plainly(step)  # what steps is only made now
    return lambda: plainly(step)


def nothing(device: torch.device, dtype: torch.dtype) -> None:
    return None


def drawing(model: Model, batch: int, *, fast: bool = False) -> Callable[[], object]:
    anything = Anything(model.config.vocabulary_size)
    config = SamplingConfig(length=2**40, allow_unk=True, fast=fast)
    requests = [Request(index, (), anything) for index in range(batch)]
    drawn = generate(model, config, requests, together=batch)
    return lambda: list(islice(drawn, batch))


def eager_loop(model: Model, batch: int) -> Callable[[], object]:
    """The loop that a person would write, with the same weights."""
    embedding, output = model.get_submodule("embedding"), model.get_submodule("output")
    layers = list(model.get_submodule("layers").children())
    ids = torch.ones(batch, dtype=torch.long)
    states: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * len(layers)

    def step() -> None:
        nonlocal ids
        features = embedding(ids).unsqueeze(0)
        for place, layer in enumerate(layers):
            assert isinstance(layer, nn.LSTM)
            features, states[place] = layer(features, states[place])
        probabilities = output(features[0]).softmax(-1)
        ids = torch.multinomial(probabilities, 1).squeeze(1)
        ids.tolist()

    return step


def step_bytes(model: Model) -> int:
    """Bytes of the weights that one step reads: all but the embedding, if that is not tied."""
    numbers = sum(parameter.numel() for parameter in model.parameters())
    if not model.config.tie:
        numbers -= model.get_parameter("embedding.weight").numel()
    return 4 * numbers


def sum_of(size: int) -> Callable[[], object]:
    numbers = torch.ones(size // 4)
    return numbers.sum


if __name__ == "__main__":
    main()
