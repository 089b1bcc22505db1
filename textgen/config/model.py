"""The registry of model kinds, and the configuration of a model's shape; imports no torch.

A new kind is a file in ``textgen.models`` and an entry here. How the defaults were tuned is in
``docs/models.md``.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from textgen.config.options import (
    Config,
    check_choice,
    check_flag,
    check_whole,
    flag,
    option,
    parse_sizes,
)
from textgen.errors import UsageError

_NETWORK = ("hidden_size", "embedding_size", "tie", "embeddings", "freeze_embeddings")
_WINDOW = ("window", "hidden_size", "embedding_size")


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    place: its module in ``textgen.models`` and its class, imported when one is built.
    options: the fields of ModelConfig that it has. defaults: of these, and of TrainingConfig's
    where its own would not do; a width that is not among them is chosen for the time there is.
    counts: whether it is learned by counting, in one step, and has no options of learning.
    """

    place: str
    options: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    counts: bool = False


KINDS: Mapping[str, Kind] = {
    "lstm": Kind("lstm:LSTMModel", _NETWORK),
    "lstm+ngram": Kind("mixture:MixtureModel", (*_NETWORK, "order"), {"order": 8}),
    "gru": Kind("gru:GRUModel", _NETWORK),
    "rnn": Kind(
        "rnn:RNNModel",
        (*_NETWORK, "activation", "recurrence"),
        {"learning_rate": 4e-3, "activation": "tanh", "recurrence": "orthogonal"},
    ),
    "ngram": Kind("ngram:NgramModel", ("order",), {"order": 7}, counts=True),
    "feedforward": Kind(
        "feedforward:WindowModel",
        _WINDOW,
        {"window": 10, "hidden_size": (512,), "embedding_size": 64, "learning_rate": 4e-3},
    ),
    "bag-of-words": Kind(
        "feedforward:BagModel",
        _WINDOW,
        {"window": 3, "hidden_size": (512,), "embedding_size": 64, "learning_rate": 5e-3},
    ),
    "hmm": Kind(
        "hmm:HiddenMarkovModel",
        ("states",),
        {
            "states": 512,
            "batch_size": 32,
            "learning_rate": 0.1,
            "weight_decay": 0.0,
            "dropout": 0.0,
        },
    ),
    "bidirectional": Kind("bidirectional:BidirectionalModel", _NETWORK),
}

LEARNED_BY_COUNTING = {"steps": 1}
"""The length of a run of a model that counts."""


Activation = Literal["tanh", "relu"]
Recurrence = Literal["orthogonal", "identity"]

_MODEL = "Model"
_MOST_LAYERS = 64
_LONGEST_ORDER = 100
_MOST_CHARACTERS = 1000  # a larger vocabulary is of words, or pieces of them
_ORDER_OF_WORDS = 4
_LONGEST_WINDOW = 2**16
_USUAL_HIDDEN_SIZE = (512,)
_TOLD = {
    "embedding_size": "embedding {}",
    "window": "{} tokens",
    "states": "{} states",
    "order": "{} tokens",
}
"""How each size is told."""


def _usual(name: str) -> str:
    """What each kind of model takes by default: ``feedforward 10, bag-of-words 3``."""
    defaults = {model: kind.defaults.get(name) for model, kind in KINDS.items()}
    return ", ".join(f"{model} {value}" for model, value in defaults.items() if value is not None)


