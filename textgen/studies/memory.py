"""How much a model remembers: choices settled far before, and the loss by how much it may read.

Both are for models that tell what comes next.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, get_args

import numpy as np

from textgen.config import check_whole
from textgen.corpus.bundled import bundled_grammar
from textgen.errors import DataError, UsageError
from textgen.grammar import load_grammar
from textgen.grammar.dependencies import Dependency, dependencies
from textgen.grammar.deriving import derive_story
from textgen.language_model import LanguageModel
from textgen.results import Accuracy, ContextLoss, Pair, PairScore, Recall, RecallKind

if TYPE_CHECKING:
    import numpy.typing as npt

DISTANCES = (0, 10, 20, 40, 80, 160)
"""Where the distances begin that are counted together, in characters."""

CONTEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""How many tokens are read."""

_MOST_STORIES = 3000
_MOST_UNKNOWN = 0.1
_BATCH_TOKENS = 2**14

_Key = tuple[RecallKind, int]


def recall(model: LanguageModel, *, seed: int = 1, most: int = 100) -> list[Recall]:
    """How often a model of the bundled stories remembers what settles a choice.

    New stories of their grammar are read up to each place at which something earlier in them
    leaves one thing that can come; the model is right where it gives that more probability than
    one drawn thing that cannot come, the two as texts, so that no tokenizer is at an advantage.
    Both are written on to the end of a word, which is the same. Of two forms, such as singular
    and plural, each is right as often as the other, so that who has forgotten is right by half.

    seed: of the stories; that of the corpus is 2024. most: how many places of a kind are tried,
    at each distance. Raises UsageError for a model that does not generate, DataError for one
    that does not know what the stories are written in.
    """
    _check_generates(model)
    check_whole("most", most, 1)
    found = _dependencies(seed, most)
    places = [(key, each) for key, some in found.items() for each in some]
    scores = model.scores(
        (each.context, text) for _, each in places for text in (each.right, each.wrong)
    )
    accuracies: dict[_Key, Accuracy] = defaultdict(Accuracy)
    unknown = tokens = 0
    for line, ((key, each), right, wrong) in enumerate(zip(places, scores, scores, strict=True)):
        pair = Pair(line + 1, each.right, each.wrong)
        accuracies[key] += PairScore(pair, right.log_prob, wrong.log_prob)
        unknown, tokens = unknown + right.unknown, tokens + right.tokens
    if unknown > _MOST_UNKNOWN * tokens:
        raise DataError(
            "too much of the bundled stories is unknown to the model",
            where=model.path,
            fix="train it on them, as textgen train does where no corpus is named",
        )
    return [
        Recall(kind, begin, end and end - 1, _mean_distance(found[kind, at]), accuracies[kind, at])
        for kind in get_args(RecallKind)
        for at, (begin, end) in enumerate(pairwise((*DISTANCES, None)))
        if begin is not None
    ]


def _dependencies(seed: int, most: int) -> dict[_Key, list[Dependency]]:
    """Some of each kind and each distance, as many as are wanted or as there are."""
    grammar, generator, drawing = load_grammar(bundled_grammar()), Random(seed), Random(seed)
    found: dict[_Key, list[Dependency]] = defaultdict(list)
    for _ in range(_MOST_STORIES):
        for each in dependencies(derive_story(grammar, generator), drawing):
            found[each.kind, bisect_right(DISTANCES, each.distance) - 1].append(each)
    return defaultdict(list, {key: _balanced(some)[:most] for key, some in found.items()})


def _balanced(some: Sequence[Dependency]) -> list[Dependency]:
    """As many that are of one form as of the other, in turns: to prefer one is no memory."""
    by_forms: dict[tuple[str, str], list[Dependency]] = defaultdict(list)
    for each in some:
        by_forms[each.forms].append(each)
    numbered = [
        (number, each)
        for (form, other), group in by_forms.items()
        for number, each in enumerate(group[: len(by_forms.get((other, form), ()))])
    ]
    return [each for _, each in sorted(numbered, key=lambda pair: pair[0])]


def _mean_distance(some: Sequence[Dependency]) -> float:
    return sum(each.distance for each in some) / len(some) if some else math.nan


def loss_by_context(
    model: LanguageModel,
    sentences: Iterable[str],
    *,
    contexts: Sequence[int] = CONTEXTS,
    tokens: int = 1000,
    seed: int = 0,
) -> list[ContextLoss]:
    """The loss of a model that has read just the last 1, 2, 4, ... tokens, and all of them.

    The same tokens of the text are predicted each time: from the start state, having read
    exactly so many before; and last in the text read from its beginning. Contexts of more than
    half of the text are left out.

    sentences: without their terminators. tokens: how many are predicted, drawn by the seed among
    those with enough before them; all, where there are no more. Raises UsageError for a model
    that does not generate, DataError for a text that is too short.
    """
    _check_generates(model)
    check_whole("tokens", tokens, 1)
    for context in contexts:
        check_whole("contexts", context, 1)
    from textgen.models.likelihood import Document
    from textgen.tokenizers.base import EOS, with_eos

    parts = [with_eos(model.tokenizer.encode(sentence)) for sentence in sentences]
    ids = np.concatenate(parts) if parts else np.empty(0, np.uint32)
    contexts = [context for context in contexts if 2 * context <= len(ids)]
    if not contexts:
        raise DataError(
            f"the text has {len(ids)} tokens",
            why="that is too few to read some of them before others",
            fix="give a longer text",
        )
    first = max(contexts)
    count = min(tokens, len(ids) - first)
    random = np.random.default_rng(seed)
    places = first + np.sort(random.choice(len(ids) - first, count, replace=False))
    losses = [(context, _losses(model, ids, places, context)) for context in sorted(contexts)]
    whole = -Document(model.model, EOS).read(ids[: places[-1] + 1])[places]
    return [_context_loss(context, each) for context, each in (*losses, (None, whole))]


def _losses(
    model: LanguageModel, ids: npt.NDArray[np.uint32], places: npt.NDArray[np.int64], context: int
) -> npt.NDArray[np.float64]:
    """-ln p of the tokens at these places (places,), each given just so many before it."""
    import torch

    network = model.model

    def batches() -> Iterator[npt.NDArray[np.float64]]:
        rows = max(1, _BATCH_TOKENS // context)
        for begin in range(0, len(places), rows):
            some = places[begin : begin + rows]
            windows = ids[np.arange(-context, 1)[:, None] + some].astype(np.int64)
            read = torch.as_tensor(windows, device=network.device)  # (context + 1, rows)
            features, _ = network.features(read[:-1], network.start(len(some)))
            yield -network.log_probs(features[-1], read[-1]).cpu().double().numpy()

    with torch.inference_mode():
        return np.concatenate(list(batches()))


def _context_loss(context: int | None, losses: npt.NDArray[np.float64]) -> ContextLoss:
    error = losses.std(ddof=1) / math.sqrt(len(losses)) if len(losses) > 1 else math.nan
    return ContextLoss(context, float(losses.mean()), float(error), len(losses))


def _check_generates(model: LanguageModel) -> None:
    if not model.model.generates:
        raise UsageError(
            f"a {model.header.model.model} model has no memory to be measured",
            why="it also reads what comes after",
            fix="name a model that writes from left to right",
        )
