"""Log-probabilities of tokens to the sums that sentences and texts are compared by."""

from collections.abc import Callable

import numpy as np

from textgen.batching import IdArray
from textgen.models.likelihood import LogProbs
from textgen.results import ScoreSum, SentenceScore, TokenScore
from textgen.tokenizers.base import UNK


def sentence_score(
    line: int,
    text: str,
    ids: IdArray,
    log_probs: LogProbs,
    *,
    characters: int,
    token: Callable[[int], str] | None = None,
) -> SentenceScore:
    """The score of one sentence, its tokens' log-probabilities summed in float64.

    characters: of the text, its terminator counted. token: names ids, where every token's
    own score is wanted.
    """
    unknown = ids == UNK
    scores = None
    if token is not None:
        scores = tuple(
            TokenScore(token(id), id, log_prob, id == UNK)
            for id, log_prob in zip(ids.tolist(), log_probs.tolist(), strict=True)
        )
    return SentenceScore(
        log_prob=float(log_probs.sum()),
        tokens=len(ids),
        unknown=int(np.count_nonzero(unknown)),
        unknown_log_prob=float(log_probs[unknown].sum()),
        characters=characters,
        line=line,
        text=text,
        token_scores=scores,
    )


def nothing() -> ScoreSum:
    """The sum over no sentence, to which others are added."""
    return ScoreSum(log_prob=0.0, tokens=0, unknown=0, unknown_log_prob=0.0, characters=0)
