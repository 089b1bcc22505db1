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

from textgen.config import ModelConfig, TrainingConfig, flag, option_names
from textgen.data.batching import Streams
from textgen.errors import UsageError
from textgen.models import build, count_parameters, model_class
from textgen.models.device import choose_device, choose_precision, use_threads
from textgen.results import Plan, PlannedOption
from textgen.training.run import Settings
from textgen.training.tokens import Tokens
from textgen.training.trainer import Learner

_WIDTHS = (128, 192, 256, 384, 512, 768, 1024)
_TOKENS_OF_512 = 4e6
_BOLD_RATE, _TOKENS_OF_BOLD_RATE, _RATE_EXPONENT, _LEAST_RATE = 1e-2, 2e6, 0.35, 4e-3
_DROPOUT_AN_OCTAVE, _MOST_DROPOUT = 0.11, 0.5
_EPOCHS_WITHOUT, _WEIGHTS_EXPONENT = 3.1, 0.43  # where there is a weight for each token
_USUAL = {
    "hidden_size": "the usual width; only --budget says what there is time for",
    "embedding_size": "tokens differ in far fewer ways than texts",
    "tie": "one matrix for both pays where there are many tokens to learn about",
    "batch_size": "many small updates teach more than few large ones in the same time",
    "sequence_length": "a longer window makes fewer updates and teaches no more",
    "weight_decay": "the best of those tried",
    "clip": "the gradient is seldom longer",
    "warmup": "the first updates are the wildest",
    "precision": "the fastest that this machine learns in",
}


@dataclass(frozen=True)
class Circumstances:
    """What a choice follows from.

    compute: the floating-point operations that a budget buys; None where steps or epochs say
    how long the run is. processes: how many learn together, each with a batch of its own.
    """

    vocabulary_size: int
    train_tokens: int
    compute: float | None = None
    processes: int = 1


@dataclass(frozen=True)
class Choice:
    """A run with nothing left open.

    tokens: how many will be learned from, as far as can be told. reasons: why each option is
    what it is, by its name.
    """

    model: ModelConfig
    training: TrainingConfig
    tokens: float
    reasons: dict[str, str]


def choose(
    model: ModelConfig, training: TrainingConfig, given: Set[str], of: Circumstances
) -> Choice:
    """Settle what was not given, for a run of the length that ``training`` says."""
    reasons = dict(_USUAL) | dict.fromkeys(model.kind.defaults, "the best of those tried")
    if model.tie and model.embedding_size is not None:
        reasons["hidden_size"] = "that of the tied embedding"
    elif _is_open(model) and "hidden_size" not in given and of.compute is not None:
        model, reasons["hidden_size"] = _widened(model, of)
    model = model.resolved(of.vocabulary_size)
    tokens = _tokens(model, training, of)
    own = model.kind.defaults.keys()
    if "learning_rate" not in given | own:
        rate = _BOLD_RATE * (_TOKENS_OF_BOLD_RATE / max(tokens, 1.0)) ** _RATE_EXPONENT
        rate = round(min(max(rate, _LEAST_RATE), _BOLD_RATE), 4)
        training = dataclasses.replace(training, learning_rate=rate)
        reasons["learning_rate"] = "the shorter the run, the bolder"
    epochs = tokens / of.train_tokens
    if "dropout" not in given | own:
        weights = model_class(model).matmul_parameters(model) / of.train_tokens
        overfit = max(epochs, 1e-9) * weights**_WEIGHTS_EXPONENT / _EPOCHS_WITHOUT
        rate = round(min(max(_DROPOUT_AN_OCTAVE * math.log2(overfit), 0.0), _MOST_DROPOUT), 2)
        training = dataclasses.replace(training, dropout=rate)
        reasons["dropout"] = (
            f"each text is read about {_about(epochs)} times, by {_about(weights)} weights a token"
        )
    return Choice(model, training, tokens, reasons | dict.fromkeys(given, "as asked"))


def flop_per_token(model: ModelConfig) -> float:
    """What learning from one token takes: a product forward, two backward, for each weight."""
    return 6.0 * model_class(model).matmul_parameters(model)


def _layer_weights(model: ModelConfig) -> int:
    """Those that are neither of the tokens read nor of those written."""
    assert model.hidden_size is not None
    written = model.hidden_size[-1] * model.vocabulary_size
    return model_class(model).matmul_parameters(model) - written


def _is_open(model: ModelConfig) -> bool:
    kind = model.kind
    return "hidden_size" in kind.options and "hidden_size" not in kind.defaults


def _tokens(model: ModelConfig, training: TrainingConfig, of: Circumstances) -> float:
    if training.epochs is not None:
        return float(training.epochs * of.train_tokens)
    if training.steps is not None:
        a_step = of.processes * training.batch_size * training.sequence_length
        return float(training.steps * a_step)
    assert of.compute is not None
    return of.compute / flop_per_token(model)


