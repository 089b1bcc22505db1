"""The registry of model kinds, and the configuration of each kind's shape; imports no torch.

A new kind is a file in ``textgen.models``, its configuration here if it has options of its own, and
an entry of ``KINDS``. How the defaults were tuned is in ``docs/models.md``.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Self, cast

from textgen.config.options import (
    Bounds,
    Config,
    check_choice,
    check_whole,
    flag,
    option,
    parse_sizes,
    setting,
)
from textgen.errors import UsageError, not_both


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        place: Its module in ``textgen.models`` and its class, imported when one is built.
        config: Gives the class of its configuration, which is defined further down.
        defaults: Of its options, and of those in TrainingConfig that differ for this kind; a width
            that is not among them is chosen for the length of the run.
        counts: Whether it is estimated from counts in one step, without options of optimization.
    """

    place: str
    config: "Callable[[], type[ModelConfig]]"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    counts: bool = False

    @property
    def options(self) -> frozenset[str]:
        """The names of the options of such a model."""
        fields = self.config().fields().items()
        return frozenset(name for name, spec in fields if "help" in spec.metadata) - {"model"}


KINDS: Mapping[str, Kind] = {
    "lstm": Kind("lstm:LSTMModel", lambda: LSTMConfig),
    "lstm+ngram": Kind(
        "mixture:MixtureModel", lambda: MixtureConfig, {"order": 8, "ngram_embeddings": 0}
    ),
    "gru": Kind("gru:GRUModel", lambda: RecurrentConfig),
    "rnn": Kind(
        "rnn:RNNModel",
        lambda: RNNConfig,
        {"learning_rate": 4e-3, "activation": "tanh", "recurrence": "orthogonal"},
    ),
    "ngram": Kind("ngram:NgramModel", lambda: NgramConfig, {"order": 7}, counts=True),
    "feedforward": Kind(
        "feedforward:FeedForwardModel",
        lambda: FeedForwardConfig,
        {"window": 10, "hidden_size": (512,), "embedding_size": 64, "learning_rate": 4e-3},
    ),
    "bag-of-words": Kind(
        "feedforward:BagOfWordsModel",
        lambda: FeedForwardConfig,
        {"window": 3, "hidden_size": (512,), "embedding_size": 64, "learning_rate": 5e-3},
    ),
    "hmm": Kind(
        "hmm:HiddenMarkovModel",
        lambda: HiddenMarkovConfig,
        {
            "states": 512,
            "batch_size": 32,
            "learning_rate": 0.1,
            "weight_decay": 0.0,
            "dropout": 0.0,
        },
    ),
    "bidirectional": Kind("bidirectional:BidirectionalModel", lambda: RecurrentConfig),
}

LEARNED_BY_COUNTING = {"steps": 1}
"""The length of a run of a model that is estimated from counts."""

UNRESOLVED: Any = None
"""The value of a field that was not given, until ``ModelConfig.resolved`` replaces it."""

Activation = Literal["tanh", "relu"]
Recurrence = Literal["orthogonal", "identity"]

_option = partial(option, panel="Model")
_MOST_LAYERS = 64
_MOST_CHARACTERS = 1000  # a larger vocabulary has words or subwords
_ORDER_OF_WORDS = 4
_USUAL_HIDDEN_SIZE = (512,)
_NGRAM_EMBEDDINGS = 5
_SIZES: Mapping[str, Callable[[Any], str]] = {
    "embedding_size": lambda width: f"embedding {width}" if width else "one-hot",
    "window": "{} tokens".format,
    "states": "{} states".format,
    "order": "order {}".format,
}
"""Options besides the layers that determine the size of a model, and how each is described."""


def defaults_of_kinds(name: str) -> str:
    """The default of each kind that has its own: ``feedforward 10, bag-of-words 3``."""
    defaults = {
        model: kind.defaults[name] for model, kind in KINDS.items() if name in kind.defaults
    }
    return ", ".join(
        f"{model} {','.join(map(str, value)) if isinstance(value, tuple) else f'{value:g}'}"
        for model, value in defaults.items()
    )


