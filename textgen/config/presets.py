"""Options that belong together, by the name that ``--preset`` takes. One given by hand wins."""

from collections.abc import Mapping
from typing import Any

from textgen.config.options import check_choice

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The language model of the courses: words, two layers, embeddings of their own.
    "textbook": {
        "level": "word",
        "vocab_size": 10_000,
        "model": "lstm",
        "hidden_size": (256, 128),
        "embedding_size": 200,
        "tie": False,
    },
}


def with_preset(options: Mapping[str, Any], preset: str | None) -> dict[str, Any]:
    """The options, and those of the preset that are not among them.

    Raises UsageError for a name that is none.
    """
    if preset is None:
        return dict(options)
    check_choice("preset", preset, tuple(PRESETS))
    return {**PRESETS[preset], **{name: v for name, v in options.items() if v is not None}}
