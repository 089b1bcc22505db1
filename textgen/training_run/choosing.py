"""What is decided where nobody decided: the width and the regularisation of a run.

From the size of the corpus and what can be computed in the time. The rules are few and smooth,
and follow the tables of ``benchmarks/results/ablations.md``. An option given by hand wins, and
the rest is chosen around it.
"""

import dataclasses
import math
from collections.abc import Set
from dataclasses import dataclass

from textgen.config import ModelConfig, TrainingConfig
from textgen.models import model_class

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
        weights = model_class(model).multiplied(model) / of.train_tokens
        overfit = max(epochs, 1e-9) * weights**_WEIGHTS_EXPONENT / _EPOCHS_WITHOUT
        rate = round(min(max(_DROPOUT_AN_OCTAVE * math.log2(overfit), 0.0), _MOST_DROPOUT), 2)
        training = dataclasses.replace(training, dropout=rate)
        reasons["dropout"] = (
            f"each text is read about {_about(epochs)} times, by {_about(weights)} weights a token"
        )
    return Choice(model, training, tokens, reasons | dict.fromkeys(given, "as asked"))


def flop_per_token(model: ModelConfig) -> float:
    """What learning from one token takes: a product forward, two backward, for each weight."""
    return 6.0 * model_class(model).multiplied(model)


def _layer_weights(model: ModelConfig) -> int:
    """Those that are neither of the tokens read nor of those written."""
    assert model.hidden_size is not None
    written = model.hidden_size[-1] * model.vocabulary_size
    return model_class(model).multiplied(model) - written


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
