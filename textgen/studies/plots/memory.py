"""How far back a model remembers: three measures.

Choices by distance; the loss by length of context; and the vanishing gradient, the gradient of a
loss with respect to the state many tokens before (Hochreiter 1991; Bengio, Simard and Frasconi
1994).
"""

import json
import math
import warnings
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen import metrics
from textgen.config import check_whole
from textgen.data.corpus import bundled_corpus
from textgen.errors import DataError, TextgenWarning, not_finite
from textgen.inference.likelihood import Document
from textgen.language_model import LanguageModel
from textgen.models import Model
from textgen.results import Accuracy
from textgen.studies.plots.drawing import Axis, Line, LinePlot, Panel, lines_of, rows_of
from textgen.studies.plots.text import check_causal, check_continuous, continuous
from textgen.tokenizers.base import EOS, with_eos

DISTANCES = (0, 10, 20, 40, 80, 160)
"""Where the ranges of distances begin that are counted together, in characters."""
CONTEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Lengths of the context, in tokens."""

_TITLES = {
    "agreement": "Agreement",
    "brackets": "Closing brackets",
    "facts": "Recalled facts",
    "pronouns": "Pronouns",
    "quotes": "Closing quotes",
}
_MOST_UNKNOWN = 0.1
_MOST_BITS = 3.8  # per character; bag-of-words of the stories need 3.4, other English text more
_TRAIN_ON_STORIES = "train it on them, as textgen train does where no corpus is named"
_LEAST_PAIRS = 20  # of a point
_DISTANCE_TICKS = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
_LEAST_DISTANCE = 4.0
_LOWEST_SHARE = 20.0  # per cent, at the end of the axis, unless some model is right less often
_BATCH_TOKENS = 2**14


@dataclass(frozen=True, slots=True)
class Recall:
    """How often a choice is right that something earlier in the text determines.

    Attributes:
        shortest: The smallest distance of a range, in characters from what determines the choice.
        longest: The largest; None for the last range.
        distance: The mean in the range; nan if there are no choices.
        accuracy: right / pairs, with a 95 % interval from lower to upper; chance is a half.
        tied: The pairs of equal probability, which are not right.
    """

    kind: str
    shortest: int
    longest: int | None
    distance: float
    accuracy: float
    lower: float
    upper: float
    right: int
    tied: int
    pairs: int

    @classmethod
    def of(
        cls, kind: str, shortest: int, longest: int | None, distance: float, counted: Accuracy
    ) -> Self:
        counts = counted.right, counted.tied, counted.pairs
        return cls(kind, shortest, longest, distance, counted.share, *counted.interval, *counts)


@dataclass(frozen=True, slots=True)
class ContextLoss:
    """The loss of a model that reads ``context`` tokens before each token that it predicts.

    Attributes:
        context: In tokens; None: all that there are.
        loss: In nats per token.
        error: The standard error of the loss as an estimate for the whole text.
        tokens: How many were predicted, the same ones for every context.
    """

    context: int | None
    loss: float
    error: float
    tokens: int


@dataclass(frozen=True, slots=True)
class ProbeItem:
    """Two texts after a context that excludes the wrong one."""

    kind: str
    distance: int
    context: str
    right: str
    wrong: str


def recall(model: LanguageModel) -> list[Recall]:
    """Count how often a model of the bundled stories remembers what determines a choice.

    The choices are in other stories of the same grammar. The model is right if it gives the right
    text a higher probability than the wrong one; both end with the same word, so that no
    tokenizer has an advantage. Of two forms, such as singular and plural, each is right equally
    often, so that a model without memory is right in half of the cases.

    Raises:
        UsageError: The model is not causal.
        DataError: The model does not know the stories, or their words or characters.
    """
    check_causal(model, "plot memory")
    with bundled_corpus().with_name("probe.jsonl").open(encoding="utf-8") as lines:
        choices = [ProbeItem(**json.loads(line)) for line in lines]
    pairs = ((each.context, text) for each in choices for text in (each.right, each.wrong))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextgenWarning)  # a choice may be the ending of a word
        scores = iter(list(model.scores(pairs)))
    found: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
    unknown = tokens = characters = 0
    log_prob = 0.0
    for choice, right, wrong in zip(choices, scores, scores, strict=True):
        log_prob, characters = log_prob + right.log_prob, characters + right.characters
        at = bisect_right(DISTANCES, choice.distance) - 1
        found[choice.kind, at].append((choice.distance, right.log_prob - wrong.log_prob))
        unknown, tokens = unknown + right.unknown, tokens + right.tokens
    if unknown > _MOST_UNKNOWN * tokens:
        raise DataError(
            "too much of the bundled stories is unknown to the model",
            where=model.path,
            fix=_TRAIN_ON_STORIES,
        )
    bits = metrics.bits_per_character(log_prob, characters)
    if bits > _MOST_BITS:
        raise DataError(
            "the model does not know the bundled stories, so its choices mean nothing",
            where=model.path,
            why=f"it needs {bits:.1f} bits per character of them, a trained LSTM less than 1",
            fix=f"{_TRAIN_ON_STORIES}, or use --what context, which is for any text",
        )
    recalls = []
    for kind in _TITLES:
        for at, shortest in enumerate(DISTANCES):
            longest = DISTANCES[at + 1] - 1 if at + 1 < len(DISTANCES) else None
            distances, margins = zip(*found[kind, at], strict=True) if found[kind, at] else ((), ())
            mean = sum(distances) / len(distances) if distances else math.nan
            counted = Accuracy(sum(m > 0 for m in margins), len(margins), margins.count(0.0))
            recalls.append(Recall.of(kind, shortest, longest, mean, counted))
    return recalls


def loss_by_context(
    model: LanguageModel,
    sentences: Iterable[str],
    *,
    contexts: Sequence[int] = CONTEXTS,
    tokens: int = 1000,
    seed: int = 0,
) -> list[ContextLoss]:
    """Compute the loss of the same tokens given only the last 1, 2, 4, ... tokens, and given all.

    A context is read from the start state; those of more than half of the text are left out.

    Args:
        sentences: Without their terminators.
        tokens: The number of tokens to predict, drawn from those with enough tokens before them.

    Raises:
        UsageError: The model is not causal.
        DataError: The text is too short.
    """
    check_causal(model, "plot memory")
    check_whole("tokens", tokens, 1)
    for context in contexts:
        check_whole("contexts", context, 1)
    parts = [with_eos(model.tokenizer.encode(sentence)) for sentence in sentences]
    ids = np.concatenate(parts) if parts else np.empty(0, np.uint32)
    contexts = sorted(context for context in contexts if 2 * context <= len(ids))
    if not contexts:
        raise DataError(
            f"the text has {len(ids)} tokens",
            why="that is too few to read some of them before others",
            fix="give a longer text",
        )
    first = contexts[-1]
    count = min(tokens, len(ids) - first)
    random = np.random.default_rng(seed)
    places = first + np.sort(random.choice(len(ids) - first, count, replace=False))
    found = []
    for length in (*contexts, None):
        if length is None:
            losses = -Document(model.model, EOS).read(ids[: places[-1] + 1])[places]
            if np.isnan(losses).any():
                raise not_finite()
        else:
            losses = _losses(model, ids, places, length)
        error = float(losses.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan
        found.append(ContextLoss(length, float(losses.mean()), error, count))
    return found


@torch.inference_mode()
def _losses(
    model: LanguageModel, ids: npt.NDArray[np.uint32], places: npt.NDArray[np.int64], context: int
) -> npt.NDArray[np.float64]:
    """-ln p (places,) of the tokens at these places, each given ``context`` tokens before it."""
    network, rows = model.model, max(1, _BATCH_TOKENS // context)
    losses = []
    for begin in range(0, len(places), rows):
        some = places[begin : begin + rows]
        windows = ids[np.arange(-context, 1)[:, None] + some].astype(np.int64)
        batch = torch.as_tensor(windows, device=network.device)  # (context + 1, rows)
        hidden, _ = network.hidden_states(batch[:-1], network.start(len(some)))
        losses.append(-network.log_probs(hidden[-1], batch[-1]).cpu().double().numpy())
    return np.concatenate(losses)


def choices_plot(measured: Mapping[str, Sequence[Recall]]) -> LinePlot:
    """A panel of all kinds together, then one for each kind. measured: by checkpoint."""
    by_title = {"All together": {path: _together(each) for path, each in measured.items()}}
    for kind in sorted({each.kind for recalls in measured.values() for each in recalls}):
        by_title[_TITLES[kind]] = {
            path: [r for r in each if r.kind == kind and r.pairs >= _LEAST_PAIRS]
            for path, each in measured.items()
        }
    panels, lowest = [], _LOWEST_SHARE
    for title, recalls in by_title.items():
        lines = lines_of(
            recalls,
            lambda r: (
                max(r.distance, _LEAST_DISTANCE),
                100 * r.accuracy,
                100 * r.lower,
                100 * r.upper,
            ),
            dots=True,
        )
        lowest = min([lowest, *(y for line in lines for _, y in line.points)])
        xs = [x for line in lines for x, _ in line.points]
        at = [x for x in _DISTANCE_TICKS if xs and min(xs) <= x <= max(xs)]
        panels.append(Panel(lines, at, title))
    return LinePlot(
        title="Long-distance choices, by distance",
        x=Axis(
            "distance", "characters", log=True, ticks=_DISTANCE_TICKS[:-1], show="{:.0f}".format
        ),
        y=Axis("right", "%", show="{:.0f}".format, limits=(lowest, 100)),
        panels=panels,
        numbers=rows_of(measured),
        note=f"Shaded: 95 % interval. At least {_LEAST_PAIRS} pairs per point.",
        baseline=(50.0, "chance"),
    )


def _together(recalls: Sequence[Recall]) -> list[Recall]:
    """All kinds as one, by range of distances; ranges with too few pairs are left out."""
    merged = []
    for shortest in sorted({each.shortest for each in recalls if each.pairs}):
        some = [each for each in recalls if each.shortest == shortest and each.pairs]
        pairs = sum(each.pairs for each in some)
        if pairs < _LEAST_PAIRS:
            continue
        mean = sum(each.distance * each.pairs for each in some) / pairs
        counted = Accuracy(sum(each.right for each in some), pairs)
        merged.append(Recall.of(some[0].kind, shortest, some[0].longest, mean, counted))
    return merged


def context_plot(measured: Mapping[str, Sequence[ContextLoss]], sources: Sequence[str]) -> LinePlot:
    """The loss of the same tokens, by checkpoint. sources: a description of each text."""
    lines = lines_of(
        {path: [c for c in each if c.context is not None] for path, each in measured.items()},
        lambda c: (c.context or 0, c.loss, c.loss - c.error, c.loss + c.error),
        dots=True,
    )
    xs = sorted({x for line in lines for x, _ in line.points})
    for group, losses in enumerate(measured.values()):
        for each in losses:
            if each.context is None and xs:
                ends = (xs[0], each.loss), (xs[-1], each.loss)
                lines.append(Line("", ends, group, dashed=True))
    tokens = min(each.tokens for losses in measured.values() for each in losses)
    return LinePlot(
        title="Loss by length of context",
        x=Axis("context", "tokens", log=True, ticks=tuple(xs)),
        y=Axis("loss", "nats per token", show="{:.2f}".format),
        panels=[Panel(lines, at=xs)],
        numbers=rows_of(measured),
        note=f"The same {tokens:,} tokens of {' and '.join(dict.fromkeys(sources))}; shaded:"
        " standard error; dashed: all that comes before.",
    )


@dataclass(frozen=True, slots=True)
class GradientNorm:
    """The norm at one lag, in nats per unit of change of the state.

    Attributes:
        state: The tensors whose gradients are taken as one vector: ``hidden.0 cell.0``.
        places: The number of losses, over which lower and upper are the quartiles.
    """

    state: str
    places: int
    lag: int
    median: float
    lower: float
    upper: float


def gradient_norms(
    model: LanguageModel, text: str, *, lags: int = 100, places: int = 64
) -> list[GradientNorm]:
    """Compute the norm of d loss(t) / d state(t - k) for k = 1 ... ``lags``.

    loss(t) is -ln p of one token. state(t - k) is the state from which k more tokens are read
    until that token is predicted: all its floating-point tensors as one vector.

    Args:
        places: The number of losses, at equal distances in the text. Reading begins ``lags``
            tokens before the first state, so that no state is that of the start of a text.

    Raises:
        UsageError: The model has no continuous state.
        DataError: The text is too short.
    """
    check_whole("lags", lags, 1)
    state = " ".join(check_continuous(model, "plot gradient"))
    ids = np.concatenate([[EOS], model.tokenizer.encode(text).astype(np.int64)])
    if len(ids) < lags + 1:
        raise DataError(
            f"the text is too short for {lags} lags",
            why=f"it has {len(ids) - 1} tokens",
            fix="give a longer text, or fewer --lags",
        )
    window = min(len(ids), 2 * lags + 1)
    starts = np.unique(np.linspace(0, len(ids) - window, places).astype(np.int64))
    windows = torch.as_tensor(ids[starts + np.arange(window)[:, None]], device=model.model.device)
    norms = np.sort(_norms(model.model, windows, lags).cpu().double().numpy())
    quartiles = np.quantile(norms, (0.5, 0.25, 0.75), axis=1).T.tolist()
    return [GradientNorm(state, len(starts), lag, *each) for lag, each in enumerate(quartiles, 1)]


def _norms(model: Model, ids: Tensor, lags: int) -> Tensor:
    """The norms (lags, places) of the loss of the last of ``ids`` (time, places), lag 1 first."""
    before, after = ids[: -1 - lags], ids[-1 - lags : -1]
    state = model.start(ids.shape[1])
    # cuDNN has no backward pass of a network in evaluation mode.
    with torch.backends.cudnn.flags(enabled=False):
        if len(before):
            with torch.no_grad():
                _, state = model.hidden_states(before, state)
        flat = list[Tensor]()
        for token in after:
            tensors = continuous(state)
            if not flat:
                tensors = {
                    name: each.detach().clone().requires_grad_() for name, each in tensors.items()
                }
            flat += tensors.values()
            # Restored from these tensors, so that the graph passes through them.
            restored = model.restore(state.tensors() | tensors)
            outputs, state = model.hidden_states(token.unsqueeze(0), restored)
        loss = -model.log_probs(outputs[0], ids[-1]).sum()  # one place does not depend on another
        gradients = torch.autograd.grad(loss, flat, materialize_grads=True)
    squares = torch.stack([each.flatten(1).pow(2).sum(1) for each in gradients])
    return squares.view(lags, -1, ids.shape[1]).sum(1).flip(0).sqrt()


_TABLE_LAGS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LOWEST = 1e-16
"""An update this much smaller than the weights does not change them in float64."""


def gradient_plot(
    measured: Mapping[str, Sequence[GradientNorm]], sources: Sequence[str]
) -> LinePlot:
    """The median of each checkpoint between the quartiles. sources: a description of each text."""
    norms = [norm for each in measured.values() for norm in each]
    ends = [end for norm in norms for end in (norm.lower, norm.median, norm.upper) if end > 0]
    powers = [math.log10(max(end, _LOWEST)) for end in ends]
    limits = (10.0 ** math.floor(min(powers)), 10.0 ** math.ceil(max(powers))) if powers else None
    y = Axis("|∂ loss(t) / ∂ state(t − k)|", "nats per unit", log=True, show=power, limits=limits)
    lines = lines_of(measured, lambda norm: (norm.lag, norm.median, norm.lower, norm.upper))
    return LinePlot(
        title="How far back does the gradient reach?",
        x=Axis("distance k", "tokens back"),
        y=y,
        panels=[Panel(lines, at=[lag for lag in _TABLE_LAGS if lag <= norms[-1].lag])],
        numbers=rows_of(measured),
        note=f"Median of {min(norm.places for norm in norms)} places in"
        f" {' and '.join(dict.fromkeys(sources))}; shaded: between the quartiles."
        + f" Below {power(_LOWEST)} nothing is drawn."
        * any(end < _LOWEST for end in ends),
    )


def power(value: float) -> str:
    """A value with its power of ten.

    >>> power(1e-5), power(0.01), power(2.345e-5)
    ('10⁻⁵', '0.01', '2.3·10⁻⁵')
    """
    if value == 0 or 1e-3 < value < 1e3:
        return f"{value:.2g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = f"{value / 10**exponent:.2g}"
    tens = "10" + str(exponent).translate(_SUPERSCRIPTS)
    return tens if mantissa == "1" else f"{mantissa}·{tens}"
