"""The units in which language models are evaluated, from log-probabilities."""

import math

LOG_2 = math.log(2.0)


def perplexity(loss: float) -> float:
    """exp(loss), loss in nats per token; infinite where that overflows a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def mean_perplexity(log_prob: float, count: int) -> float:
    """The perplexity per unit, such as a word, of which there are ``count``; NaN for 0."""
    return perplexity(-log_prob / count) if count else math.nan


def bits_per_character(log_prob: float, characters: int) -> float:
    """-log2 P(text) / characters, which does not depend on how the text is tokenized."""
    return -log_prob / LOG_2 / characters if characters else math.nan


def surprisal(log_prob: float) -> float:
    """-log2 p of one token, in bits (Hale 2001), from its natural log-probability."""
    return -log_prob / LOG_2


def in_base(log_prob: float, base: float) -> float:
    """A natural log-probability in another base, which is above 1."""
    return log_prob / math.log(base)
