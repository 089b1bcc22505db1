"""Checkpoint folders: a model, its tokenizer and how it was trained; no pickle anywhere.

``best`` and ``last`` are each complete and can be loaded alone, wherever they are copied. ``last``
also has the state from which resuming continues bit for bit.
"""

from textgen.checkpoint.folder import (
    BEST,
    LAST,
    METRICS,
    WEIGHTS,
    Checkpoint,
    CheckpointInfo,
    Resumable,
    describe,
    find,
    load,
    load_resumable,
    loss_curves,
    save,
)
from textgen.checkpoint.header import (
    CONFIG,
    Header,
    read_header,
    read_validation,
    validation_json,
)

__all__ = [
    "BEST",
    "CONFIG",
    "LAST",
    "METRICS",
    "WEIGHTS",
    "Checkpoint",
    "CheckpointInfo",
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
