"""The models, by the name that ``--model`` takes. A new one is a file and a line here.

Here stands what is known of a model without torch: what can be set, and what it takes where
nobody decided. The README says how the defaults were tuned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
    "lstm": Kind("recurrent:LSTMModel", _NETWORK),
    "lstm+ngram": Kind("mixture:MixtureModel", (*_NETWORK, "order"), {"order": 8}),
    "gru": Kind("gru:GRUModel", _NETWORK),
    "rnn": Kind(
        "rnn:RNNModel",
        (*_NETWORK, "activation", "recurrence"),
        {"learning_rate": 4e-3, "activation": "tanh", "recurrence": "orthogonal"},
    ),
    "ngram": Kind("ngram:NgramModel", ("order",), {"order": 7}, counts=True),
    "window": Kind(
        "window:WindowModel",
        _WINDOW,
        {"window": 10, "hidden_size": (512,), "embedding_size": 64, "learning_rate": 4e-3},
    ),
    "bag": Kind(
        "window:BagModel",
        _WINDOW,
        {"window": 3, "hidden_size": (512,), "embedding_size": 64, "learning_rate": 5e-3},
    ),
    "hmm": Kind(
        "hidden_markov:HiddenMarkovModel",
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
