"""How wide a model is to be, to have a given number of parameters."""

from textgen.config import KINDS, ModelConfig, Variant
from textgen.errors import UsageError
from textgen.models import count_parameters

_WIDEST = 2**20


def widths_for(parameters: int, variant: Variant, vocabulary_size: int) -> tuple[int, ...]:
    """The sizes of its layers with which it has as nearly so many parameters as can be.

    Several layers keep the proportions of the kind's defaults. Raises UsageError where even the
    narrowest has more, or the widest there is has fewer.
    """
    usual = KINDS[variant.model].defaults.get("hidden_size", (1,))

    def sizes(width: int) -> tuple[int, ...]:
        return tuple(max(1, round(width * size / usual[0])) for size in usual)

    def count(width: int) -> int:
        options = {**variant.options, "model": variant.model, "hidden_size": sizes(width)}
        return count_parameters(ModelConfig.from_options(options).resolved(vocabulary_size))

    low, high = 1, _WIDEST
    if not count(low) <= parameters <= count(high):
        few = parameters < count(low)
        raise UsageError(
            f"--parameters {parameters} cannot be met by {variant.name}",
            why=f"with a vocabulary of {vocabulary_size:,} it has at {'least' if few else 'most'}"
            f" {count(low if few else high):,}",
            fix="give more" if few else "give fewer",
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= parameters else (low, middle)
    return sizes(min((low, high), key=lambda width: abs(count(width) - parameters)))
