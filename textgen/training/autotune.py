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
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch

from textgen.config import (
    LayersConfig,
    LSTMConfig,
    ModelConfig,
    RecurrentConfig,
    TrainingConfig,
    flag,
    option_names,
)
from textgen.data.batching import IdArray, Streams
from textgen.errors import UsageError
from textgen.models import build, count_parameters, on_meta
from textgen.models.device import choose_device, choose_precision, use_threads
from textgen.results import Plan, PlannedOption
from textgen.training.corpus import TrainingCorpus
from textgen.training.graphed import gradient_state
from textgen.training.run import TrainingRun

_WIDTHS = (128, 192, 256, 384, 512, 768, 1024)
_TOKENS_OF_512 = 4e6
_TOKENS_PER_WEIGHT = 3  # of the layers; narrower models are better for the updates that fit
_MIN_LEARNING_RATE, _MAX_LEARNING_RATE = 4e-3, 1e-2
_TOKENS_OF_MAX_LEARNING_RATE, _LEARNING_RATE_EXPONENT = 2e6, 0.35
_NGRAM_LEARNING_RATE = 0.65  # of the layers, where n-gram embeddings hand them short contexts
_DROPOUT_PER_OCTAVE, _MAX_DROPOUT = 0.11, 0.5
_EPOCHS_WITHOUT, _WEIGHTS_EXPONENT = 3.1, 0.43  # where there is a weight for each token
_NGRAM_DROPOUT_PER_OCTAVE, _MAX_NGRAM_DROPOUT, _EPOCHS_WITHOUT_NGRAM = 0.2, 0.7, 1.5
_TIMED_SECONDS, _LEAST_UPDATES = 0.5, 3
_TIMED_SECONDS_ON_GPU, _UPDATES_BEFORE_ON_GPU = 0.1, 5
_BATCH_FACTORS, _HARDLY_LONGER = (1, 2, 4, 8), 1.3
_SAMPLED_VOCABULARY, _CANDIDATES = 2500, 1024
_MAX_NGRAM_ROWS_LOG2 = 14
_FLOAT_BYTES = 4
_WEIGHT_COPIES = 4  # the weight, its gradient and the optimizer's two moments
_TABLE_COPIES = 2  # the weight and the average of squares
_BY_TEXT = "as large as this amount of text supports"
_BY_BUDGET = "as large as this budget can train"
_LARGEST = "the largest that is chosen automatically"
_USUAL = {
    "hidden_size": "the usual width; it is chosen by size only under --budget",
    "embedding_size": "tokens need fewer dimensions than contexts",
    "tie": "sharing the matrix pays with a large vocabulary",
    "batch_size": "many small updates are better than few large ones in the same time",
    "sequence_length": "a longer window makes fewer updates for no gain",
    "weight_decay": "the best of the values tried",
    "candidates": "the softmax over the whole vocabulary takes little of the time",
    "ngram_embeddings": "short contexts cost almost nothing this way",
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
        and _width_is_free(model, given)
        and size.compute is not None
    ):
        model, reasons["hidden_size"] = _widened(model, training, size)
    model = model.resolved(size.vocabulary_size)
    if training.epochs is not None:
        tokens = float(training.epochs * size.train_tokens)
    elif training.steps is not None:
        window = training.batch_size * training.sequence_length
        tokens = float(training.steps * (size.processes * window))
    else:
        assert size.compute is not None
        tokens = size.compute / flop_per_token(model, training.candidates)
    own = model.kind.defaults.keys()
    if "learning_rate" not in given | own:
        scale = (_TOKENS_OF_MAX_LEARNING_RATE / max(tokens, 1.0)) ** _LEARNING_RATE_EXPONENT
        learning_rate = max(_MAX_LEARNING_RATE * scale, _MIN_LEARNING_RATE)
        learning_rate = min(learning_rate, _MAX_LEARNING_RATE)
        if isinstance(model, LSTMConfig) and model.ngram_embeddings:
            learning_rate *= _NGRAM_LEARNING_RATE
        learning_rate = round(learning_rate, 4)
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
    if training.candidates:
        reasons["candidates"] = "a softmax over the whole vocabulary takes most of the time"
    if isinstance(model, LSTMConfig):
        if not model.ngram_embeddings and "ngram_embeddings" not in own:
            reasons["ngram_embeddings"] = (
                "n-grams of words or subwords would be learned by heart"
                if model.embedding_size
                else "one-hot input has no embedding to add to"
            )
        if "ngram_dropout" not in given:
            wanted = not ("dropout" in given and training.dropout == 0)  # which is none of any kind
            rate = _ngram_dropout(epochs) if wanted and model.ngram_embeddings else 0.0
            training = dataclasses.replace(training, ngram_dropout=rate)
    reasons |= dict.fromkeys(given, "as given")
    return TunedOptions(model, training, tokens, reasons, tuple(warnings))


def _ngram_dropout(epochs: float) -> float:
    rate = _NGRAM_DROPOUT_PER_OCTAVE * math.log2(max(epochs, 1e-9) / _EPOCHS_WITHOUT_NGRAM)
    return round(min(max(rate, 0.0), _MAX_NGRAM_DROPOUT), 2)


