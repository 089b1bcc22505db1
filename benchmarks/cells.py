"""GRU and plain recurrent layers against PyTorch's modules, and steppers against the models.

    python benchmarks/cells.py [MODEL ...]

One layer of 512 units over embeddings of 128, 16 streams of 64 tokens, float32, on a CPU: learned
is forward and backward through the layer, read is forward alone, and step is one token of one
stream. Of other models a step alone, against a call of the model; n-grams of 200,000 random
characters. Both are timed by turns; a ratio over 1 is how many times as fast textgen is.
``results/cells.json`` has the last figures.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from shared import Rows, by_turns, machine
from torch import Tensor, nn

from textgen.config import ModelConfig
from textgen.inference.native.kernels import loading
from textgen.inference.stepper import PlainStepper, Stepper
from textgen.inference.steppers import make_stepper
from textgen.models import Model, build
from textgen.models.recurrent import RecurrentModel

KEPT = Rows("cells.json")
MODELS = ("gru", "rnn", "ngram", "lstm+ngram", "hmm")
UNITS, EMBEDDING, TIME, BATCH = 512, 128, 64, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS)
    for name in parser.parse_args().models:
        figures = compare(name) if name in ("gru", "rnn") else {"step": step_ratio(made(name))}
        KEPT.put({"model": name, "machine": machine()}, {"times as fast": figures})
        for what, ratio in figures.items():
            print(f"{name:<6} {what:<8} {ratio:>6.2f}", flush=True)


def compare(name: str) -> dict[str, float]:
    """Of learning, reading and a step, how many times as fast as the bare module."""
    model = made(name, hidden_size=(UNITS,), embedding_size=EMBEDDING, tie=False)
    assert isinstance(model, RecurrentModel)
    (layer,) = model.layers
    inputs = torch.randn(TIME, BATCH, EMBEDDING, requires_grad=True)
    start = torch.zeros(1, BATCH, UNITS)

    def own() -> Tensor:
        return model.run_layer(tuple(layer.parameters()), inputs, (start[0],))[0]

    def bare() -> Tensor:
        return layer(inputs, start)[0]

    return {
        "learned": ratio(learned(own, layer), learned(bare, layer)),
        "read": ratio(read(own), read(bare)),
        "step": step_ratio(model),
    }


def made(name: str, **options: Any) -> Model:
    model = build(ModelConfig.from_options({"model": name, **options}).resolved(66))
    model.initialize(torch.Generator().manual_seed(0))
    model.initialize_from_text(np.random.default_rng(0).integers(2, 66, 200_000))
    return model.eval()


def step_ratio(model: Model) -> float:
    loading().wait()
    return ratio(stepping(make_stepper(model)), stepping(PlainStepper(model)))


def ratio(own: Callable[[], object], bare: Callable[[], object]) -> float:
    rounds = by_turns({"own": own, "bare": bare})
    return statistics.median(times["bare"] / times["own"] for times in rounds)


def learned(window: Callable[[], Tensor], layer: nn.Module) -> Callable[[], None]:
    def call() -> None:
        layer.zero_grad()
        window().sum().backward()

    return call


def read(window: Callable[[], Tensor]) -> Callable[[], object]:
    return torch.inference_mode()(window)


def stepping(stepper: Stepper) -> Callable[[], object]:
    ids = torch.tensor([1])
    return torch.inference_mode()(lambda: stepper.step(ids))


if __name__ == "__main__":
    main()
