"""Checkpoint folders: a model, its tokenizer and how it was trained; no pickle anywhere.

``best`` and ``last`` are each complete and can be loaded alone, wherever they are copied. ``last``
also holds what resuming needs to continue bit for bit.
"""

from textgen.checkpoint.folder import (
    BEST,
    LAST,
    METRICS,
    WEIGHTS,
    Checkpoint,
    Resumable,
    find,
    load,
    load_resumable,
    save,
)
from textgen.checkpoint.header import (
    CONFIG,
    Header,
    read_header,
    read_validation,
    validation_json,
)
from textgen.checkpoint.metrics import describe, loss_curves

__all__ = [
    "BEST",
    "CONFIG",
    "LAST",
    "METRICS",
    "WEIGHTS",
    "Checkpoint",
    "Header",
    "Resumable",
    "describe",
    "find",
    "load",
    "load_resumable",
    "loss_curves",
    "read_header",
    "read_validation",
    "save",
    "validation_json",
]
