"""Scores as they come, in the layout that a person, a script or a tool of the field reads."""

from collections.abc import Mapping

from textgen.presentation.scores.base import ADAPTED, ScoreWriter, Shown
from textgen.presentation.scores.heatmap import HeatMapScores
from textgen.presentation.scores.json_lines import JsonScores
from textgen.presentation.scores.kenlm import KenlmScores
from textgen.presentation.scores.lm_zoo import LmZooScores
from textgen.presentation.scores.neural_complexity import NeuralComplexityScores
from textgen.presentation.scores.table import TableScores
from textgen.presentation.scores.theanolm import TheanolmScores
from textgen.presentation.scores.totals import comparison, say_totals
from textgen.presentation.scores.tsv import TsvScores

__all__ = ["ADAPTED", "FORMATS", "ScoreWriter", "Shown", "comparison", "say_totals"]

FORMATS: Mapping[str, type[ScoreWriter]] = {
    "table": TableScores,
    "tsv": TsvScores,
    "json": JsonScores,
    "heatmap": HeatMapScores,
    "kenlm": KenlmScores,
    "lm-zoo": LmZooScores,
    "neural-complexity": NeuralComplexityScores,
    "theanolm": TheanolmScores,
}
