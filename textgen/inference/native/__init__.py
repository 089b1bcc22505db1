"""Steps and draws of sampling in C, on machines that have a compiler."""

from textgen.inference.native.kernels import (
    LayerMemory,
    Network,
    Ngrams,
    Numbers,
    PackedLayer,
    PackedMatrix,
    draw,
)
from textgen.inference.native.loading import Library, library

__all__ = [
    "LayerMemory",
    "Library",
    "Network",
    "Ngrams",
    "Numbers",
    "PackedLayer",
    "PackedMatrix",
    "draw",
    "library",
]
