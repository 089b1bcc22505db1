"""Code in C for the steps and draws of sampling, for machines that have a compiler."""

from textgen.inference.native.kernels import (
    LayerMemory,
    Network,
    NgramLevel,
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
    "NgramLevel",
    "Ngrams",
    "Numbers",
    "PackedLayer",
    "PackedMatrix",
    "draw",
    "library",
]
