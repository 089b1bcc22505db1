"""``textgen plot``: pictures of models and of their training, a command each."""

from textgen.cli.plot.embeddings import embeddings
from textgen.cli.plot.gradient import gradient
from textgen.cli.plot.loss import loss
from textgen.cli.plot.memory import memory
from textgen.cli.plot.neurons import neurons

HELP = """Draw pictures of models: how they learned, what they remember, what goes on inside.

    Each picture is drawn here, in the terminal, or into a PNG or SVG file with --out.
    """
EXAMPLES = """
    How two runs learned, as a picture for a slide:
    textgen plot loss checkpoints/lstm checkpoints/rnn --out loss.png
    The vanishing gradient, here in the terminal:
    textgen plot gradient checkpoints/lstm checkpoints/rnn
"""
COMMANDS = (loss, gradient, memory, embeddings, neurons)

__all__ = ["COMMANDS", "EXAMPLES", "HELP"]