def flop_per_token(model: ModelConfig, candidates: int = 0) -> float:
    """Operations per training token: for each weight one product forward, two backward.

    candidates: as in TrainingConfig.
    """
    weights, layer = on_meta(model).matmul_parameters(), on_meta(model).output_layer
    if layer is not None and 0 < candidates < layer.out_features:
        weights -= (layer.out_features - candidates) * layer.in_features
    return 6.0 * weights


def _width_is_free(model: LayersConfig, given: Set[str]) -> bool:
    tied = isinstance(model, RecurrentConfig) and model.tie and model.embedding_size
    return not tied and "hidden_size" not in given | model.kind.defaults.keys()


def _width_of_text(size: TaskSize) -> float:
    return float(512 * max(1.0, size.train_tokens / _TOKENS_OF_512) ** 0.5)


def _layer_weights(shape: ModelConfig) -> int:
    """The number of weights below the output layer."""
    output = shape.layer_sizes[-1] * shape.vocabulary_size if shape.layer_sizes else 0
    return on_meta(shape).matmul_parameters() - output


def _widened(
    model: LayersConfig, training: TrainingConfig, size: TaskSize
) -> tuple[ModelConfig, str]:
    """The largest width with three training tokens per layer weight, limited by the text."""
    assert size.compute is not None
    by_text = _width_of_text(size)
    chosen = dataclasses.replace(model, hidden_size=(_WIDTHS[0],))
    for width in _WIDTHS[1:]:
        wider = dataclasses.replace(model, hidden_size=(width,))
        shape = wider.resolved(size.vocabulary_size)
        if width > by_text:
            return chosen, _BY_TEXT
        tokens = size.compute / flop_per_token(shape, training.candidates)
        if tokens < _TOKENS_PER_WEIGHT * _layer_weights(shape):
            return chosen, _BY_BUDGET
        chosen = wider
    return chosen, _LARGEST


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
    device = choose_device(run.device)
    _check_memory(model, device)
    given = run.given
    if run.tuned_from is not None:  # its shape is that of the initial weights
        given |= option_names(ModelConfig)
    size = TaskSize(model.vocabulary_size, len(corpus.encoded.train), processes=processes)
    if "candidates" not in given:
        training = _with_candidates(training, model, device)
    if isinstance(run.model, LSTMConfig) and "ngram_rows" not in given:
        rows = _ngram_rows(size.train_tokens)
        run = dataclasses.replace(run, model=dataclasses.replace(run.model, ngram_rows=rows))
        model = run.model.resolved(model.vocabulary_size)
    if training.budget is None:
        return choose(run.model, training, given, size)
    run = dataclasses.replace(run, training=training)
    ids = corpus.encoded.train

    def speed(model: ModelConfig, training: TrainingConfig) -> float:
        return tokens_per_second(run, model, training, ids)

    if device.type == "cuda":
        return choose_on_gpu(run.model, training, given, size, speed)
    measured = _with_speed(size, training, model, speed(model, training))
    choice = choose(run.model, training, given, measured)
    if choice.model != model:  # which has another speed
        size = _with_speed(size, training, choice.model, speed(choice.model, training))
        again = choose(choice.model, training, given | {"hidden_size"}, size)
        reason = {"hidden_size": choice.reasons["hidden_size"]}
        choice = dataclasses.replace(again, reasons=again.reasons | reason)
    return choice


def _ngram_rows(train_tokens: int) -> int:
    """A short text has fewer n-grams: the power of two next to a sixteenth of its tokens."""
    return int(2 ** min(max(round(math.log2(train_tokens / 16)), 6), _MAX_NGRAM_ROWS_LOG2))


def _with_candidates(
    training: TrainingConfig, model: ModelConfig, device: torch.device
) -> TrainingConfig:
    """With a large vocabulary a softmax over candidates, where products are what takes time."""
    has_layer = on_meta(model).output_layer is not None
    if device.type != "cpu" or model.vocabulary_size < _SAMPLED_VOCABULARY or not has_layer:
        return training
    return dataclasses.replace(training, candidates=_CANDIDATES)


def _with_speed(
    size: TaskSize, training: TrainingConfig, model: ModelConfig, speed: float
) -> TaskSize:
    """speed: of one process, in tokens per second."""
    assert training.budget is not None
    compute = training.budget * (size.processes * speed)
    compute *= flop_per_token(model, training.candidates)
    return dataclasses.replace(size, compute=compute)


Speed = Callable[[ModelConfig, TrainingConfig], float]
"""Tokens per second of training a model, measured."""


