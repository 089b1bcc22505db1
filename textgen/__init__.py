"""Train a recurrent language model on your own text, write with it, score sentences with it.

>>> from textgen import LanguageModel, train
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel
    from textgen.studies.compare.runs import compare
    from textgen.training.train import plan, train


__version__ = "0.1.0"
__all__ = ["LanguageModel", "__version__", "compare", "plan", "train"]

_HOMES = {
    "LanguageModel": "textgen.language_model",
    "compare": "textgen.studies.compare.runs",
    "plan": "textgen.training.train",
    "train": "textgen.training.train",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when first asked for: ``import textgen`` loads no torch."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
