"""What a model is given to read, where it is shown at work and nobody named a text."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from textgen.corpus import sentences
from textgen.corpus.bundled import bundled_corpus
from textgen.encoding import is_encoded, load_encoded
from textgen.errors import TextgenError
from textgen.language_model import LanguageModel
from textgen.training_run.settings import Source


def text_to_read(
    model: LanguageModel, file: str | Path | None = None, *, most: int
) -> tuple[str, str]:
    """(text, what it is): the beginning of a file, of at most so many characters.

    Without a file, of what was held out of the model's training, where that is still to be
    found; else of the bundled stories.
    """
    terminator = model.tokenizer.terminator or "\n"
    if file is not None:
        found = sentences(file, unit=model.tokenizer.config.unit)
        return _beginning((each + terminator for each in found), most), str(file)
    try:
        return _beginning(_held_out(model), most), "text held out of the training"
    except (TextgenError, OSError, TypeError, KeyError):
        # It was stdin, or has moved: any text of the kind will do.
        stories = sentences(bundled_corpus())
        return _beginning((each + "\n" for each in stories), most), "the bundled stories"


def _held_out(model: LanguageModel) -> Iterator[str]:
    source = Source(**model.header.source)
    if "-" in source.corpora:
        raise TextgenError("not kept")
    if len(source.paths) == 1 and is_encoded(source.paths[0]):
        encoded, tokenizer = load_encoded(source.paths[0])
        yield from map(tokenizer.decoder().feed, encoded.valid.tolist())
        return
    corpus = source.open(model.header.corpus["unit"], model.header.training.valid_fraction)
    for piece in corpus.valid():
        yield piece.text


def _beginning(pieces: Iterable[str], most: int) -> str:
    held, length = list[str](), 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= most:
            break
    return "".join(held)[:most]
