"""Code in C for the steps of sampling, for machines that have a compiler."""

from textgen.native.loading import Library, library
from textgen.native.network import LayerMemory, Network, PackedLayer, PackedMatrix

__all__ = ["LayerMemory", "Library", "Network", "PackedLayer", "PackedMatrix", "library"]
