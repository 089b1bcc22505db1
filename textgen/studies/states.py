"""What of a model's state is numbers that move by degrees: cells, hidden units, beliefs."""

from torch import Tensor

from textgen.errors import UsageError
from textgen.language_model import LanguageModel
from textgen.models import State


def continuous(state: State) -> dict[str, Tensor]:
    """The tensors of a state that are real numbers, by name."""
    return {name: each for name, each in state.tensors().items() if each.is_floating_point()}


def check_continuous(model: LanguageModel, asked: str) -> tuple[str, ...]:
    """The names of a model's continuous state. Raises UsageError where it has none.

    asked: what needs it, for the message.
    """
    kind = model.header.model.model
    if not model.model.generates:
        raise UsageError(
            f"{asked} needs a model that reads from left to right",
            where=model.path,
            why=f"{kind} reads both ways",
        )
    names = tuple(continuous(model.model.start(1)))
    if not names:
        raise UsageError(
            f"{asked} needs a model with a state of real numbers",
            where=model.path,
            why=f"{kind} remembers only which tokens came",
            fix="name a recurrent model",
        )
    return names
