"""Ways to take one step of an LSTM at batch 1, by turns: tokens per second, without drawing.

    python benchmarks/steps.py [SHAPE ...]

Those that textgen has, and others that PyTorch offers; ``torch.compile`` needs a C++ compiler, and
the seconds that it takes are printed. ``results/steps.json`` has the last figures.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
import torch._inductor.config
from sampling import SHAPES, VOCABULARIES
from shared import Rows, by_turns, machine
from torch import Tensor, nn

from textgen.inference.lstm_stepper import CompiledStepper, StepWeights, TorchStepper
from textgen.inference.native.kernels import loading
from textgen.models import Model, build

KEPT = Rows("steps.json")
Step = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=list(SHAPES))
    loading().wait()
    for shape in parser.parse_args().shapes:
        figures = compare(shape)
        KEPT.put({"shape": shape, "machine": machine()}, {"tokens per second": figures})
        for name, value in figures.items():
            print(f"{shape:<10} {name:<44} {value:>10,.4g}", flush=True)


@torch.inference_mode()
def compare(shape: str) -> dict[str, float]:
    model = build(SHAPES[shape].resolved(VOCABULARIES[shape]))
    model.initialize(torch.Generator().manual_seed(0))
    begun = time.perf_counter()
    with torch._inductor.config.patch(force_disable_caches=True):
        with_inductor = inductor(model)
        with_inductor()
    compiling = time.perf_counter() - begun
    library = loading().library
    assert library is not None, "there is no compiler"
    exact, fast = (StepWeights.of(model, fast=fast) for fast in (False, True))
    ids, start = torch.tensor([1]), model.start(1)
    steppers = {
        "textgen without a compiler": TorchStepper(exact, start),
        "textgen, compiled": CompiledStepper(library, exact, start),
        "textgen, compiled, 8 bits (--fast)": CompiledStepper(library, fast, start),
    }
    ways: dict[str, Step] = {
        "nn.LSTM, eager": modules(*parts(model)),
        "nn.LSTM, dynamically quantized to 8 bits": quantised(model),
        "torch.compile of one product per layer": with_inductor,
        **{name: partial(stepper.step, ids) for name, stepper in steppers.items()},
    }
    rounds = by_turns(ways)
    figures = {name: 1 / statistics.median(times[name] for times in rounds) for name in ways}
    return figures | {"torch.compile takes, s": compiling}


def parts(model: Model) -> tuple[nn.Module, list[nn.Module], nn.Module]:
    layers = list(model.get_submodule("layers").children())
    return model.get_submodule("embedding"), layers, model.get_submodule("output")


def modules(embedding: nn.Module, layers: list[nn.Module], output: nn.Module) -> Step:
    ids = torch.ones(1, 1, dtype=torch.long)
    states: list[tuple[Tensor, Tensor] | None] = [None] * len(layers)

    def step() -> None:
        hidden = embedding(ids)
        for place, layer in enumerate(layers):
            hidden, states[place] = layer(hidden, states[place])
        output(hidden)

    return step


def quantised(model: Model) -> Step:
    embedding, layers, output = parts(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that another package is to take this over
        rounded = torch.ao.quantization.quantize_dynamic(
            nn.ModuleList([*layers, output]), {nn.LSTM, nn.Linear}, torch.qint8
        )
    *layers, output = rounded.children()
    return modules(embedding, layers, output)


def inductor(model: Model) -> Step:
    weights = StepWeights.of(model, fast=False)

    @torch.compile(fullgraph=True, dynamic=False)
    def step(ids: Tensor, states: list[tuple[Tensor, Tensor]]) -> object:
        below = None if weights.embedding is None else weights.embedding[ids]
        after = []
        for layer, (hidden, cell) in zip(weights.layers, states, strict=True):
            inputs = hidden if layer.bias.ndim == 2 else torch.cat([below, hidden], 1)
            bias = layer.bias[ids] if layer.bias.ndim == 2 else layer.bias
            gates = nn.functional.linear(inputs, layer.matrix.weights) + bias
            i, f, o, g = gates.chunk(4, 1)
            cell = cell * f.sigmoid() + i.sigmoid() * g.tanh()
            below = cell.tanh() * o.sigmoid()
            after.append((below, cell))
        assert below is not None
        return nn.functional.linear(below, weights.last.weights, weights.last_bias), after

    ids = torch.tensor([1])
    states = [(torch.zeros(1, n), torch.zeros(1, n)) for n in model.config.hidden_size]

    def taken() -> None:
        nonlocal states
        _, states = step(ids, states)

    return taken


if __name__ == "__main__":
    main()
