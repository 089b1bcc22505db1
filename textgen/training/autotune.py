"""The choice of width, dropout and learning rate, and the plan of a run.

The choice depends on the size of the corpus and on what can be computed in the time. The rules are
few and smooth and follow the tables of ``benchmarks/results/ablations.md``. An option that was
given takes precedence.
"""

import dataclasses
import math
import os
import statistics
import time
from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import torch

from textgen.config import (
    LayersConfig,
    ModelConfig,
    RecurrentConfig,
    TrainingConfig,
    flag,
    option_names,
)
from textgen.data.batching import Streams
from textgen.errors import UsageError
from textgen.models import build, count_parameters, on_meta
from textgen.models.device import choose_device, choose_precision, use_threads
from textgen.results import Plan, PlannedOption
from textgen.training.corpus import TrainingCorpus
from textgen.training.run import TrainingRun
from textgen.training.state import GradientState

_WIDTHS = (128, 192, 256, 384, 512, 768, 1024)
_TOKENS_OF_512 = 4e6
_MIN_LEARNING_RATE, _MAX_LEARNING_RATE = 4e-3, 1e-2
_TOKENS_OF_MAX_LEARNING_RATE, _LEARNING_RATE_EXPONENT = 2e6, 0.35
_DROPOUT_PER_OCTAVE, _MAX_DROPOUT = 0.11, 0.5
_EPOCHS_WITHOUT, _WEIGHTS_EXPONENT = 3.1, 0.43  # where there is a weight for each token
_TIMED_SECONDS, _LEAST_UPDATES = 1.0, 3
_FLOAT_BYTES = 4
_WEIGHT_COPIES = 4  # the weight, its gradient and the optimizer's two moments
_USUAL = {
    "hidden_size": "the usual width; it is chosen by size only under --budget",
    "embedding_size": "tokens need fewer dimensions than contexts",
    "tie": "sharing the matrix pays with a large vocabulary",
    "batch_size": "many small updates are better than few large ones in the same time",
    "sequence_length": "a longer window makes fewer updates for no gain",
    "weight_decay": "the best of the values tried",
    "clip": "the norm of the gradient is rarely larger",
    "warmup": "the first gradients are the least reliable",
    "precision": "the fastest on this machine",
}


@dataclass(frozen=True)
class TaskSize:
    """What the choice depends on.

    Attributes:
        compute: Floating-point operations in the budget; None if the length of the run
            is given in steps or epochs.
        processes: The number of processes, each with its own batch.
    """

    vocabulary_size: int
    train_tokens: int
    compute: float | None = None
    processes: int = 1


@dataclass(frozen=True)
class TunedOptions:
    """A model and its training with every option resolved.

    Attributes:
        tokens: Estimated number of training tokens.
        reasons: Why each option has its value, by name.
        warnings: What is wrong with the task itself.
    """

    model: ModelConfig
    training: TrainingConfig
    tokens: float
    reasons: dict[str, str]
    warnings: tuple[str, ...] = ()


