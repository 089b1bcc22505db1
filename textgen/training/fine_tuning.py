"""What a fine-tune begins from: the weights, shape and tokenizer of a checkpoint."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from textgen import checkpoint, storage
from textgen.config import ModelConfig, TokenizerConfig, flag, option_names
from textgen.data.encoded import EncodedCorpus
from textgen.errors import UsageError
from textgen.tokenizers.base import SPECIAL_TOKENS, Tokenizer
from textgen.tokenizers.registry import load_tokenizer_from
from textgen.tokenizers.vocabulary import SymbolTokenizer
from textgen.training.run import Origin, Settings, training_for

_MOST_NAMED = 10
_LIMITS = frozenset({"min_count", "vocab_size"})  # of what --extend-vocabulary adds


def check(out: Path, given: str | None, *, resume: bool, extend: bool) -> None:
    """Refuse a fine-tune that would write into the checkpoint it reads, or that goes on already."""
    if given is None:
        if extend:
            raise UsageError("--extend-vocabulary needs --init-from")
        return
    if resume:
        raise UsageError(
            "--resume and --init-from cannot both be given",
            why="the run in --out has its own weights by now",
            fix="leave --init-from out to go on",
        )
    if not given:
        raise UsageError("--init-from names no checkpoint", fix="give a checkpoint's folder")
    _, found = checkpoint.find(Path(given))
    source, target = found.resolve(), out.resolve()
    if target in (source, source.parent) or source in target.parents:
        raise UsageError(
            f"--init-from {given} and --out {out} are the same run",
            why="the checkpoint that a run begins from is only read",
            fix="choose another --out, or go on with --resume",
        )


def take_over(asked: Settings, options: dict[str, Any], given: str, *, extend: bool) -> Settings:
    """The settings of a run that begins with a checkpoint's weights, shape and tokenizer.

    extend: whether its vocabulary may grow. Raises UsageError where an option contradicts it.
    """
    saved = checkpoint.load(Path(given))
    known = saved.tokenizer
    _check_contradictions(asked, saved, options, given, extend=extend)
    config = known.config
    if extend:
        if not isinstance(known, SymbolTokenizer):
            raise UsageError(
                f"--extend-vocabulary cannot be used with --init-from {given}",
                why=f"its {known.level} tokens write every text already, by bytes where none fits",
                fix="leave --extend-vocabulary out",
            )
        least = asked.tokenizer.min_count or config.min_count
        config = dataclasses.replace(config, min_count=least, vocab_size=asked.tokenizer.vocab_size)
    weights = storage.sha256_of(saved.folder / checkpoint.WEIGHTS)
    return dataclasses.replace(
        asked,
        tokenizer=config,
        model=saved.header.model,
        training=training_for(options, saved.header.model),  # whose kind no option need name
        origin=Origin(saved, given, weights, extend),
    )


def _check_contradictions(
    asked: Settings,
    saved: checkpoint.Checkpoint,
    options: dict[str, Any],
    given: str,
    *,
    extend: bool,
) -> None:
    """Weights fit one shape and one vocabulary, so these are not to be asked for otherwise."""
    kept_tokens, kept_shape = saved.tokenizer.config, saved.header.model
    named = options.keys() - (_LIMITS if extend else frozenset())
    for name in sorted(named & option_names(TokenizerConfig)):
        new, kept = _effective(asked.tokenizer, name), _effective(kept_tokens, name)
        is_size = name == "vocab_size" and new == saved.tokenizer.vocabulary_size
        if new != kept and not is_size:
            raise _contradiction(name, options[name], given, kept)
    for name in sorted(named & option_names(ModelConfig)):
        if getattr(asked.model, name) != getattr(kept_shape, name):
            raise _contradiction(name, options[name], given, getattr(kept_shape, name))
    size, there = asked.tokenizer.vocab_size, saved.tokenizer.vocabulary_size
    if extend and size is not None and size < there:
        raise _contradiction("vocab_size", size, given, f"{there} tokens, and none is dropped")
    path = asked.source.tokenizer
    if path is not None and load_tokenizer_from(path).fingerprint != saved.tokenizer.fingerprint:
        raise _contradiction("tokenizer", path, given, "another tokenizer")


def _effective(config: TokenizerConfig, name: str) -> object:
    """A setting as it works, so that a default that is spelled out is the default."""
    effective = {"min_count": config.least_count, "vocab_size": config.largest_vocabulary}
    return effective[name] if name in effective else getattr(config, name)


def _contradiction(name: str, value: object, given: str, kept: object) -> UsageError:
    if isinstance(value, bool):  # a switch: its two spellings say it all
        switches = {True: flag(name), False: flag(f"no_{name}")}
        asked, shown = switches[value], switches[not value]
    else:
        asked = f"{flag(name)} {value}"
        shown = ",".join(map(str, kept)) if isinstance(kept, tuple) else str(kept)
    return UsageError(
        f"{asked} contradicts --init-from {given}",
        why=f"that checkpoint has {'none' if kept is None else shown}",
        fix=f"leave {flag(name)} out, or train a new model without --init-from",
    )


def check_encoded(origin: Origin, tokenizer: Tokenizer, folder: Path) -> None:
    """Refuse ids that the checkpoint's tokenizer did not make, or whose vocabulary cannot grow."""
    if tokenizer.fingerprint != origin.checkpoint.tokenizer.fingerprint:
        raise UsageError(
            f"the corpus contradicts --init-from {origin.given}",
            where=folder,
            why="it was tokenized with another tokenizer",
            fix=f"give the text, or tokenize it with --tokenizer {origin.given}",
        )
    if origin.extends:
        raise UsageError(
            "--extend-vocabulary needs the corpus as text",
            where=folder,
            why="it is tokenized already",
            fix="leave the option out, or give the text",
        )


def notes(
    origin: Origin,
    tokenizer: Tokenizer,
    encoded: EncodedCorpus,
    texts: Callable[[], Iterable[str]] | None,
) -> tuple[str, ...]:
    """What a person should hear of how the new text fits the old vocabulary.

    tokenizer: the run's, extended or not. texts: gives the training part anew, if it is at hand.
    """
    saved = origin.checkpoint
    said = [f"begins with the weights of {origin.given}, {saved.name} of step {saved.header.step}"]
    if isinstance(tokenizer, SymbolTokenizer) and origin.extends:
        added = tokenizer.symbols[saved.tokenizer.vocabulary_size - len(SPECIAL_TOKENS) :]
        said.append(f"tokens added to the vocabulary: {len(added):,}{_most_often(added)}")
    train = encoded.header.train
    if train.unknown:
        lacking: list[str] = []
        if isinstance(tokenizer, SymbolTokenizer) and texts is not None:
            lacking = tokenizer.unknown_symbols(texts())
        said.append(
            f"{train.unknown / train.tokens:.2%} of the training tokens are unknown"
            f" and become <UNK>{_most_often(lacking)}"
            + ("" if origin.extends or not lacking else "; --extend-vocabulary would add them")
        )
    return tuple(said)


def _most_often(symbols: Iterable[str]) -> str:
    named = " ".join(map(repr, [*symbols][:_MOST_NAMED]))
    return f", most often {named}" if named else ""