def choose_on_gpu(
    model: ModelConfig, training: TrainingConfig, given: Set[str], size: TaskSize, speed: Speed
) -> TunedOptions:
    """As ``choose`` under a budget, for a device that a small update does not occupy.

    There the time of an update hardly depends on its size, so speed is measured at each width and
    batch that is weighed. The width is the largest with three training tokens per layer weight;
    the batch the largest whose updates take at most 1.3 times as long as those of 16
    streams. The learning rate grows with the square root of the batch (Krizhevsky 2014).
    """
    own = model.kind.defaults.keys()
    batch_is_free, widths = "batch_size" not in given | own, list[ModelConfig]([model])
    if isinstance(model, LayersConfig) and _width_is_free(model, given):
        most = _width_of_text(size)
        widths = [
            dataclasses.replace(model, hidden_size=(width,)) for width in _WIDTHS if width <= most
        ]
    chosen, larger, measured = model, training, size
    for chosen in reversed(widths):
        shape = chosen.resolved(size.vocabulary_size)
        speeds = _speeds(shape, training, _BATCH_FACTORS if batch_is_free else (1,), speed)
        larger = dataclasses.replace(training, batch_size=max(speeds))
        measured = _with_speed(size, training, shape, speeds[larger.batch_size])
        assert measured.compute is not None
        tokens = measured.compute / flop_per_token(shape, training.candidates)
        if tokens >= _TOKENS_PER_WEIGHT * _layer_weights(shape):
            break
    choice = choose(chosen, larger, given | {"hidden_size"} if len(widths) > 1 else given, measured)
    larger, reasons = choice.training, dict(choice.reasons)
    if len(widths) > 1:
        of_text = _LARGEST if len(widths) == len(_WIDTHS) else _BY_TEXT
        reasons["hidden_size"] = of_text if chosen is widths[-1] else _BY_BUDGET
    if batch_is_free:
        reasons["batch_size"] = "as large as an update hardly takes longer for"
    if "learning_rate" not in given | own:
        rate = larger.learning_rate * math.sqrt(larger.batch_size / training.batch_size)
        larger = dataclasses.replace(larger, learning_rate=round(rate, 4))
    return dataclasses.replace(choice, training=larger, reasons=reasons)


def _speeds(
    model: ModelConfig, training: TrainingConfig, factors: Sequence[int], speed: Speed
) -> dict[int, float]:
    """The speed at each multiple of the batch, as long as updates take hardly longer."""
    found = dict[int, float]()
    for factor in factors:
        larger = dataclasses.replace(training, batch_size=factor * training.batch_size)
        try:
            measured = speed(model, larger)
        except torch.cuda.OutOfMemoryError:
            if not found:
                raise
            break
        if found and measured * _HARDLY_LONGER < factor * found[training.batch_size]:
            break
        found[larger.batch_size] = measured
    return found


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
    speed = (
        choice.tokens / seconds
        if seconds
        else tokens_per_second(run, model, training, corpus.encoded.train)
    )
    return Plan(
        options=tuple(
            PlannedOption(spec.name, getattr(config, spec.name), choice.reasons[spec.name])
            for config in (model, training)
            for spec in dataclasses.fields(config)
            if spec.name in choice.reasons and getattr(config, spec.name) is not None
        ),
        parameters=count_parameters(model),
        state_bytes=state_bytes(model, training.candidates),
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


def state_bytes(model: ModelConfig, candidates: int = 0) -> int:
    """Weights, gradients and moments, all float32."""
    sampled = 0 < candidates < model.vocabulary_size
    looked_up = sum(each.numel() for each in on_meta(model).lookup_tables(sampled=sampled))
    others = count_parameters(model) - looked_up
    return _FLOAT_BYTES * (_WEIGHT_COPIES * others + _TABLE_COPIES * looked_up)


def _check_memory(model: ModelConfig, device: torch.device) -> None:
    """Refuse a model that the memory of the device could not hold."""
    needed = state_bytes(model)
    try:
        if device.type == "cuda":
            _, available = torch.cuda.mem_get_info(device)
        else:
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


def tokens_per_second(
    run: TrainingRun, model: ModelConfig, training: TrainingConfig, ids: IdArray
) -> float:
    """Training tokens per second, measured by half a second of updates on some of these ids."""
    device = choose_device(run.device)
    on_gpu = device.type == "cuda"  # where several sizes are measured, and updates are short
    size = training.batch_size * training.sequence_length
    scratch = build(model)
    scratch.initialize(torch.Generator().manual_seed(0))
    streams = Streams(
        np.resize(ids[: 4 * size], 4 * size),
        batch_size=training.batch_size,
        sequence_length=training.sequence_length,
        run_windows=1,
        unknown_rate=0.0,
        seed=0,
    )
    precision = choose_precision(training.precision, device, model)
    state = gradient_state(scratch.to(device), streams, training, precision)
    for _ in range(_UPDATES_BEFORE_ON_GPU if on_gpu else 1):  # which also allocate
        state.update(1e-3)
    enough = _TIMED_SECONDS_ON_GPU if on_gpu else _TIMED_SECONDS
    seconds: list[float] = []
    while len(seconds) < _LEAST_UPDATES or sum(seconds) < enough:
        begun = time.perf_counter()
        state.update(1e-3)
        state.is_finite  # noqa: B018  # which waits for the device
        seconds.append(time.perf_counter() - begun)
    return size / statistics.median(seconds)
