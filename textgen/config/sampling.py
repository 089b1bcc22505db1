"""Configuration of sampling, and of the novelty of samples."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

from textgen.config.options import (
    Bounds,
    Config,
    check_real,
    check_whole,
    flag,
    option,
    shortened,
)
from textgen.errors import UsageError, not_both

OnUnknown = Literal["unk", "error", "skip"]

_SHARE = Bounds(0, 1, open_low=True, closed_high=True)
# No logit, however large in float32, overflows in float64.
_FACTOR = Bounds(1e-6, 1e6, closed_high=True)
_SUMMAND = Bounds(-1e6, 1e6, closed_high=True)
_decoding = partial(option, panel="Decoding")
_text = partial(option, panel="Text")
_novelty = partial(option, panel="Novelty")
_LOGIT_RULES = (
    *("logit_bias", "repetition_penalty", "frequency_penalty", "presence_penalty"),
    *("dry_multiplier", "top_k", "top_p", "min_p", "typical", "xtc_probability"),
)
_RULE_PARAMETERS = ("dry_base", "dry_allowed_length", "xtc_threshold")
_SAMPLING_RULES = (*_LOGIT_RULES, "temperature", "require")


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


def parse_breakers(value: Any) -> Any:
    """Strings, or none of them for the word ``none``."""
    strings = parse_strings(value)
    return () if strings == ("none",) else strings


def parse_logit_bias(value: Any) -> Any:
    """Pairs of an id and what is added to its logit, from ``15+1.5,7-100``, a mapping or pairs.

    >>> parse_logit_bias("15+1.5,7-100")
    ((15, 1.5), (7, -100.0))
    """
    try:
        if isinstance(value, str):
            found = [re.fullmatch(r"(\d+)([+-].+)", each) for each in value.split(",")]
            return tuple((int(each[1]), float(each[2])) for each in found)  # type: ignore[index]
        pairs = value.items() if isinstance(value, Mapping) else value
        return tuple((id, bias) for id, bias in pairs)
    except (TypeError, ValueError):
        raise UsageError(
            f"not biases: {shortened(value)}", where="--logit-bias", fix="write 15+1.5,7-100"
        ) from None


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
    presence_penalty: float | None = _decoding(
        None, "Subtract this from the logit of a token that has occurred.", bounds=_SUMMAND
    )
    logit_bias: tuple[tuple[int, float], ...] = _decoding(
        (),
        "Add X to the logit of the token with this id (predict --format json shows ids).",
        parse=parse_logit_bias,
        metavar="ID+X[,ID-X...]",
    )
    dry_multiplier: float | None = _decoding(
        None,
        "DRY: subtract this from the logit of a token that would go on with a repetition, and more"
        " the longer it is.",
        bounds=Bounds(0, 1e6, closed_high=True),
    )
    dry_base: float = _decoding(
        1.75,
        "DRY: the factor of what is subtracted per token of the repetition.",
        bounds=Bounds(1, 1e3, closed_high=True),
    )
    dry_allowed_length: int = _decoding(
        2, "DRY: the length, in tokens, from which a repetition counts.", bounds=Bounds(1)
    )
    dry_sequence_breaker: tuple[str, ...] = _decoding(
        ("\n", ":", '"', "*"),
        "DRY: a repetition does not reach across this text; may be repeated, and replaces the"
        " default; none for no text at all.",
        parse=parse_breakers,
        shown='line end, :, " and *',
    )
    xtc_probability: float | None = _decoding(
        None,
        "XTC: at this share of the tokens, exclude all choices that reach --xtc-threshold but the"
        " least probable of these.",
        bounds=Bounds(0, 1, closed_high=True),
    )
    xtc_threshold: float = _decoding(
        0.1,
        "XTC: the probability of a choice that may be excluded.",
        bounds=Bounds(0, 1, closed_high=True),
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
    end_on: tuple[str, ...] = _text(
        (), "Stop after this text; may be repeated.", parse=parse_strings
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
        object.__setattr__(self, "logit_bias", parse_logit_bias(self.logit_bias))
        for id, bias in self.logit_bias:
            check_whole("logit_bias", id, 0)
            check_real("logit_bias", bias, _SUMMAND)
        super().__post_init__()
        for string in self.require:
            for name in ("ban", "stop", "end_on"):
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

    def temperature_at(self, token: int) -> float:
        """The temperature of this token of a sample, counted from 0."""
        return self.temperature[token % len(self.temperature)]

    @cached_property
    def logit_rules(self) -> tuple[Any, ...] | None:
        """The values of the rules that change logits beside the temperature; None without any.

        Samples with equal ones can be drawn together.
        """
        if all(getattr(self, name) == getattr(type(self), name) for name in _LOGIT_RULES):
            return None
        return tuple(getattr(self, name) for name in (*_LOGIT_RULES, *_RULE_PARAMETERS))


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