def choose(
    model: ModelConfig, training: TrainingConfig, given: Set[str], size: TaskSize
) -> TunedOptions:
    """Choose the options that were not given, for a run of the length in ``training``."""
    reasons = dict(_USUAL) | dict.fromkeys(model.kind.defaults, "the best of the values tried")
    if isinstance(model, RecurrentConfig) and model.tie and model.embedding_size:
        reasons["hidden_size"] = "equal to the tied embedding"
    elif (
        isinstance(model, LayersConfig)
        and "hidden_size" not in given | model.kind.defaults.keys()
        and size.compute is not None
    ):
        model, reasons["hidden_size"] = _widened(model, size)
    model = model.resolved(size.vocabulary_size)
    if training.epochs is not None:
        tokens = float(training.epochs * size.train_tokens)
    elif training.steps is not None:
        window = training.batch_size * training.sequence_length
        tokens = float(training.steps * (size.processes * window))
    else:
        assert size.compute is not None
        tokens = size.compute / flop_per_token(model)
    own = model.kind.defaults.keys()
    if "learning_rate" not in given | own:
        scale = (_TOKENS_OF_MAX_LEARNING_RATE / max(tokens, 1.0)) ** _LEARNING_RATE_EXPONENT
        learning_rate = max(_MAX_LEARNING_RATE * scale, _MIN_LEARNING_RATE)
        learning_rate = round(min(learning_rate, _MAX_LEARNING_RATE), 4)
        training = dataclasses.replace(training, learning_rate=learning_rate)
        reasons["learning_rate"] = "shorter runs use a higher learning rate"
    epochs, warnings = tokens / size.train_tokens, list[str]()
    weights = on_meta(model).matmul_parameters() / size.train_tokens
    overfit = max(epochs, 1e-9) * weights**_WEIGHTS_EXPONENT / _EPOCHS_WITHOUT
    dropout = max(_DROPOUT_PER_OCTAVE * math.log2(overfit), 0.0)
    if dropout > _MAX_DROPOUT and "dropout" not in own:
        warnings.append(
            f"{size.train_tokens:,} tokens are too little text for this model: it reads each"
            f" {epochs:,.0f} times and has {weights:,.1f} weights for it, so it learns the text by"
            " heart; --model lstm+ngram or ngram, a smaller --hidden-size, or more text is better"
        )
    if "dropout" not in given | own:
        training = dataclasses.replace(training, dropout=round(min(dropout, _MAX_DROPOUT), 2))
        shown = [f"{each:.1f}" if each < 10 else f"{each:,.0f}" for each in (epochs, weights)]
        reasons["dropout"] = "about {} epochs, {} weights per token of text".format(*shown)
    reasons |= dict.fromkeys(given, "as given")
    return TunedOptions(model, training, tokens, reasons, tuple(warnings))


def flop_per_token(model: ModelConfig) -> float:
    """Operations per training token: for each weight one product forward, two backward."""
    return 6.0 * on_meta(model).matmul_parameters()


def _widened(model: LayersConfig, size: TaskSize) -> tuple[ModelConfig, str]:
    """The largest width with at least one training token per layer weight, limited by the text."""
    assert size.compute is not None
    by_text = 512 * max(1.0, size.train_tokens / _TOKENS_OF_512) ** 0.5
    chosen = dataclasses.replace(model, hidden_size=(_WIDTHS[0],))
    for width in _WIDTHS[1:]:
        wider = dataclasses.replace(model, hidden_size=(width,))
        shape = wider.resolved(size.vocabulary_size)
        if width > by_text:
            return chosen, "as large as this amount of text supports"
        output = shape.layer_sizes[-1] * shape.vocabulary_size
        if size.compute / flop_per_token(shape) < on_meta(shape).matmul_parameters() - output:
            return chosen, "as large as this budget can train"
        chosen = wider
    return chosen, "the largest that is chosen automatically"


def choose_options(run: TrainingRun, corpus: TrainingCorpus, processes: int = 1) -> TunedOptions:
    """Choose the options that were not given for the text, the length of the run and the machine.

    Under a budget, a few updates of a scratch model measure how fast the machine is.

    Raises:
        UsageError: Memory could not hold the model.
    """
    use_threads(run.threads)
    if run.model.kind.counts:
        return TunedOptions(run.model, run.training, 0.0, {})
    model, training = run.model.resolved(corpus.tokenizer.vocabulary_size), run.training
    _check_memory(model)
    given = run.given
    if run.tuned_from is not None:  # its shape is that of the initial weights
        given |= option_names(ModelConfig)
    size = TaskSize(model.vocabulary_size, len(corpus.encoded.train), processes=processes)
    if training.budget is None:
        return choose(run.model, training, given, size)
    choice = choose(run.model, training, given, _with_compute(size, run, model))
    if choice.model != model:  # which has another speed
        size = _with_compute(size, run, choice.model)
        again = choose(choice.model, training, given | {"hidden_size"}, size)
        reason = {"hidden_size": choice.reasons["hidden_size"]}
        choice = dataclasses.replace(again, reasons=again.reasons | reason)
    return choice


