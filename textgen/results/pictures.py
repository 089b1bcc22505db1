"""What pictures are drawn from: curves of a run, gradients, embeddings, single units."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LossPoint:
    """A loss in nats a token, and when in its run it was measured.

    tokens: seen until then. seconds, epochs: likewise; nan where the record does not tell.
    """

    step: int
    tokens: float
    epochs: float
    seconds: float
    loss: float


@dataclass(frozen=True)
class LossCurves:
    """The training loss, mean since the point before, and the validation loss of a run.

    pseudo: whether they are of tokens predicted from both sides, which no true loss compares with.
    """

    checkpoint: str
    training: tuple[LossPoint, ...]
    validation: tuple[LossPoint, ...]
    pseudo: bool = False


@dataclass(frozen=True, slots=True)
class GradientNorm:
    """How much of a loss reaches back to the state of ``lag`` tokens before.

    median, lower, upper: of the norms over the places tried, with their quartiles; in nats for
    each unit of change of the state.
    """

    lag: int
    median: float
    lower: float
    upper: float


@dataclass(frozen=True)
class GradientNorms:
    """The norms at lags 1, 2, 3 ... of one model.

    state: the names of the tensors whose gradients are taken together, such as ``cell.0``.
    places: how many losses there were.
    """

    checkpoint: str
    state: tuple[str, ...]
    places: int
    norms: tuple[GradientNorm, ...]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A token near another. similarity: the cosine of their embeddings."""

    token: str
    similarity: float


@dataclass(frozen=True)
class Neighbours:
    """A token and those nearest to it, the nearest first."""

    token: str
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class MappedToken:
    """A token's place on a map of embeddings."""

    token: str
    x: float
    y: float


@dataclass(frozen=True)
class EmbeddingMap:
    """Tokens on a plane, the most frequent first.

    explained: of PCA, the share of the variance that each axis shows; None of t-SNE, whose axes
    have no meaning. width: of the embeddings.
    """

    checkpoint: str
    method: str
    width: int
    tokens: tuple[MappedToken, ...]
    explained: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Tracking:
    """A unit and what it goes with. correlation: Pearson's, over the tokens of a text."""

    feature: str
    unit: str
    correlation: float


@dataclass(frozen=True, slots=True)
class Activation:
    """What a token stands for in the text, and a unit's value once it is read."""

    text: str
    value: float


@dataclass(frozen=True)
class UnitTrace:
    """One unit, all along a text. unit: such as ``cell.0.17``: tensor, layer and number.

    largest: the 99th percentile of the value's size over all the text that was read.
    """

    checkpoint: str
    unit: str
    largest: float
    activations: tuple[Activation, ...]
    tracks: Tracking | None = None
