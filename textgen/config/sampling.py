"""Configuration of sampling, and of the novelty of samples."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from textgen.config.options import (
    POSITIVE,
    Bounds,
    Config,
    check_real,
    check_strings,
    flag,
    option,
)
from textgen.errors import UsageError

OnUnknown = Literal["unk", "error", "skip"]

_SHARE = Bounds(0, 1, open_low=True, closed_high=True)
_DECODING, _TEXT = "Decoding", "Text"
_SAMPLING_RULES = (
    *("temperature", "top_k", "top_p", "min_p", "typical"),
    *("repetition_penalty", "frequency_penalty", "require"),
)


def parse_temperatures(value: Any) -> Any:
    """Temperatures from ``0.8``, ``1,0.5,0.2`` or a sequence of numbers.

    >>> parse_temperatures("1,0.5")
    (1.0, 0.5)
    """
    if isinstance(value, str):
        try:
            return tuple(map(float, value.split(",")))
        except ValueError:
            raise UsageError(
                f"not a temperature: {value!r}", where="--temperature", fix="write 0.8 or 1,0.5,0.2"
            ) from None
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def parse_strings(value: Any) -> Any:
    """A string, or several."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


@dataclass(frozen=True)
class SamplingConfig(Config):
    """How text is generated."""

    temperature: tuple[float, ...] = option(
        (1.0,),
        "Below 1 favours likely tokens, above 1 unlikely ones; 0 is greedy. Several are used"
        " in turn, one per token.",
        panel=_DECODING,
        parse=parse_temperatures,
        metavar="X[,X...]",
        shown="1",
    )
    top_k: int | None = option(
        None,
        "Draw only from the N most probable tokens.",
        panel=_DECODING,
        bounds=Bounds(1),
    )
    top_p: float | None = option(
        None,
        "Draw only from the most probable tokens that together have this probability.",
        panel=_DECODING,
        bounds=_SHARE,
    )
    min_p: float | None = option(
        None,
        "Exclude tokens less probable than this fraction of the most probable one.",
        panel=_DECODING,
        bounds=Bounds(0, 1, closed_high=True),
    )
    typical: float | None = option(
        None,
        "Draw only from the tokens of most typical surprisal that together have this probability.",
        panel=_DECODING,
        bounds=_SHARE,
    )
    repetition_penalty: float | None = option(
        None,
        "Divide the logits of tokens that have occurred by this.",
        panel=_DECODING,
        bounds=POSITIVE,
    )
    frequency_penalty: float | None = option(
        None,
        "Subtract this from the logit of a token for each time it has occurred.",
        panel=_DECODING,
        bounds=Bounds(-math.inf, open_low=True),
    )
    no_repeat_ngram: int | None = option(
        None,
        "Never repeat a sequence of N tokens.",
        panel=_DECODING,
        bounds=Bounds(1),
    )
    ban: tuple[str, ...] = option(
        (), "Never generate this text; may be repeated.", panel=_DECODING, parse=parse_strings
    )
    require: tuple[str, ...] = option(
        (),
        "Insert this text at a probable place if the sample lacks it; may be repeated.",
        panel=_DECODING,
        parse=parse_strings,
    )
    allow_unk: bool = option(False, "Allow the model to generate <UNK>.", panel=_DECODING)
    beams: int | None = option(
        None,
        "Beam search with this many beams for the most probable texts, instead of drawing.",
        panel=_DECODING,
        bounds=Bounds(1, 2**16),
    )
    length_penalty: float = option(
        0.0,
        "In beam search, divide the log-probability of a text by its length to this power.",
        panel=_DECODING,
        bounds=Bounds(0, 100),
    )
    length: int = option(
        500,
        "Maximum number of tokens.",
        panel=_TEXT,
        bounds=Bounds(1),
    )
    sentences: int | None = option(
        None,
        "Stop after this many sentences.",
        panel=_TEXT,
        bounds=Bounds(1),
    )
    stop: tuple[str, ...] = option(
        (), "Stop before this text; may be repeated.", panel=_TEXT, parse=parse_strings
    )
    on_unknown: OnUnknown = option(
        "unk",
        "Replace unknown characters or words of a prompt by <UNK>, stop, or skip them.",
        panel=_TEXT,
    )
    count: int = option(
        1,
        "Number of samples per prompt.",
        panel=_TEXT,
        bounds=Bounds(1),
    )
    seed: int = option(
        1,
        "The same seed gives the same text.",
        panel=_TEXT,
        bounds=Bounds(0),
    )
    fast: bool = option(
        False,
        "Use 8-bit weights: faster for large models, slightly less accurate.",
        panel=_TEXT,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", parse_temperatures(self.temperature))
        if not self.temperature:
            raise UsageError("--temperature must name at least one")
        for temperature in self.temperature:
            check_real("temperature", temperature, 0, math.inf)
        for name in ("ban", "require", "stop"):
            check_strings(name, getattr(self, name))
        super().__post_init__()
        self._check_together()

    def _check_together(self) -> None:
        """Refuse options that exclude each other."""
        for string in self.require:
            for name in ("ban", "stop"):
                if any(other in string for other in getattr(self, name)):
                    raise UsageError(
                        f"--require {string!r} and {flag(name)} cannot both be met",
                        fix="leave one out",
                    )
        if self.beams is None:
            if self.length_penalty:
                raise UsageError(
                    "--length-penalty applies to beam search only", fix="add --beams N"
                )
            return
        if self.count > self.beams:
            raise UsageError(
                f"--beams {self.beams} cannot find {self.count} texts",
                fix=f"give --beams {self.count} or more",
            )
        for name in _SAMPLING_RULES:
            if getattr(self, name) != getattr(type(self), name):
                raise UsageError(
                    f"{flag(name)} and --beams cannot both be given",
                    why="beam search finds the most probable texts and draws nothing",
                    fix="leave one out",
                )


_NOVELTY = "Novelty"


@dataclass(frozen=True)
class NoveltyConfig(Config):
    """How novel a text must be."""

    novelty: bool = option(
        False, "Report how much of each sample is copied from the training text.", panel=_NOVELTY
    )
    min_novelty: float | None = option(
        None,
        "Draw each sample again until at least this share of it is not copied.",
        panel=_NOVELTY,
        bounds=Bounds(0, 1, closed_high=True),
    )
    copied_length: int = option(
        30,
        "Least number of characters that count as copied.",
        panel=_NOVELTY,
        bounds=Bounds(1),
    )
