"""One run of training from its command to its folder."""

from textgen.training_run.run import train

__all__ = ["train"]
