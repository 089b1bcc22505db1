"""Tokens a second: textgen's own drawing against a loop around an eager ``nn.LSTM``, by turns.

    python benchmarks/sampling.py [SHAPE ...] [--batch 1 16 128]

Both draw from the whole softmax at temperature 1, of weights drawn at random; textgen's figure is
that of the whole path, one Python object a token included. The share of the limit is of what one
core after another could read: the bytes of the weights that a step needs, over the speed at which
this machine sums so many bytes, in the same minute. Medians of the rounds.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from itertools import islice

import numpy as np
import torch
from shared import Rows, machine
from torch import nn

from textgen.config import ModelConfig, SamplingConfig
from textgen.models import Model, build
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
ROUNDS, SECONDS = 9, 0.4


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
    for shape, batch in itertools.product(arguments.shapes, arguments.batch):
        figures = compare(shape, batch)
        KEPT.put({"shape": shape, "batch": batch, "machine": machine()}, {"figures": figures})
        print(f"{shape:<10} {batch:>4} ", end="")
        print("  ".join(f"{name} {value:,.4g}" for name, value in figures.items()), flush=True)


@torch.inference_mode()
def compare(shape: str, batch: int) -> dict[str, float]:
    model = build(SHAPES[shape].resolved(VOCABULARIES[shape]))
    model.initialize(torch.Generator().manual_seed(0))
    ours, eager = drawing(model, batch), eager_loop(model, batch)
    reading = sum_of(step_bytes(model))
    times = {name: one_call(each) for name, each in (("ours", ours), ("eager", eager))}
    repeat = {name: max(1, int(SECONDS / seconds)) for name, seconds in times.items()}
    rounds = [
        (
            seconds(ours, repeat["ours"]),
            seconds(eager, repeat["eager"]),
            seconds(reading, 20),
        )
        for _ in range(ROUNDS)
    ]
    return {
        "textgen, tokens a second": batch / statistics.median(a for a, *_ in rounds),
        "eager nn.LSTM, tokens a second": batch / statistics.median(b for _, b, _ in rounds),
        "textgen over eager": statistics.median(b / a for a, b, _ in rounds),
        "share of the bandwidth limit": statistics.median(c / a for a, _, c in rounds),
        "bandwidth, GB/s": step_bytes(model) / statistics.median(c for *_, c in rounds) / 1e9,
    }


def one_call(step: Callable[[], object]) -> float:
    for _ in range(5):
        step()
    return seconds(step, 5)


def seconds(step: Callable[[], object], times: int) -> float:
    """Of one call."""
    begun = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - begun) / times


def drawing(model: Model, batch: int) -> Callable[[], object]:
    anything = Anything(model.config.vocabulary_size)
    config = SamplingConfig(length=2**40, allow_unk=True)
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
