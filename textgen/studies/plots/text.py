"""The text that a model reads for a plot, and the part of its state that is continuous."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from textgen.data.corpus import bundled_corpus
from textgen.data.encoded import is_encoded, load_encoded
from textgen.data.text import sentences
from textgen.errors import TextgenError, UsageError
from textgen.language_model import LanguageModel
from textgen.models import State


def text_to_read(
    model: LanguageModel, file: str | Path | None = None, *, most: int
) -> tuple[str, str]:
    """The first ``most`` characters of a text, and a description of it.

    Without a file it is the text held out of the model's training if it still exists, else the
    bundled stories.
    """
    terminator = model.tokenizer.terminator or "\n"
    if file is not None:
        found = sentences(file, unit=model.tokenizer.config.unit)
        return _beginning((each + terminator for each in found), most), str(file)
    try:
        return _beginning(_held_out(model), most), "text held out of the training"
    except (TextgenError, OSError, TypeError, KeyError):
        # The corpus was stdin, or has moved.
        stories = sentences(bundled_corpus())
        return _beginning((each + "\n" for each in stories), most), "the bundled stories"


def _held_out(model: LanguageModel) -> Iterator[str]:
    source = model.header.source
    if "-" in source.corpora:
        raise TextgenError("stdin is not stored")
    if len(source.paths) == 1 and is_encoded(source.paths[0]):
        encoded, tokenizer = load_encoded(source.paths[0])
        yield from map(tokenizer.decoder().feed, encoded.valid.tolist())
        return
    corpus = source.open(model.header.corpus.unit, model.header.training)
    for piece in corpus.valid():
        yield piece.text


def _beginning(pieces: Iterable[str], most: int) -> str:
    parts, length = list[str](), 0
    for piece in pieces:
        parts.append(piece)
        length += len(piece)
        if length >= most:
            break
    return "".join(parts)[:most]


def continuous(state: State) -> dict[str, Tensor]:
    """The floating-point tensors of a state, by name."""
    return {name: each for name, each in state.tensors().items() if each.is_floating_point()}


def check_causal(model: LanguageModel, command: str) -> None:
    if not model.model.is_causal:
        raise UsageError(
            f"{command} needs a model that reads from left to right",
            where=model.path,
            why=f"{model.header.model.model} reads both ways",
        )


def check_continuous(model: LanguageModel, command: str) -> tuple[str, ...]:
    """The names of a model's continuous tensors. Raises UsageError if it has none."""
    check_causal(model, command)
    names = tuple(continuous(model.model.start(1)))
    if not names:
        raise UsageError(
            f"{command} needs a model with a state of real numbers",
            where=model.path,
            why=f"the state of {model.header.model.model} is the last tokens",
            fix="name a recurrent model",
        )
    return names
