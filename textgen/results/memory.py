"""How much a model remembers."""

from dataclasses import dataclass
from typing import Literal

from textgen.results.studies import Accuracy

RecallKind = Literal["agreement", "brackets", "facts", "pronouns", "quotes"]


@dataclass(frozen=True)
class Recall:
    """How often a choice that something earlier has settled is made right.

    kind: what has to be remembered. shortest, longest: the distances that are counted here, in
    characters between what settles the choice and the choice; without an end where longest is
    None. distance: their mean; not a number where there are none. accuracy: of the right text
    against one wrong one, so that a half is chance.
    """

    kind: RecallKind
    shortest: int
    longest: int | None
    distance: float
    accuracy: Accuracy


@dataclass(frozen=True)
class ContextLoss:
    """The loss of a model that may read so many tokens before the one that it predicts.

    context: how many; None: all that there are. loss: nats a token. error: the standard error
    of ``loss``, as an estimate of that of the whole text. tokens: how many were predicted, the
    same ones for every context.
    """

    context: int | None
    loss: float
    error: float
    tokens: int
