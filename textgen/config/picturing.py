"""What can be chosen of pictures."""

from typing import Literal

LossOver = Literal["seconds", "tokens", "steps", "epochs"]
"""What the loss is shown over."""

MapMethod = Literal["pca", "tsne"]
"""How embeddings come to lie on a plane."""
