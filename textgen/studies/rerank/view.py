"""Reranked n-best lists, in the forms that recognisers' tools read; and tuned weights."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from textgen.config import flag
from textgen.presentation.console import emit, shown
from textgen.presentation.numbers import count, share
from textgen.presentation.records import emit_record
from textgen.presentation.tables import Fact, facts, section
from textgen.studies.rerank.config import RerankingConfig
from textgen.studies.rerank.results import RankedHypothesis, RankedUtterance, TuningResult


def write_nbest(utterance: RankedUtterance) -> None:
    """The list in its new order, in the columns that came in.

    The language model's column has the models' score together, so that acoustic + lm_scale *
    lm + length_penalty * words is the total; a list with one score has the total in its place.
    """
    for each in utterance.hypotheses:
        _line("\t".join(_columns(each)))


def write_1best(utterance: RankedUtterance) -> None:
    """The best hypothesis after the utterance's id."""
    _line(f"{utterance.id} {utterance.hypotheses[0].hypothesis.text}".rstrip(" "))


def write_transcript(utterance: RankedUtterance) -> None:
    """The best hypothesis alone."""
    _line(utterance.hypotheses[0].hypothesis.text)


def write_json(utterance: RankedUtterance) -> None:
    """An object an utterance. ``log_prob`` is natural."""
    hypotheses = [
        {
            "id": each.hypothesis.id,
            "text": each.hypothesis.text,
            "log_prob": each.log_prob,
            "acoustic": each.hypothesis.acoustic,
            "old_lm": each.hypothesis.lm,
            "lm": each.lm,
            "words": each.hypothesis.words,
            "total": each.total,
        }
        for each in utterance.hypotheses
    ]
    emit_record({"utterance": utterance.id, "hypotheses": hypotheses})


FORMATS: Mapping[str, Callable[[RankedUtterance], None]] = {
    "nbest": write_nbest,
    "1best": write_1best,
    "transcripts": write_transcript,
    "json": write_json,
}


def tuning_summary(result: TuningResult) -> RenderableType:
    """The weights found, the errors before and after, and the options to type."""
    found = _weights(result.weights)
    pairs: list[Fact] = [
        *((name.replace("_", " "), f"{value:g}") for name, value in found.items()),
        ("word errors", f"{share(result.wer_after)}, before {share(result.wer_before)}"),
        ("", Text(f"of {count(result.words)} words in {count(result.utterances)} utterances")),
    ]
    options = " ".join(f"{flag(name)} {value!r}" for name, value in found.items())
    next_ = section("Next", Text(options, style="accent"))
    return Group(section("Tuned", facts(pairs)), next_)


def tuning_record(result: TuningResult) -> dict[str, Any]:
    found = dataclasses.asdict(result)
    del found["weights"]
    return {"tuning": _weights(result.weights) | found}


def _weights(weights: RerankingConfig) -> dict[str, Any]:
    return dataclasses.asdict(weights)


def _columns(ranked: RankedHypothesis) -> list[str]:
    hypothesis = ranked.hypothesis
    if hypothesis.acoustic is None:
        return [f"{hypothesis.id} {hypothesis.text}".rstrip(" ")]
    if hypothesis.lm is None:
        return [hypothesis.id, repr(ranked.total), hypothesis.text]
    return [hypothesis.id, repr(hypothesis.acoustic), repr(ranked.lm), hypothesis.text]


def _line(line: str) -> None:
    """A line as it is; on a terminal, so that it cannot drive it."""
    emit((shown(line, keep="\t") if sys.stdout.isatty() else line) + "\n")
