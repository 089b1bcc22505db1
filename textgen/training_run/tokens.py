"""The text of a run as ids, and the tokenizer that made them."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from textgen.config import TokenizerConfig, flag, option_names
from textgen.corpus import Corpus
from textgen.corpus.bundled import bundled_corpus
from textgen.encoding import EncodedCorpus, encode_corpus, is_encoded, load_encoded
from textgen.errors import DataError, UsageError
from textgen.tokenizers import learn_tokenizer, load_tokenizer_from
from textgen.tokenizers.base import Tokenizer
from textgen.training_run.settings import Settings, Source


@dataclass(frozen=True)
class Tokens:
    """A corpus in its two parts, each with at least one token.

    changed: whether it is another text than the run to be resumed was reading.
    """

    encoded: EncodedCorpus
    tokenizer: Tokenizer
    changed: bool = False


def read_tokens(settings: Settings) -> Tokens:
    """Read the corpus that the settings name, learning the tokenizer where none is given.

    Raises DataError where a part is empty, or is not what a resumed run was reading.
    """
    source = settings.source
    paths = [Path(path) for path in source.corpora] or [bundled_corpus()]
    if len(paths) == 1 and is_encoded(paths[0]):
        encoded, tokenizer = load_encoded(paths[0])
        _check_same_tokens(settings, tokenizer, paths[0])
    else:
        known = _known_tokenizer(settings)
        corpus = Corpus.open(
            [str(path) for path in paths],
            unit=(known.config if known else settings.tokenizer).unit,
            valid=source.valid,
            valid_fraction=settings.training.valid_fraction,
            encoding=source.encoding,
            errors=source.errors,
        )
        tokenizer = known or learn_tokenizer(settings.tokenizer, corpus.train())
        encoded = encode_corpus(corpus, tokenizer)
    for part, ids in (("training", encoded.train), ("validation", encoded.valid)):
        if not len(ids):
            raise DataError(
                f"the {part} part is empty",
                where=paths[0],
                why="needed at least one token in each part",
                fix="give more text",
            )
    train = encoded.header.train
    if train.unknown + train.sentences == train.tokens and train.unknown:
        raise DataError(
            "no token is known",
            where=paths[0],
            why=f"all {train.unknown:,} are <UNK>",
            fix="lower --min-count or raise --vocab-size",
        )
    return Tokens(encoded, tokenizer, _is_changed(settings, encoded, tokenizer))


def _known_tokenizer(settings: Settings) -> Tokenizer | None:
    """The tokenizer to reuse, where there is one."""
    if settings.resumed is not None:
        return settings.resumed.tokenizer
    if settings.source.tokenizer is not None:
        return load_tokenizer_from(settings.source.tokenizer)
    return None


def _check_same_tokens(settings: Settings, tokenizer: Tokenizer, folder: Path) -> None:
    """Ids that are already made cannot be made otherwise."""
    changed = [
        name
        for name in sorted(settings.given & option_names(TokenizerConfig))
        if getattr(settings.tokenizer, name) != getattr(tokenizer.config, name)
    ]
    source, nothing = settings.source, Source()
    names = ("valid", "tokenizer", "encoding", "errors")
    changed += [name for name in names if getattr(source, name) != getattr(nothing, name)]
    changed += sorted(settings.given & {"valid_fraction"})
    if changed and settings.resumed is None:
        raise UsageError(
            f"{flag(changed[0])} needs the corpus as text",
            where=folder,
            why="it is tokenized already",
            fix="leave the option out, or give the text",
        )


def _is_changed(settings: Settings, encoded: EncodedCorpus, tokenizer: Tokenizer) -> bool:
    """A resumed run reads on in the text it was reading, or in another that was accepted."""
    if settings.resumed is None:
        return False
    if tokenizer.fingerprint != settings.resumed.tokenizer.fingerprint:
        raise DataError(
            "the tokenizer has changed since the run was begun",
            where=settings.out,
            fix="give the corpus it was begun with",
        )
    kept, found = settings.resumed.header.corpus, dataclasses.asdict(encoded.header)
    same = all(kept.get(name) == found[name] for name in ("fingerprint", "boundary", "train"))
    if not same and not settings.accept_changed_corpus:
        raise DataError(
            "the corpus has changed since the run was begun",
            where=settings.out,
            fix="give the text it was begun with, or add --accept-changed-corpus",
        )
    return not same
