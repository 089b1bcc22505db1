"""The text of a run as ids, and the tokenizer that made them; imports no torch."""

import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from textgen.config import (
    VALID_OPTIONS,
    RecurrentConfig,
    TokenizerConfig,
    flag,
    option_names,
)
from textgen.data.corpus import Corpus, CorpusSource
from textgen.data.encoded import EncodedCorpus, encode_corpus, is_encoded, load_encoded
from textgen.errors import DataError, UsageError
from textgen.results import PhaseName, TrainingPhase
from textgen.tokenizers.base import SPECIAL_TOKENS, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer, load_tokenizer_from
from textgen.tokenizers.vocabulary import SymbolTokenizer
from textgen.training.run import TrainingRun
from textgen.training.word_vectors import WordVectors, read_vectors


@dataclass(frozen=True)
class TrainingCorpus:
    """A corpus in its two parts, each with at least one token.

    Attributes:
        changed: Whether it differs from the text of the resumed run.
        notes: Remarks for the user on how text and tokenizer fit.
        vectors: Initial embeddings of the tokens, from the file of ``--embeddings``.
    """

    encoded: EncodedCorpus
    tokenizer: Tokenizer
    changed: bool = False
    notes: tuple[str, ...] = ()
    vectors: WordVectors | None = None


OnPhase = Callable[[TrainingPhase], None]
_SECONDS_BETWEEN_PHASES = 0.2


def read_corpus(run: TrainingRun, on_phase: OnPhase = lambda phase: None) -> TrainingCorpus:
    """Read the text of a run, learning the tokenizer where none is given.

    Args:
        on_phase: Called at the start of each phase, and a few times a second while text is read.

    Raises:
        DataError: A part is empty, or the text differs from that of the resumed run.
    """
    where = run.source.paths[0]
    corpus = None
    if len(run.source.paths) == 1 and is_encoded(where):
        encoded, tokenizer = load_encoded(where)
        _check_encoded(run, tokenizer, where)
    else:
        known: Tokenizer | None = None
        if (earlier := run.resumed_from or run.tuned_from) is not None:
            known = earlier.tokenizer
        elif run.source.tokenizer is not None:
            known = load_tokenizer_from(run.source.tokenizer)
        unit = (known.config if known else run.tokenizer).unit
        name, size = run.source.name, run.source.size
        reading = _reporting(on_phase, "reading", name, size)
        corpus = run.source.open(unit, run.training, reading, _if_moved(run))
        if run.extend_vocabulary:
            assert isinstance(known, SymbolTokenizer)
            tokenizer = known.extended(run.tokenizer, (text for text, _ in corpus.train()))
        elif known is not None:
            tokenizer = known
        else:
            corpus.on_read = _reporting(on_phase, "learning", name, corpus.train_characters)
            tokenizer = learn_tokenizer(run.tokenizer, corpus.train())
        corpus.on_read = _reporting(on_phase, "encoding", name, corpus.characters)
        encoded = encode_corpus(corpus, tokenizer)
    check_parts(encoded, where)
    _check_known(run, encoded, where)
    changed = _is_changed(run, encoded, tokenizer)
    learned = run.tuned_from is None and run.source.tokenizer is None
    place = encoded.header.held_out_text
    notes = [
        *([f"held out for validation: {place}"] if place else []),
        *encoded.header.remarks(tokenizer.config, learned=learned),
        *_fine_tuning_notes(run, tokenizer, encoded, corpus),
    ]
    vectors = None
    embeddings = run.model.embeddings if isinstance(run.model, RecurrentConfig) else None
    if embeddings is not None and run.resumed_from is None and run.tuned_from is None:
        vectors = read_vectors(embeddings, tokenizer)
        notes.append(vectors.note)
    return TrainingCorpus(encoded, tokenizer, changed, tuple(notes), vectors)


def _if_moved(run: TrainingRun) -> str | None:
    """What to do if the text of a resumed run is no longer where it was."""
    if run.resumed_from is None or run.source != run.resumed_from.header.source:
        return None
    valid = " --valid FILE" if run.source.valid is not None else ""
    command = f"textgen train CORPUS{valid} --out {shlex.quote(str(run.out))} --resume"
    return f"if it has moved, name where it is now: {command}"


def _reporting(
    on_phase: OnPhase, name: PhaseName, what: str, total: int | None
) -> Callable[[int], None]:
    """Reports the start of a phase; the result reports how far it is, a few times a second."""
    on_phase(TrainingPhase(name, what, 0, total))
    reported = time.monotonic()

    def report(done: int) -> None:
        nonlocal reported
        if (now := time.monotonic()) - reported >= _SECONDS_BETWEEN_PHASES:
            reported = now
            on_phase(TrainingPhase(name, what, done, total))

    return report


