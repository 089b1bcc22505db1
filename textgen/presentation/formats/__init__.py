"""Layouts of scores, one module each; a new one is a file and a line here."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textgen.presentation.formats.base import ScoreWriter

FORMATS: Mapping[str, str] = {
    "table": "table:TableScores",
    "tsv": "tsv:TsvScores",
    "json": "json_lines:JsonScores",
    "heatmap": "heatmap:HeatMapScores",
    "kenlm": "kenlm:KenlmScores",
    "lm-zoo": "lm_zoo:LmZooScores",
    "neural-complexity": "neural_complexity:NeuralComplexityScores",
    "theanolm": "theanolm:TheanolmScores",
}
"""The class of each, in a module of this package that is imported when it is chosen."""


def score_writer(name: str) -> "type[ScoreWriter]":
    module, _, cls = FORMATS[name].partition(":")
    found: type[ScoreWriter] = getattr(import_module(f"{__name__}.{module}"), cls)
    return found