def _with_compute(size: TaskSize, run: TrainingRun, model: ModelConfig) -> TaskSize:
    budget, speed = run.training.budget, size.processes * tokens_per_second(run, model)
    assert budget is not None
    return dataclasses.replace(size, compute=budget * speed * flop_per_token(model))


def plan(run: TrainingRun, corpus: TrainingCorpus) -> Plan:
    """The plan that ``--plan`` shows; nothing is trained or written."""
    if run.model.kind.counts:
        raise UsageError(
            f"--plan does not apply to --model {run.model.model}",
            why="it is estimated from counts, in one pass",
            fix="leave it out",
        )
    choice = choose_options(run, corpus)
    model, training = choice.model, choice.training
    device = choose_device(run.device)
    precision = choose_precision(training.precision, device, model)
    training = dataclasses.replace(training, precision=precision)
    run = dataclasses.replace(run, model=model, training=training)
    seconds = training.budget
    speed = choice.tokens / seconds if seconds else tokens_per_second(run, model)
    return Plan(
        options=tuple(
            PlannedOption(spec.name, getattr(config, spec.name), choice.reasons[spec.name])
            for config in (model, training)
            for spec in dataclasses.fields(config)
            if spec.name in choice.reasons and getattr(config, spec.name) is not None
        ),
        parameters=count_parameters(model),
        state_bytes=state_bytes(model),
        window_bytes=training.batch_size
        * training.sequence_length
        * _FLOAT_BYTES
        * on_meta(model).activations_per_token(),
        tokens_per_second=speed,
        tokens=choice.tokens,
        seconds=choice.tokens / speed,
        epochs=choice.tokens / len(corpus.encoded.train),
        vocabulary_size=model.vocabulary_size,
        train_tokens=len(corpus.encoded.train),
        device=device.type,
        precision=precision,
        threads=torch.get_num_threads(),
        held_out=corpus.encoded.header.held_out,
        notes=corpus.notes,
        warnings=choice.warnings,
    )


def state_bytes(model: ModelConfig) -> int:
    """Weights, gradients and moments, all float32."""
    return _WEIGHT_COPIES * _FLOAT_BYTES * count_parameters(model)


def _check_memory(model: ModelConfig) -> None:
    """Refuse a model that the machine's memory could not hold."""
    needed = state_bytes(model)
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # the system does not say
        return
    if needed > available:
        raise UsageError(
            f"{model.description} is too large",
            why=f"training {count_parameters(model):,} parameters needs {needed:,} bytes"
            f" of {available:,}",
            fix=f"lower {' or '.join(map(flag, model.sizes))}",
        )


def tokens_per_second(run: TrainingRun, model: ModelConfig) -> float:
    """Training tokens per second, measured by about a second of updates on random ids."""
    training, device = run.training, choose_device(run.device)
    size = training.batch_size * training.sequence_length
    scratch = build(model)
    scratch.initialize(torch.Generator().manual_seed(0))
    streams = Streams(
        np.random.default_rng(0).integers(0, model.vocabulary_size, 4 * size, np.uint32),
        batch_size=training.batch_size,
        sequence_length=training.sequence_length,
        run_windows=1,
        unknown_rate=0.0,
        seed=0,
    )
    precision = choose_precision(training.precision, device, model)
    state = GradientState(scratch.to(device), streams, training, precision)
    state.update(1e-3)  # the first also allocates
    seconds: list[float] = []
    while len(seconds) < _LEAST_UPDATES or sum(seconds) < _TIMED_SECONDS:
        begun = time.perf_counter()
        state.update(1e-3)
        state.is_finite  # noqa: B018  # which waits for the device
        seconds.append(time.perf_counter() - begun)
    return size / statistics.median(seconds)
