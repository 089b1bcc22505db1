"""How probable a text is: sums over sentences, and the parts of a sentence."""

from dataclasses import dataclass

from textgen import metrics
from textgen.results.texts import Choice


@dataclass(frozen=True, slots=True)
class PartScore:
    """A part of a sentence as the model saw it coming: a token, a word or a character.

    The parts of a sentence add up to it; its ``<EOS>`` is the last of them.

    text: how it is called; of a token its name (``<UNK>`` where it is unknown). surface: as it
    stands in the sentence, with what space is before it; the surfaces of all parts, joined, are
    the sentence. log_prob: natural. unknown: whether an ``<UNK>`` is in it. tokens: how many it
    has. ends: whether it is the sentence's ``<EOS>``, with what white space is before it; a text
    that spells ``<EOS>`` does not. id: of the first token, or of ``<EOS>``.

    entropy: of the distribution over what may come in its place, in bits; of several tokens, that
    before the first. entropy_reduction: by how much it is lower than at the part before, not less
    than 0 (Hale 2006), in bits. rank: of a token, the likeliest being 1. alternatives: the
    likeliest tokens in its place.
    """

    text: str
    surface: str
    log_prob: float
    unknown: bool = False
    tokens: int = 1
    ends: bool = False
    id: int | None = None
    rank: int | None = None
    entropy: float | None = None
    entropy_reduction: float | None = None
    alternatives: tuple[Choice, ...] = ()

    @property
    def surprisal(self) -> float:
        """-log2 p, in bits."""
        return metrics.surprisal(self.log_prob) + 0.0  # of what is certain 0.0, not -0.0


@dataclass(frozen=True)
class ScoreSum:
    """Log-probabilities summed in float64 over some tokens.

    log_prob: natural. tokens: all, ``<EOS>`` included. unknown: those that are ``<UNK>``,
    with unknown_log_prob of the sum. characters, bytes: of the text in UTF-8, terminators
    included. words: what white space separates, and each ``<EOS>``, as in perplexities a word.
    spelled: whether the spelling of what is unknown is in log_prob. pseudo: whether each token
    was given all others of its sentence, those after it too: then the sum is no probability of the
    text but its pseudo-log-likelihood (Besag 1975; Salazar et al. 2020), and is shown as that.
    """

    log_prob: float = 0.0
    tokens: int = 0
    unknown: int = 0
    unknown_log_prob: float = 0.0
    characters: int = 0
    words: int = 0
    bytes: int = 0
    spelled: bool = False
    pseudo: bool = False

    @property
    def perplexity(self) -> float:
        return metrics.perplexity(-self.log_prob / self.tokens) if self.tokens else float("nan")

    @property
    def perplexity_without_unknown(self) -> float:
        """Over the known tokens alone, as KenLM's "excluding OOVs"."""
        known = self.tokens - self.unknown
        if not known:
            return float("nan")
        return metrics.perplexity(-(self.log_prob - self.unknown_log_prob) / known)

    @property
    def perplexity_per_word(self) -> float:
        return metrics.perplexity(-self.log_prob / self.words) if self.words else float("nan")

    @property
    def bits_per_character(self) -> float:
        """Comparable between models where ``comparable``."""
        return metrics.bits_per_character(self.log_prob, self.characters)

    @property
    def bits_per_byte(self) -> float:
        """Comparable between models where ``comparable``."""
        return metrics.bits_per_character(self.log_prob, self.bytes)

    @property
    def comparable(self) -> bool:
        """Whether log_prob is of the text as it is written: nothing unknown is left unspelled."""
        return self.spelled or not self.unknown

    def __add__(self, other: "ScoreSum") -> "ScoreSum":
        return ScoreSum(
            self.log_prob + other.log_prob,
            self.tokens + other.tokens,
            self.unknown + other.unknown,
            self.unknown_log_prob + other.unknown_log_prob,
            self.characters + other.characters,
            self.words + other.words,
            self.bytes + other.bytes,
            self.spelled or other.spelled,
            self.pseudo or other.pseudo,
        )


@dataclass(frozen=True)
class SentenceScore(ScoreSum):
    """How probable one sentence is. line: its number in the input, from 1.

    prefix: what it goes on from, where it is not a whole sentence.

    parts: its tokens, words or characters, where they were asked for. unknown_surfaces: what in
    the text is unknown, in its order.
    """

    line: int = 0
    text: str = ""
    prefix: str | None = None
    parts: tuple[PartScore, ...] | None = None
    unknown_surfaces: tuple[str, ...] = ()