@dataclass(frozen=True)
class ModelConfig(Config):
    """What the configurations of all kinds share; each kind has a subclass with its own options.

    A field that is ``UNRESOLVED`` gets its value from ``resolved``. A model is built of a
    configuration in which nothing is unresolved.
    """

    model: str = _option("lstm", "The kind of model: " + ", ".join(KINDS) + ".", metavar="NAME")
    vocabulary_size: int = setting(0, Bounds(0))

    def __post_init__(self) -> None:
        check_choice("model", self.model, tuple(KINDS))
        if type(self) is not self.kind.config():
            raise TypeError(f"{type(self).__name__} is not the configuration of {self.model}")
        super().__post_init__()

    @classmethod
    def fields(cls) -> dict[str, "dataclasses.Field[Any]"]:
        """Its fields; of ModelConfig itself those of all kinds, in the order of the registry."""
        if cls is not ModelConfig:
            return super().fields()
        configs = (kind.config() for kind in KINDS.values())
        return {name: spec for config in configs for name, spec in config.fields().items()}

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """The configuration of the kind that the options name.

        Raises UsageError for an option that this kind does not have.
        """
        if cls is not ModelConfig:
            return super().from_options(options)
        model = options.get("model")
        if model is None:
            model = "lstm"
        check_choice("model", model, tuple(KINDS))
        kind = KINDS[model]
        for name in cls.fields():
            having = [each for each, other in KINDS.items() if name in other.options]
            if having and model not in having and options.get(name) is not None:
                raise UsageError(
                    f"{flag(name)} is no option of --model {model}",
                    fix=f"leave it out; {', '.join(having)} {'has' if len(having) == 1 else 'have'}"
                    " it",
                )
        return cast(Self, kind.config().from_options(options))

    @property
    def kind(self) -> Kind:
        return KINDS[self.model]

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Units of each layer; empty without layers, or if they are unresolved."""
        return ()

    @property
    def sizes(self) -> list[str]:
        """The options that determine the size of such a model."""
        return [name for name in ("hidden_size", *_SIZES) if name in self.kind.options]

    @property
    def description(self) -> str:
        """A short description: ``lstm 512, embedding 128 (tied)``, ``hmm, 256 states``."""
        layers = ",".join(map(str, self.layer_sizes))
        parts = (self.model, getattr(self, "activation", ""), layers)
        sizes = [_SIZES[name](getattr(self, name)) for name in self.sizes if name in _SIZES]
        return ", ".join([" ".join(filter(None, parts)), *sizes])

    def resolved(self, vocabulary_size: int) -> Self:
        """The shape for a vocabulary of this size, no field of which is unresolved."""
        defaults = {
            name: value
            for name, value in self.kind.defaults.items()
            if name in self.fields() and getattr(self, name) is UNRESOLVED
        }
        return dataclasses.replace(self, vocabulary_size=vocabulary_size, **defaults)


@dataclass(frozen=True)
class LayersConfig(ModelConfig):
    """Models with embeddings and layers of units."""

    hidden_size: tuple[int, ...] = _option(
        UNRESOLVED,
        "Units per layer, one number for each layer, such as 256,128.",
        parse=parse_sizes,
        metavar="N[,N...]",
        shown="chosen for the text and the --budget, else 512; " + defaults_of_kinds("hidden_size"),
    )
    embedding_size: int = _option(
        UNRESOLVED,
        "Size of the embeddings; with 0 the input is one-hot vectors.",
        shown="chosen for the vocabulary; " + defaults_of_kinds("embedding_size"),
        bounds=Bounds(0),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size is UNRESOLVED:
            return
        if not self.hidden_size:
            raise UsageError("--hidden-size must name at least one layer")
        if len(self.hidden_size) > _MOST_LAYERS:
            raise UsageError(f"--hidden-size must name at most {_MOST_LAYERS} layers")
        for size in self.hidden_size:
            check_whole("hidden_size", size, 1)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        return self.hidden_size or ()


@dataclass(frozen=True)
class RecurrentConfig(LayersConfig):
    """Recurrent models, whose input may be one-hot and whose output may be tied."""

    tie: bool = _option(
        UNRESOLVED,
        "Use the same matrix for embedding and output.",
        shown="if the vocabulary is over 1000",
    )
    embeddings: str | None = _option(
        None,
        "Initialize the embeddings from word vectors, in the text format of word2vec or GloVe.",
        parse=os.fspath,
        metavar="FILE",
    )
    freeze_embeddings: bool | None = _option(None, "Do not train the vectors of --embeddings.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tie and self.embedding_size == 0:
            why = "one-hot input has no matrix to share with the output"
            raise not_both("--tie", "--embedding-size 0", why)
        if self.freeze_embeddings and self.embeddings is None:
            raise UsageError(
                "--freeze-embeddings needs --embeddings",
                why="random embeddings would never be trained",
                fix="name a file of word vectors",
            )
        if self.freeze_embeddings and self.tie:
            raise not_both("--freeze-embeddings", "--tie", "the output layer would be frozen too")
        if UNRESOLVED in (self.hidden_size, self.embedding_size) or not self.tie:
            return
        if self.embedding_size != self.hidden_size[-1]:
            raise UsageError(
                f"--tie needs --embedding-size {self.embedding_size} to equal the last"
                f" --hidden-size {self.hidden_size[-1]}",
                fix="leave --embedding-size out, or add --no-tie",
            )

    @property
    def description(self) -> str:
        how = " (tied)" if self.tie else " (frozen)" if self.freeze_embeddings else ""
        return super().description + how

    def resolved(self, vocabulary_size: int) -> Self:
        config = super().resolved(vocabulary_size)
        tie, embedding_size = self.tie, self.embedding_size
        # One matrix for both, given its width, is as wide as a layer.
        of_matrix = (embedding_size,) if tie and embedding_size is not UNRESOLVED else UNRESOLVED
        hidden_size = self.hidden_size or of_matrix or _USUAL_HIDDEN_SIZE
        if tie is UNRESOLVED:
            large = vocabulary_size > _MOST_CHARACTERS and not self.freeze_embeddings
            tie = large and embedding_size in (UNRESOLVED, hidden_size[-1])
        if embedding_size is UNRESOLVED:
            embedding_size = hidden_size[-1] if tie else min(128, hidden_size[0])
        return dataclasses.replace(
            config, hidden_size=hidden_size, embedding_size=embedding_size, tie=tie
        )


@dataclass(frozen=True)
class LSTMConfig(RecurrentConfig):
    """LSTMs, whose input may include embeddings of the last tokens together.

    Attributes:
        ngram_rows: The number of vectors for the n-grams of each length.
    """

    ngram_embeddings: int = _option(
        UNRESOLVED,
        "Length of the longest n-grams of the last tokens that have an embedding of their own,"
        " found by a hash; 0 for none.",
        shown=f"{_NGRAM_EMBEDDINGS} where the vocabulary is at most {_MOST_CHARACTERS}, else 0; "
        + defaults_of_kinds("ngram_embeddings"),
        bounds=Bounds(0, 16),
    )
    ngram_rows: int = setting(2**14, Bounds(1, 2**24))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ngram_embeddings == 1:
            raise UsageError(
                "--ngram-embeddings 1 is the embedding itself", fix="give 0, or at least 2"
            )
        if self.ngram_embeddings and self.embedding_size == 0:
            why = "one-hot input has no embedding to add to"
            raise not_both("--ngram-embeddings", "--embedding-size 0", why)

    def resolved(self, vocabulary_size: int) -> Self:
        config = super().resolved(vocabulary_size)
        if config.ngram_embeddings is not UNRESOLVED:
            return config
        of_characters = vocabulary_size <= _MOST_CHARACTERS and config.embedding_size
        longest = _NGRAM_EMBEDDINGS if of_characters else 0
        return dataclasses.replace(config, ngram_embeddings=longest)


@dataclass(frozen=True)
class RNNConfig(RecurrentConfig):
    """Plain recurrent networks."""

    activation: Activation = _option(
        UNRESOLVED, "Activation function of --model rnn.", shown="tanh"
    )
    recurrence: Recurrence = _option(
        UNRESOLVED,
        "Initialization of the recurrent weights of --model rnn; identity is for relu.",
        shown="orthogonal",
    )


@dataclass(frozen=True)
class NgramConfig(ModelConfig):
    """Models with n-grams.

    Attributes:
        entries: The number of n-grams of each order from 2; empty before a text was counted.
    """

    order: int = _option(
        UNRESOLVED,
        "Order of the n-grams: the number of tokens in the longest.",
        shown=defaults_of_kinds("order") + f"; {_ORDER_OF_WORDS} where the vocabulary is over 1000",
        bounds=Bounds(1, 100),
    )
    entries: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "entries", tuple(self.entries))
        for size in self.entries:
            check_whole("entries", size, 0)
        if self.entries and len(self.entries) != (self.order or 1) - 1:
            raise UsageError(f"{len(self.entries)} n-gram tables do not fit --order {self.order}")

    def resolved(self, vocabulary_size: int) -> Self:
        """As for every kind; for another vocabulary the text must be counted again."""
        config = super().resolved(vocabulary_size)
        if self.order is UNRESOLVED and vocabulary_size > _MOST_CHARACTERS:
            config = dataclasses.replace(config, order=min(config.order, _ORDER_OF_WORDS))
        if vocabulary_size != self.vocabulary_size:
            config = dataclasses.replace(config, entries=())
        return config


def is_uncounted(model: ModelConfig) -> bool:
    """Whether it has n-grams that are not counted yet, which are among its parameters."""
    return isinstance(model, NgramConfig) and not model.entries and model.order != 1


@dataclass(frozen=True)
class MixtureConfig(NgramConfig, LSTMConfig):
    """An LSTM interpolated with n-grams."""


@dataclass(frozen=True)
class FeedForwardConfig(LayersConfig):
    """Feedforward n-gram models, which read a fixed number of tokens."""

    window: int = _option(
        UNRESOLVED,
        "Number of tokens that a model with a fixed window reads.",
        shown=defaults_of_kinds("window"),
        bounds=Bounds(1, 2**16),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding_size == 0:
            raise UsageError(
                f"--embedding-size 0 is no option of --model {self.model}",
                why="its input cannot be one-hot",
                fix="give at least 1",
            )


@dataclass(frozen=True)
class HiddenMarkovConfig(ModelConfig):
    """Hidden Markov models."""

    states: int = _option(
        UNRESOLVED, "Number of hidden states.", shown=defaults_of_kinds("states"), bounds=Bounds(1)
    )
