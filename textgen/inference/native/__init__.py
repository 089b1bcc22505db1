"""Steps and draws of sampling in C, on machines that have a compiler."""

from textgen.inference.native.kernels import (
    LayerMemory,
    Library,
    Network,
    Ngrams,
    Numbers,
    PackedLayer,
    PackedMatrix,
    draw,
    library,
)

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
