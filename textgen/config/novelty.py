"""How new a text must be."""

from dataclasses import dataclass

from textgen.config.options import Config, check_flag, check_real, check_whole, option

_NOVELTY = "Novelty"


@dataclass(frozen=True)
class NoveltyConfig(Config):
    """How new a text must be."""

    novelty: bool = option(
        False, "Say how much of each sample is copied from the training text.", panel=_NOVELTY
    )
    min_novelty: float | None = option(
        None, "Draw a sample again until this share of it is not copied.", panel=_NOVELTY
    )
    copied_length: int = option(30, "Characters that make a copied stretch.", panel=_NOVELTY)

    def __post_init__(self) -> None:
        check_flag("novelty", self.novelty)
        check_real("min_novelty", self.min_novelty, 0, 1, closed_high=True)
        check_whole("copied_length", self.copied_length, 1)
