"""One run of training from its command to its folder."""

from textgen.training_run.run import plan, train

__all__ = ["plan", "train"]
