"""The shape of the network."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from textgen.config.options import Config, check_flag, check_whole, option, parse_sizes
from textgen.errors import UsageError

_MODEL = "Model"
_MOST_LAYERS = 64


@dataclass(frozen=True)
class ModelConfig(Config):
    """The shape of the network."""

    model: str = option("lstm", "The kind of network.", panel=_MODEL)
    hidden_size: tuple[int, ...] = option(
        (512,),
        "Units a layer; one number a layer, such as 256,128.",
        panel=_MODEL,
        parse=parse_sizes,
        metavar="N[,N...]",
        shown="512",
    )
    embedding_size: int | None = option(
        None, "Width of a token's embedding.", panel=_MODEL, shown="by vocabulary"
    )
    tie: bool | None = option(
        None,
        "Use one matrix for embedding and output.",
        panel=_MODEL,
        shown="where the vocabulary is over 1000",
    )
    vocabulary_size: int = 0

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """As for any configuration; one matrix for both, given its width, is as wide as a layer."""
        width = options.get("embedding_size")
        if options.get("tie") and width is not None and options.get("hidden_size") is None:
            options = {**options, "hidden_size": (width,)}
        return super().from_options(options)

    def __post_init__(self) -> None:
        if not isinstance(self.model, str):
            raise UsageError(f"--model must be a name, got {self.model!r}")
        check_whole("embedding_size", self.embedding_size, 1)
        if not self.hidden_size:
            raise UsageError("--hidden-size must name at least one layer")
        if len(self.hidden_size) > _MOST_LAYERS:
            raise UsageError(f"--hidden-size must name at most {_MOST_LAYERS} layers")
        for size in self.hidden_size:
            check_whole("hidden_size", size, 1)
        check_whole("vocabulary_size", self.vocabulary_size, 0)
        check_flag("tie", self.tie)
        if self.tie and self.embedding_size not in (None, self.hidden_size[-1]):
            raise UsageError(
                f"--tie needs --embedding-size {self.embedding_size} to equal the last"
                f" --hidden-size {self.hidden_size[-1]}",
                fix="leave --embedding-size out, or add --no-tie",
            )

    def resolved(self, vocabulary_size: int) -> "ModelConfig":
        """The shape with nothing left open, for a vocabulary of this size."""
        tie = self.tie
        if tie is None:
            tie = vocabulary_size > 1000 and self.embedding_size in (None, self.hidden_size[-1])
        embedding_size = self.embedding_size
        if embedding_size is None:
            embedding_size = self.hidden_size[-1] if tie else min(128, self.hidden_size[0])
        return dataclasses.replace(
            self, vocabulary_size=vocabulary_size, embedding_size=embedding_size, tie=tie
        )
