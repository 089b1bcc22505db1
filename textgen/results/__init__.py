"""What the library returns: frozen values with their units."""

from textgen.results.texts import (
    CheckpointInfo,
    FinishReason,
    Sample,
    ScoreSum,
    SentenceScore,
    TokenizerSummary,
    TokenScore,
)
from textgen.results.training import (
    CheckpointSaved,
    NgramBaseline,
    Plan,
    PlannedOption,
    TrainingEvent,
    TrainingResult,
    TrainingSample,
    TrainingStart,
    TrainingStep,
    TrainingWarning,
    Validation,
)

__all__ = [
    "CheckpointInfo",
    "CheckpointSaved",
    "FinishReason",
    "NgramBaseline",
    "Plan",
    "PlannedOption",
    "Sample",
    "ScoreSum",
    "SentenceScore",
    "TokenScore",
    "TokenizerSummary",
    "TrainingEvent",
    "TrainingResult",
    "TrainingSample",
    "TrainingStart",
    "TrainingStep",
    "TrainingWarning",
    "Validation",
]