def check_parts(encoded: EncodedCorpus, where: Path) -> None:
    """Refuse a text whose training or validation part is empty."""
    for part, ids in (("training", encoded.train), ("validation", encoded.valid)):
        if not len(ids):
            raise DataError(
                f"the {part} part is empty",
                where=where,
                why="needed at least one token in each part",
                fix="give more text",
            )


def _check_known(run: TrainingRun, encoded: EncodedCorpus, where: Path) -> None:
    train = encoded.header.train
    if train.unknown + train.sentences == train.tokens and train.unknown:
        fixed = run.tuned_from is not None and not run.extend_vocabulary
        raise DataError(
            "no token is known",
            where=where,
            why=f"all {train.unknown:,} are <UNK>",
            fix="add --extend-vocabulary" if fixed else "lower --min-count or raise --vocab-size",
        )


def _check_encoded(run: TrainingRun, tokenizer: Tokenizer, folder: Path) -> None:
    """Refuse options that do not apply to encoded text, and ids of another tokenizer."""
    changed = [
        name
        for name in sorted(run.given & option_names(TokenizerConfig))
        if getattr(run.tokenizer, name) != getattr(tokenizer.config, name)
    ]
    default = CorpusSource()
    names = ("valid", "tokenizer", "encoding", "errors")
    changed += [name for name in names if getattr(run.source, name) != getattr(default, name)]
    changed += sorted(run.given & VALID_OPTIONS)
    if run.resumed_from is not None:
        changed = []
    if run.extend_vocabulary:
        changed.append("extend_vocabulary")
    if changed:
        raise needs_text(changed[0], folder)
    old = run.init_from if run.tuned_from is not None else None
    if old is not None and tokenizer.fingerprint != old.tokenizer_fingerprint:
        raise UsageError(
            f"the corpus contradicts --init-from {old.path}",
            where=folder,
            why="it was tokenized with another tokenizer",
            fix=f"give the text, or tokenize it with --tokenizer {old.path}",
        )


def needs_text(option: str, folder: Path) -> UsageError:
    return UsageError(
        f"{flag(option)} needs the corpus as text",
        where=folder,
        why="it is already tokenized",
        fix="leave the option out, or give the text",
    )


def _is_changed(run: TrainingRun, encoded: EncodedCorpus, tokenizer: Tokenizer) -> bool:
    """Whether the text is another than that of the resumed run, and was accepted."""
    saved = run.resumed_from
    if saved is None:
        return False
    if tokenizer.fingerprint != saved.tokenizer.fingerprint:
        raise DataError(
            "the tokenizer has changed since the run was started",
            where=run.out,
            fix="give the corpus it was started with",
        )
    kept, found = saved.header.corpus, encoded.header
    same = (kept.fingerprint, kept.train) == (found.fingerprint, found.train)
    if not same and not run.accept_changed_corpus:
        raise DataError(
            "the corpus has changed since the run was started",
            where=run.out,
            fix="give the text it was started with, or add --accept-changed-corpus",
        )
    return not same


def _fine_tuning_notes(
    run: TrainingRun, tokenizer: Tokenizer, encoded: EncodedCorpus, corpus: Corpus | None
) -> list[str]:
    """How the new text fits the old vocabulary."""
    old, extends = run.init_from, run.extend_vocabulary
    if run.tuned_from is None or old is None:
        return []
    notes = [f"starts from the weights of {old.path}, {old.checkpoint} of step {old.step}"]
    if isinstance(tokenizer, SymbolTokenizer) and extends:
        added = tokenizer.symbols[old.vocabulary_size - len(SPECIAL_TOKENS) :]
        texts = dict.fromkeys(map(tokenizer.symbol_text, added))
        notes.append(f"tokens added to the vocabulary: {len(added):,}{_most_frequent(texts)}")
    train = encoded.header.train
    if train.unknown:
        unknown: list[str] = []
        if isinstance(tokenizer, SymbolTokenizer) and corpus is not None:
            unknown = tokenizer.unknown_texts(text for text, _ in corpus.train())
        notes.append(
            f"{train.unknown / train.tokens:.2%} of the training tokens are unknown"
            f" and become <UNK>{_most_frequent(unknown)}"
            + ("" if extends or not unknown else "; --extend-vocabulary would add them")
        )
    return notes


def _most_frequent(texts: Iterable[str]) -> str:
    named = " ".join(map(repr, [*texts][:10]))
    return f", most often {named}" if named else ""