@dataclass(frozen=True)
class ModelConfig(Config):
    """The shape of the network. What its kind does not have is None.

    counted: of a model that counts, how many entries its tables have.
    """

    model: str = option(
        "lstm",
        "The kind of model: " + ", ".join(KINDS) + ".",
        panel=_MODEL,
        metavar="NAME",
    )
    hidden_size: tuple[int, ...] | None = option(
        None,
        "Units a layer; one number a layer, such as 256,128.",
        panel=_MODEL,
        parse=parse_sizes,
        metavar="N[,N...]",
        shown="by the time there is",
    )
    embedding_size: int | None = option(
        None,
        "Width of a token's embedding; 0 gives the first layer one-hot vectors.",
        panel=_MODEL,
        shown="by vocabulary",
    )
    tie: bool | None = option(
        None,
        "Use one matrix for embedding and output.",
        panel=_MODEL,
        shown="where the vocabulary is over 1000",
    )
    order: int | None = option(
        None,
        "Tokens of the longest n-grams.",
        panel=_MODEL,
        shown=_usual("order") + f"; {_ORDER_OF_WORDS} words",
    )
    embeddings: str | None = option(
        None,
        "Begin with the word vectors of this file, in the text layout of word2vec or GloVe.",
        panel=_MODEL,
        parse=os.fspath,
        metavar="FILE",
    )
    freeze_embeddings: bool | None = option(
        None, "Leave the vectors of --embeddings as they are.", panel=_MODEL
    )
    activation: Activation | None = option(
        None, "What a unit of a plain recurrent network does.", panel=_MODEL, shown="tanh"
    )
    recurrence: Recurrence | None = option(
        None,
        "How its recurrent weights begin; identity is for relu.",
        panel=_MODEL,
        shown="orthogonal",
    )
    window: int | None = option(
        None, "Tokens that a model with a fixed window sees.", panel=_MODEL, shown=_usual("window")
    )
    states: int | None = option(None, "Hidden states.", panel=_MODEL, shown=_usual("states"))
    vocabulary_size: int = 0
    counted: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_choice("model", self.model, tuple(KINDS))
        self._check_apt()
        check_whole("embedding_size", self.embedding_size, 0)
        check_whole("order", self.order, 1, _LONGEST_ORDER)
        check_whole("window", self.window, 1, _LONGEST_WINDOW)
        check_whole("states", self.states, 1)
        check_whole("vocabulary_size", self.vocabulary_size, 0)
        check_flag("tie", self.tie)
        check_flag("freeze_embeddings", self.freeze_embeddings)
        self._check_inputs()
        self._check_layers()
        for name, choices in (("activation", Activation), ("recurrence", Recurrence)):
            if getattr(self, name) is not None:
                check_choice(name, getattr(self, name), get_args(choices))
        object.__setattr__(self, "counted", tuple(self.counted))
        for entries in self.counted:
            check_whole("counted", entries, 0)
        if self.counted and len(self.counted) != (self.order or 1) - 1:
            raise UsageError(f"{len(self.counted)} tables are not those of --order {self.order}")

    def _check_apt(self) -> None:
        """Refuse an option that this kind of model does not have."""
        for spec in dataclasses.fields(self):
            apt = spec.name == "model" or spec.name in self.kind.options
            if "help" in spec.metadata and not apt and getattr(self, spec.name) is not None:
                having = [name for name, kind in KINDS.items() if spec.name in kind.options]
                raise UsageError(
                    f"{flag(spec.name)} is no option of --model {self.model}",
                    fix=f"leave it out; {', '.join(having)} {'has' if len(having) == 1 else 'have'}"
                    " it",
                )

    def _check_layers(self) -> None:
        if self.hidden_size is None:
            return
        if not self.hidden_size:
            raise UsageError("--hidden-size must name at least one layer")
        if len(self.hidden_size) > _MOST_LAYERS:
            raise UsageError(f"--hidden-size must name at most {_MOST_LAYERS} layers")
        for size in self.hidden_size:
            check_whole("hidden_size", size, 1)
        if self.tie and self.embedding_size not in (None, self.hidden_size[-1]):
            raise UsageError(
                f"--tie needs --embedding-size {self.embedding_size} to equal the last"
                f" --hidden-size {self.hidden_size[-1]}",
                fix="leave --embedding-size out, or add --no-tie",
            )

    def _check_inputs(self) -> None:
        """What tokens go in as: one-hot vectors, embeddings drawn, or those of a file."""
        if self.tie and self.embedding_size == 0:
            raise UsageError(
                "--tie and --embedding-size 0 cannot both be given",
                why="one-hot input has no matrix to share with the output",
                fix="keep one",
            )
        if self.embedding_size == 0 and "embeddings" not in self.kind.options:
            raise UsageError(
                f"--embedding-size 0 is no option of --model {self.model}",
                why="its input is no one-hot vectors",
                fix="give at least 1",
            )
        if self.embeddings is not None and not (
            isinstance(self.embeddings, str) and self.embeddings
        ):
            raise UsageError(f"--embeddings must name a file, got {self.embeddings!r}")
        if self.freeze_embeddings and self.embeddings is None:
            raise UsageError(
                "--freeze-embeddings needs --embeddings",
                why="there is nothing to keep in vectors drawn at random",
                fix="name a file of word vectors",
            )
        if self.freeze_embeddings and self.tie:
            raise UsageError(
                "--freeze-embeddings and --tie cannot both be given",
                why="the output's matrix would not learn either",
                fix="keep one",
            )

    @property
    def kind(self) -> Kind:
        return KINDS[self.model]

    @property
    def description(self) -> str:
        """In a few words: ``lstm 512, embedding 128 (tied)``, ``hmm, 256 states``."""
        unit = "" if self.activation is None else f" {self.activation}"
        layers = "" if self.hidden_size is None else " " + ",".join(map(str, self.hidden_size))
        told = {name: getattr(self, name) for name in _TOLD}
        rest = [_TOLD[name].format(value) for name, value in told.items() if value is not None]
        if self.embedding_size == 0:
            rest[0] = "one-hot"
        how = " (tied)" if self.tie else " (frozen)" if self.freeze_embeddings else ""
        return ", ".join([f"{self.model}{unit}{layers}", *rest]) + how

    @property
    def sizes(self) -> list[str]:
        """The options that say how large such a model is."""
        return [name for name in ("hidden_size", *_TOLD) if name in self.kind.options]

    def resolved(self, vocabulary_size: int) -> "ModelConfig":
        """The shape with nothing left open, for a vocabulary of this size."""
        own = {
            name: self.kind.defaults[name]
            for name in self.kind.options
            if name in self.kind.defaults and getattr(self, name) is None
        }
        if "order" in own and vocabulary_size > _MOST_CHARACTERS:
            own["order"] = min(own["order"], _ORDER_OF_WORDS)
        config = dataclasses.replace(self, vocabulary_size=vocabulary_size, **own)
        if "hidden_size" not in self.kind.options:
            return config
        tie, embedding_size = config.tie, config.embedding_size
        # One matrix for both, given its width, is as wide as a layer.
        of_matrix = (embedding_size,) if tie and embedding_size is not None else None
        hidden = config.hidden_size or of_matrix or _USUAL_HIDDEN_SIZE
        if tie is None and "tie" in self.kind.options:
            large = vocabulary_size > _MOST_CHARACTERS and not self.freeze_embeddings
            tie = large and embedding_size in (None, hidden[-1])
        if embedding_size is None:
            embedding_size = hidden[-1] if tie else min(128, hidden[0])
        return dataclasses.replace(
            config, hidden_size=hidden, embedding_size=embedding_size, tie=tie
        )
