"""Tokens per second of textgen's sampling and of a loop around an eager ``nn.LSTM``, in turns.

    python benchmarks/sampling.py [SHAPE ...] [--batch 1 16 128]

All draw from the full softmax at temperature 1, with random weights. The figures of textgen are of
the whole path, including one Python object per token: with compiled code and weights rounded to
bfloat16 as in ``best``, in float32 as with --keep-float32, as on a machine without a compiler, and
with --fast. The share of the bandwidth limit relates the bytes of weights that a step reads to the
speed at which PyTorch sums that many bytes, with as many threads, in the same minute. Medians of
the rounds.
"""

import argparse
import copy
import itertools
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import torch
from shared import Call, Rows, by_turns, machine, median, median_ratio, show
from torch import Tensor, nn

from textgen.checkpoint import is_matrix
from textgen.config import LSTMConfig, SamplingConfig
from textgen.inference.native import kernels
from textgen.inference.native.kernels import loading
from textgen.models import Model, build
from textgen.results import FinishReason
from textgen.sampling.generator import Request, Uniforms, generate
from textgen.sampling.sequence import AllowedIds, TokenSequence

SAVED = Rows("sampling.json")
SHAPES = {
    "1x512": LSTMConfig(hidden_size=(512,), embedding_size=128, tie=False),
    "2x512": LSTMConfig(hidden_size=(512, 512), embedding_size=128, tie=False),
    "AWD-LSTM": LSTMConfig(hidden_size=(1150, 1150, 400), embedding_size=400, tie=True),
}
VOCABULARIES = {"1x512": 66, "2x512": 66, "AWD-LSTM": 10_000}


class Unconstrained:
    """A constraint that allows every token and never ends a text."""

    def __init__(self, size: int) -> None:
        self._allowed = AllowedIds(0, np.ones(size, np.bool_))

    def allowed(self) -> AllowedIds:
        return self._allowed

    def append(
        self, id: int, log_prob: float, ending: FinishReason | None
    ) -> tuple[str, FinishReason | None]:
        return "", ending

    def copy(self) -> "Unconstrained":
        return self


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=list(SHAPES))
    parser.add_argument("--batch", nargs="*", type=int, default=[1, 16, 128])
    arguments = parser.parse_args()
    loading().wait()
    for shape, batch in itertools.product(arguments.shapes, arguments.batch):
        figures = compare(shape, batch)
        SAVED.put({"shape": shape, "batch": batch, "machine": machine()}, {"figures": figures})
        show(f"{shape}, {batch}", figures)


@torch.inference_mode()
def compare(shape: str, batch: int) -> dict[str, float]:
    model = build(SHAPES[shape].resolved(VOCABULARIES[shape]))
    model.initialize(torch.Generator().manual_seed(0))
    rounded = copy.deepcopy(model)
    for weight in filter(is_matrix, rounded.parameters()):
        weight.copy_(weight.bfloat16())
    textgen = {
        "textgen": drawing(rounded, batch),
        "float32": drawing(model, batch),
        "without a compiler": without_compiler(lambda: drawing(model, batch)),
        "fast": drawing(rounded, batch, fast=True),
    }
    size = step_bytes(model)
    others = {"eager nn.LSTM": eager_loop(model, batch), "reading": sum_of(size)}
    rounds = by_turns(textgen | others)
    tokens = {
        f"{name}, tokens per second": batch / median(rounds, name)
        for name in (*textgen, "eager nn.LSTM")
    }
    ratios = {f"{name} over eager": median_ratio(rounds, "eager nn.LSTM", name) for name in textgen}
    return {
        **tokens,
        **ratios,
        "textgen over float32": median_ratio(rounds, "float32", "textgen"),
        "share of the bandwidth limit": median_ratio(rounds, "reading", "textgen"),
        "bandwidth, GB/s": size / median(rounds, "reading") / 1e9,
    }


def without_compiler(make: Callable[[], Call]) -> Call:
    def plainly(call: Callable[[], Any]) -> Any:
        library, kernels.library = kernels.library, lambda device, dtype: None
        try:
            return call()
        finally:
            kernels.library = library

    step = plainly(make)
    plainly(step)  # the stepper is made at the first call
    return lambda: plainly(step)


def drawing(model: Model, batch: int, *, fast: bool = False) -> Call:
    size = model.config.vocabulary_size
    config = SamplingConfig(length=2**40, allow_unk=True, fast=fast)

    def requests(count: int) -> list[Request]:
        sequences = [TokenSequence((), config, Unconstrained(size), size) for _ in range(count)]
        return [
            Request(index, (), sequence, Uniforms(config.seed, index))
            for index, sequence in enumerate(sequences)
        ]

    drawn = generate(model, requests, fast=fast, together=batch)
    return lambda: list(islice(drawn, batch))


def eager_loop(model: Model, batch: int) -> Call:
    """The loop that people write by hand, with the same weights."""
    embedding, output = model.get_submodule("embedding"), model.get_submodule("output")
    layers = list(model.get_submodule("layers").children())
    ids = torch.ones(batch, dtype=torch.long)
    states: list[tuple[Tensor, Tensor] | None] = [None] * len(layers)

    def step() -> None:
        nonlocal ids
        hidden = embedding(ids).unsqueeze(0)
        for place, layer in enumerate(layers):
            assert isinstance(layer, nn.LSTM)
            hidden, states[place] = layer(hidden, states[place])
        probabilities = output(hidden[0]).softmax(-1)
        ids = torch.multinomial(probabilities, 1).squeeze(1)
        ids.tolist()

    return step


def step_bytes(model: Model) -> int:
    """Bytes of bfloat16 weights that a step reads: all but the embedding, if that is not tied."""
    numbers = sum(parameter.numel() for parameter in model.parameters())
    if not model.config.tie:
        numbers -= model.get_parameter("embedding.weight").numel()
    return 2 * numbers


def sum_of(size: int) -> Call:
    numbers = torch.ones(size // 4)
    return numbers.sum


if __name__ == "__main__":
    main()
