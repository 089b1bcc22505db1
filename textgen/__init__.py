"""Train a recurrent language model on your own text, generate text with it, score sentences.

>>> from textgen import LanguageModel, train
"""

from typing import TYPE_CHECKING, Any

from textgen.registration import register_with_transformers

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
    """Import a public name at its first use, so that ``import textgen`` does not load torch."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register_with_transformers()
