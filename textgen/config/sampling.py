"""Configuration of sampling, and of the novelty of samples."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from textgen.config.options import Bounds, Config, check_real, flag, option
from textgen.errors import UsageError, not_both

OnUnknown = Literal["unk", "error", "skip"]

_SHARE = Bounds(0, 1, open_low=True, closed_high=True)
# No logit, however large in float32, overflows in float64.
_FACTOR = Bounds(1e-6, 1e6, closed_high=True)
_SUMMAND = Bounds(-1e6, 1e6, closed_high=True)
_decoding = partial(option, panel="Decoding")
_text = partial(option, panel="Text")
_novelty = partial(option, panel="Novelty")
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

    temperature: tuple[float, ...] = _decoding(
        (1.0,),
        "Below 1 favours likely tokens, above 1 unlikely ones; 0 is greedy. Several are used"
        " in turn, one per token.",
        parse=parse_temperatures,
        metavar="X[,X...]",
        shown="1",
    )
    top_k: int | None = _decoding(
        None, "Draw only from the N most probable tokens.", bounds=Bounds(1)
    )
    top_p: float | None = _decoding(
        None,
        "Draw only from the most probable tokens that together have this probability.",
        bounds=_SHARE,
    )
    min_p: float | None = _decoding(
        None,
        "Exclude tokens less probable than this fraction of the most probable one.",
        bounds=Bounds(0, 1, closed_high=True),
    )
    typical: float | None = _decoding(
        None,
        "Draw only from the tokens of most typical surprisal that together have this probability.",
        bounds=_SHARE,
    )
    repetition_penalty: float | None = _decoding(
        None, "Divide the logits of tokens that have occurred by this.", bounds=_FACTOR
    )
    frequency_penalty: float | None = _decoding(
        None,
        "Subtract this from the logit of a token for each time it has occurred.",
        bounds=_SUMMAND,
    )
    no_repeat_ngram: int | None = _decoding(
        None, "Never repeat a sequence of N tokens.", bounds=Bounds(1)
    )
    ban: tuple[str, ...] = _decoding(
        (), "Never generate this text; may be repeated.", parse=parse_strings
    )
    require: tuple[str, ...] = _decoding(
        (),
        "Insert this text at a probable place if the sample lacks it; may be repeated.",
        parse=parse_strings,
    )
    allow_unk: bool = _decoding(False, "Allow the model to generate <UNK>.")
    beams: int | None = _decoding(
        None,
        "Beam search with this many beams for the most probable texts, instead of drawing.",
        bounds=Bounds(1, 2**16),
    )
    length_penalty: float = _decoding(
        0.0,
        "In beam search, divide the log-probability of a text by its length to this power.",
        bounds=Bounds(0, 10, closed_high=True),
    )
    length: int = _text(500, "Maximum number of tokens.", bounds=Bounds(1))
    sentences: int | None = _text(None, "Stop after this many sentences.", bounds=Bounds(1))
    stop: tuple[str, ...] = _text(
        (), "Stop before this text; may be repeated.", parse=parse_strings
    )
    on_unknown: OnUnknown = _text(
        "unk", "Replace unknown characters or words of a prompt by <UNK>, stop, or skip them."
    )
    count: int = _text(1, "Number of samples per prompt.", bounds=Bounds(1))
    seed: int = _text(1, "The same seed gives the same text.", bounds=Bounds(0))
    fast: bool = _text(False, "Use 8-bit weights: faster for large models, slightly less accurate.")

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", parse_temperatures(self.temperature))
        if not self.temperature:
            raise UsageError("--temperature must name at least one")
        for temperature in self.temperature:
            check_real("temperature", temperature, Bounds(0))
        super().__post_init__()
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
                why = "beam search finds the most probable texts and draws nothing"
                raise not_both(flag(name), "--beams", why, fix="leave one out")


@dataclass(frozen=True)
class NoveltyConfig(Config):
    """How novel a text must be."""

    novelty: bool = _novelty(
        False, "Report how much of each sample is copied from the training text."
    )
    min_novelty: float | None = _novelty(
        None,
        "Draw each sample again until at least this share of it is not copied.",
        bounds=Bounds(0, 1, closed_high=True),
    )
    copied_length: int = _novelty(
        30, "Least number of characters that count as copied.", bounds=Bounds(1)
    )
