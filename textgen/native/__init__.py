"""Code in C for the steps and draws of sampling, for machines that have a compiler."""

from textgen.native.drawing import Numbers, draw
from textgen.native.loading import Library, library
from textgen.native.network import LayerMemory, Network, PackedLayer, PackedMatrix
from textgen.native.ngrams import NgramLevel, Ngrams

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
