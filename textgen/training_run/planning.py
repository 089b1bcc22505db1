"""What a run will be, before it begins: its choices, size, speed and passes over the text."""

import dataclasses
import os
import statistics
import time

import numpy as np
import torch

from textgen.batching import Streams
from textgen.config import ModelConfig, TrainingConfig, flag, option_names
from textgen.errors import UsageError
from textgen.models import build, count_parameters, model_class
from textgen.models.placement import choose_device, choose_precision, use_threads
from textgen.results import Plan, PlannedOption
from textgen.training.learner import Learner
from textgen.training_run.choosing import Choice, Circumstances, choose, flop_per_token
from textgen.training_run.settings import Settings
from textgen.training_run.tokens import Tokens

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
    a_token = model_class(model).held(model)
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
