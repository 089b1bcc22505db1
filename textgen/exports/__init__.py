"""Models written for other programs: one module per format, and the command ``textgen export``."""

from typing import Literal

PagePrecision = Literal["int8", "float16", "float32"]
"""Of the weights in an HTML page."""