def _widened(model: ModelConfig, of: Circumstances) -> tuple[ModelConfig, str]:
    """As wide as leaves time for a token a weight of the layers; and wider with the text."""
    assert of.compute is not None
    by_text = 512 * max(1.0, of.train_tokens / _TOKENS_OF_512) ** 0.5
    chosen = dataclasses.replace(model, hidden_size=(_WIDTHS[0],))
    for width in _WIDTHS[1:]:
        wider = dataclasses.replace(model, hidden_size=(width,))
        shape = wider.resolved(of.vocabulary_size)
        if width > by_text:
            return chosen, "about what this much text can teach"
        if of.compute / flop_per_token(shape) < _layer_weights(shape):
            return chosen, "about what this time can train"
        chosen = wider
    return chosen, "the widest that is chosen unasked"


def _about(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


_TIMED_SECONDS, _LEAST_UPDATES = 1.0, 3
_FLOAT_BYTES = 4
_WEIGHT_COPIES = 4  # the weight, its gradient and the optimizer's two moments


def settle_open(settings: Settings, tokens: Tokens, processes: int = 1) -> tuple[Settings, Choice]:
    """The settings, with what nobody gave chosen for this text, this length and this machine.

    Under a budget, a few updates of a model that is thrown away tell how fast the machine is.
    Raises UsageError where memory could not hold the model.
    """
    use_threads(settings.threads)
    if settings.model.kind.counts:
        return settings, Choice(settings.model, settings.training, 0.0, {})
    model, training = settings.model.resolved(tokens.tokenizer.vocabulary_size), settings.training
    check_memory(model)
    given = settings.given
    if settings.origin is not None:  # its shape is that of the weights it begins with
        given |= option_names(ModelConfig)
    of = Circumstances(model.vocabulary_size, len(tokens.encoded.train), processes=processes)
    if training.budget is not None:
        of = _with_speed(of, settings, model)
    choice = choose(settings.model, training, given, of)
    if training.budget is not None and choice.model != model:  # whose speed is another
        of = _with_speed(of, settings, choice.model)
        again = choose(choice.model, training, given | {"hidden_size"}, of)
        why = {"hidden_size": choice.reasons["hidden_size"]}
        choice = dataclasses.replace(again, reasons=again.reasons | why)
    return dataclasses.replace(settings, model=choice.model, training=choice.training), choice


def _with_speed(of: Circumstances, settings: Settings, model: ModelConfig) -> Circumstances:
    budget, speed = settings.training.budget, of.processes * tokens_per_second(settings, model)
    assert budget is not None
    return dataclasses.replace(of, compute=budget * speed * flop_per_token(model))


def plan(settings: Settings, tokens: Tokens) -> Plan:
    """What ``--plan`` tells; nothing is learned and nothing is written."""
    if settings.model.kind.counts:
        raise UsageError(
            f"there is nothing to plan of --model {settings.model.model}",
            why="it learns all there is in one reading",
            fix="train it",
        )
    settings, choice = settle_open(settings, tokens)
    model, training = choice.model, choice.training
    device = choose_device(settings.device)
    precision = choose_precision(training.precision, device, model)
    training = dataclasses.replace(training, precision=precision)
    seconds = training.budget
    speed = choice.tokens / seconds if seconds else tokens_per_second(settings, model)
    return Plan(
        options=tuple(
            PlannedOption(spec.name, getattr(config, spec.name), choice.reasons[spec.name])
            for config in (model, training)
            for spec in dataclasses.fields(config)
            if spec.name in choice.reasons and getattr(config, spec.name) is not None
        ),
        parameters=count_parameters(model),
        state_bytes=state_bytes(model),
        window_bytes=window_bytes(model, training),
        tokens_per_second=speed,
        tokens=choice.tokens,
        seconds=choice.tokens / speed,
        epochs=choice.tokens / len(tokens.encoded.train),
        vocabulary_size=model.vocabulary_size,
        train_tokens=len(tokens.encoded.train),
        device=device.type,
        precision=precision,
        threads=torch.get_num_threads(),
    )


def state_bytes(model: ModelConfig) -> int:
    """Weights, gradients and moments, all float32."""
    return _WEIGHT_COPIES * _FLOAT_BYTES * count_parameters(model)


def window_bytes(model: ModelConfig, training: TrainingConfig) -> int:
    """Roughly what one update holds besides."""
    a_token = model_class(model).activations_per_token(model)
    return training.batch_size * training.sequence_length * _FLOAT_BYTES * a_token


def check_memory(model: ModelConfig) -> None:
    """Refuse a model that the machine's memory could not hold."""
    needed, there = state_bytes(model), _memory_bytes()
    if there is not None and needed > there:
        raise UsageError(
            f"{model.description} is too large",
            why=f"training {count_parameters(model):,} parameters needs {needed:,} bytes"
            f" of {there:,}",
            fix=f"lower {' or '.join(map(flag, model.sizes))}",
        )


def _memory_bytes() -> int | None:
    """The machine's memory, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def tokens_per_second(settings: Settings, model: ModelConfig) -> float:
    """How fast such a model learns here, by a second of updates on ids that mean nothing."""
    training, device = settings.training, choose_device(settings.device)
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
    learner = Learner(scratch.to(device), streams, training, precision)
    learner.update(1e-3)  # the first also allocates
    seconds: list[float] = []
    while len(seconds) < _LEAST_UPDATES or sum(seconds) < _TIMED_SECONDS:
        begun = time.perf_counter()
        learner.update(1e-3)
        learner.is_finite  # noqa: B018  # which waits for the device
        seconds.append(time.perf_counter() - begun)
    return size / statistics.median(seconds)
