"""The text of a run as ids, and the tokenizer that made them."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from textgen.config import TokenizerConfig, flag, option_names
from textgen.data.corpus import Corpus, CorpusSource
from textgen.data.encoded import EncodedCorpus, encode_corpus, is_encoded, load_encoded
from textgen.errors import DataError, UsageError
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import learn_tokenizer, load_tokenizer_from
from textgen.tokenizers.vocabulary import SymbolTokenizer
from textgen.training import fine_tuning as origin
from textgen.training.run import Settings
from textgen.training.word_vectors import WordVectors, read_vectors


@dataclass(frozen=True)
class Tokens:
    """A corpus in its two parts, each with at least one token.

    changed: whether it is another text than the run to be resumed was reading.
    notes: what a person should hear of how text and tokenizer fit. vectors: what the tokens
    begin with, where a file has it.
    """

    encoded: EncodedCorpus
    tokenizer: Tokenizer
    changed: bool = False
    notes: tuple[str, ...] = ()
    vectors: WordVectors | None = None


def read_tokens(settings: Settings) -> Tokens:
    """Read the corpus that the settings name, learning the tokenizer where none is given.

    Raises DataError where a part is empty, or is not what a resumed run was reading.
    """
    paths = settings.source.paths
    corpus = None
    if len(paths) == 1 and is_encoded(paths[0]):
        encoded, tokenizer = load_encoded(paths[0])
        _check_same_tokens(settings, tokenizer, paths[0])
        if settings.origin is not None:
            origin.check_encoded(settings.origin, tokenizer, paths[0])
    else:
        known = _known_tokenizer(settings)
        unit = (known.config if known else settings.tokenizer).unit
        corpus = settings.source.open(unit, settings.training.valid_fraction)
        tokenizer = _tokenizer(settings, known, corpus)
        encoded = encode_corpus(corpus, tokenizer)
    check_parts(encoded, paths[0])
    _check_known(settings, encoded, paths[0])
    changed = _is_changed(settings, encoded, tokenizer)
    notes, vectors = _notes(settings, encoded, tokenizer, corpus), _vectors(settings, tokenizer)
    if vectors is not None:
        notes += (vectors.note,)
    return Tokens(encoded, tokenizer, changed, notes, vectors)


def check_parts(encoded: EncodedCorpus, where: Path) -> None:
    """Refuse a text of which nothing is left to learn from, or to be held out."""
    for part, ids in (("training", encoded.train), ("validation", encoded.valid)):
        if not len(ids):
            raise DataError(
                f"the {part} part is empty",
                where=where,
                why="needed at least one token in each part",
                fix="give more text",
            )


def _vectors(settings: Settings, tokenizer: Tokenizer) -> WordVectors | None:
    """The word vectors of a run that begins with some."""
    begun = settings.resumed is not None or settings.origin is not None
    if begun or settings.model.embeddings is None:
        return None
    return read_vectors(settings.model.embeddings, tokenizer)


def _check_known(settings: Settings, encoded: EncodedCorpus, where: Path) -> None:
    train = encoded.header.train
    if train.unknown + train.sentences == train.tokens and train.unknown:
        kept = settings.origin is not None and not settings.origin.extends
        raise DataError(
            "no token is known",
            where=where,
            why=f"all {train.unknown:,} are <UNK>",
            fix="add --extend-vocabulary" if kept else "lower --min-count or raise --vocab-size",
        )


def _tokenizer(settings: Settings, known: Tokenizer | None, corpus: Corpus) -> Tokenizer:
    """The tokenizer that is known, with what is new where that was asked for; or a new one."""
    if settings.origin is not None and settings.origin.extends:
        assert isinstance(known, SymbolTokenizer)
        return known.extended(settings.tokenizer, (text for text, _ in corpus.train()))
    return known or learn_tokenizer(settings.tokenizer, corpus.train())


def _notes(
    settings: Settings, encoded: EncodedCorpus, tokenizer: Tokenizer, corpus: Corpus | None
) -> tuple[str, ...]:
    if settings.origin is None:
        return ()
    texts = None if corpus is None else lambda: (text for text, _ in corpus.train())
    return origin.notes(settings.origin, tokenizer, encoded, texts)


def _known_tokenizer(settings: Settings) -> Tokenizer | None:
    """The tokenizer to reuse, where there is one."""
    if settings.resumed is not None:
        return settings.resumed.tokenizer
    if settings.origin is not None:
        return settings.origin.checkpoint.tokenizer
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
    source, nothing = settings.source, CorpusSource()
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
