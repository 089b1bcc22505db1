"""Our tokenizers as the ``tokenizer.json`` of the package tokenizers, id by id the same.

That package has rules, which replace or split by regular expressions (of Oniguruma, in the syntax
of Ruby), and models: a list of words, pieces with scores, merges. This module states ours in them.
What depends on the neighbours of a character, such as a joiner mark, is inserted where nothing
stands between the right neighbours.

``<EOS>`` is an added token whose text is the terminator: it is found in a text where we find it,
and decoded as we decode it. The end of a document has no text; there the token is ``<EOS>``.
"""

import importlib.util
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from textgen import storage
from textgen.data.corpus import bundled_corpus
from textgen.data.text import sentences
from textgen.errors import DataError, UsageError
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, UNK, Tokenizer
from textgen.tokenizers.character import CharacterTokenizer
from textgen.tokenizers.pretokenization import (
    APOSTROPHES,
    EMPTY,
    JOINER,
    LONGEST_CHUNK,
    OTHER_SPACES,
    is_word_character,
    symbol_token,
)
from textgen.tokenizers.subword import SCORE_STEP, SPACE, SubwordTokenizer
from textgen.tokenizers.word import WordTokenizer

Rule = dict[str, Any]
"""A step of the package, as its JSON has it."""

_CHECKED, _CHECKED_TOKENS = 300, 40  # texts of each sort, tokens of a random one
_PRIVATE = range(0xF0000, 0xFFFFE)  # for private use: our marks are those that no symbol has
_ANY = r"[\s\S]"


def write_fast_tokenizer(tokenizer: Tokenizer, folder: Path) -> list[str]:
    """Write ``tokenizer.json``; where the package is installed, try it on texts. Returns notes.

    Raises:
        UsageError: As ``tokenizer_json``.
        DataError: The package encodes a text otherwise.
    """
    path = folder / "tokenizer.json"
    storage.write_json(path, tokenizer_json(tokenizer))
    if importlib.util.find_spec("tokenizers") is None:
        return ["tokenizer.json is not checked: the package tokenizers is not installed"]
    from tokenizers import Tokenizer as FastTokenizer

    fast = FastTokenizer.from_file(str(path))
    for text in _sample_texts(tokenizer):
        if fast.encode(text, add_special_tokens=False).ids != tokenizer.encode(text).tolist():
            raise DataError(
                "the package tokenizers encodes a text otherwise",
                where=repr(text[:80]),
                why="its rules are not those that textgen knows",
                fix="use another version of it, and report this",
            )
    return []


def _sample_texts(tokenizer: Tokenizer) -> Iterator[str]:
    """Lines of the bundled stories, and what random ids of the vocabulary decode to."""
    yield from itertools.islice(sentences(bundled_corpus()), _CHECKED)
    generator = np.random.default_rng(0)
    for ids in generator.integers(tokenizer.vocabulary_size, size=(_CHECKED, _CHECKED_TOKENS)):
        yield tokenizer.decode(ids)


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of ``tokenizer.json``.

    Raises:
        UsageError: It has an option that the package has no rules for.
    """
    if isinstance(tokenizer, CharacterTokenizer):
        rules = _characters(tokenizer)
    elif isinstance(tokenizer, WordTokenizer):
        lossless = tokenizer.config.split == "punctuation"
        rules = _marked_words(tokenizer) if lossless else _plain_words(tokenizer)
    else:
        assert isinstance(tokenizer, SubwordTokenizer)
        rules = _subwords(tokenizer)
    end = {"id": EOS, "content": eos_name(tokenizer), "special": True, "normalized": False}
    sides = {"single_word": False, "lstrip": False, "rstrip": False}
    empty = {"truncation": None, "padding": None, "normalizer": None, "post_processor": None}
    return {"version": "1.0", **empty, "added_tokens": [end | sides], **rules}


def eos_name(tokenizer: Tokenizer) -> str:
    """The text of the added token for ``<EOS>``."""
    return tokenizer.terminator or SPECIAL_TOKENS[EOS]


def _characters(tokenizer: CharacterTokenizer) -> dict[str, Any]:
    literal, end = tokenizer.config.unk_literal, tokenizer.terminator
    several = [re.escape(text) for text in (literal, end) if text]
    unspoken = [] if end else [_replace(_whole(SPECIAL_TOKENS[EOS]), "")]
    return {
        "pre_tokenizer": _kept("|".join([*several, _ANY])),
        "decoder": _sequence("decoders", [*unspoken, {"type": "Fuse"}]),
        "model": _word_list(tokenizer, tokenizer.symbols),
    }


def _plain_words(tokenizer: WordTokenizer) -> dict[str, Any]:
    """``--split whitespace``."""
    (mark,) = _marks(tokenizer.symbols, 1)
    word = f"[^\n {OTHER_SPACES}]{{1,{LONGEST_CHUNK}}}"
    end = tokenizer.terminator
    return {
        "pre_tokenizer": _kept(f"{end}|{word}" if end else word),
        "decoder": _spaced(mark, [_end_rule(tokenizer, mark)]),
        "model": _word_list(tokenizer, tokenizer.symbols),
    }


def _marked_words(tokenizer: WordTokenizer) -> dict[str, Any]:
    """``--split punctuation``: the text becomes its tokens with a space between any two.

    As ``pretokenization`` describes it, in its order: empty chunks, parts of long chunks, the
    literal, the marks of symbols; then what stands for a mark of ours gets its name.
    """
    literal = tokenizer.config.unk_literal
    other, unknown, joiner, empty, cut = marks = _marks(tokenizer.symbols, 5)
    letter, apostrophe, escaped = _letters(), APOSTROPHES, symbol_token(JOINER, False, False)
    no_word = f" \n{empty}{cut}"  # on these no word and no symbol depends
    in_word = f"(?:(?<![{letter}])|(?![{apostrophe}][{letter}]))"  # after it: is not inside a word
    steps = [
        _replace(f"[{''.join(marks)}]", other),
        _replace(JOINER, joiner),
        _replace(r"(?<= )(?=[ \n]|\z)|(?:(?<=\n)|\A)(?= )", empty),
        _replace(rf"[^ \n]{{{LONGEST_CHUNK}}}\K(?=[^ \n])", cut),
        *([] if literal is None else [_replace(_literals(literal, letter), unknown)]),
        _replace(f"(?<=[^{no_word}])(?=[^{letter}{unknown}{no_word}]){in_word}", " " + JOINER),
        _replace(
            f"(?<=[^{letter}{unknown}{no_word}])(?<![{letter}][{apostrophe}])"
            f"(?=[{letter}{unknown}])",
            JOINER + " ",
        ),
        _replace(
            f"(?<={unknown})(?=[{letter}{unknown}])|(?<=[{letter}])(?={unknown})", f" {JOINER} "
        ),
        _replace(cut, f" {JOINER} "),
        _replace(empty, EMPTY),
        _replace(joiner, escaped),
    ]
    by_token = [
        _replace(_whole(JOINER), JOINER * 2),
        _replace(_whole("\n"), f"{JOINER}\n{JOINER}"),
        _end_rule(tokenizer, JOINER),
        _replace(_whole(EMPTY), ""),
        _replace(escaped, joiner),
    ]
    return {
        "normalizer": _sequence("normalizers", steps),
        "pre_tokenizer": _kept("|".join([*filter(None, [tokenizer.terminator]), "\n", "[^ \n]+"])),
        "decoder": _spaced(JOINER, by_token, [_replace(joiner, JOINER)]),
        "model": _word_list(tokenizer, tokenizer.symbols),
    }


def _literals(literal: str, letter: str) -> str:
    """Matches ``--unk-literal`` where a scan of the text for tokens comes upon it."""
    found = re.escape(literal) + (f"(?![{letter}])" if is_word_character(literal[-1]) else "")
    word = f"[{letter}]+(?:[{APOSTROPHES}][{letter}]+)*"
    return rf"\G(?>(?:(?!{found})(?>{word}|{_ANY}))*)\K{found}"


def _subwords(tokenizer: SubwordTokenizer) -> dict[str, Any]:
    """The models of sentencepiece, whose pieces here have a space for their mark of it.

    A line longer than ``LONGEST_CHUNK`` is cut as we cut it; within, no piece goes from one word
    into the next.
    """
    config = tokenizer.config
    if config.unk_literal is not None:
        raise UsageError(
            "--unk-literal with --level subword cannot be exported",
            why="the package tokenizers has no rule for it",
            fix="train without it, or with --level word",
        )
    pieces = [(piece.replace(SPACE, " "), score) for piece, score in tokenizer.scored_pieces()]
    cut = [_kept(f"[^\n]{{1,{LONGEST_CHUNK}}}(?= |\n|\\z)|[^\n]{{1,{LONGEST_CHUNK}}}|\n")]
    words = [_kept(r" *[^ ]+| +")]
    end = [] if tokenizer.terminator else [_replace(_whole(eos_name(tokenizer)), "")]
    if config.subword_model == "bpe":
        splits, decoders = [*words, *cut], [{"type": "ByteFallback"}, {"type": "Fuse"}]
        model = _merges(tokenizer, pieces)
    else:
        in_bytes: Rule = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        splits = [*cut, *words, {"type": "ByteLevel", **in_bytes}]
        decoders = [_replace(_UNREAD, ""), {"type": "ByteLevel", **in_bytes}]
        model = _unigrams(tokenizer, pieces)
    return {
        "pre_tokenizer": _sequence("pretokenizers", splits),
        "decoder": _sequence("decoders", [*end, *decoders]),
        "model": model,
    }


_UNREAD = "\u27e8"
"""Begins the name of a byte that no text is encoded to, as its character is a piece."""


def _unigrams(tokenizer: SubwordTokenizer, pieces: list[tuple[str, float]]) -> Rule:
    """Pieces in the characters that GPT-2 writes bytes as, so that each byte is a piece, too.

    (With the package's own fallback, the text ``<0x41>`` would be a byte.) A byte scores less than
    every piece, and a special token less than its characters.
    """
    if any(score % SCORE_STEP for _, score in pieces):
        raise UsageError(
            "this unigram tokenizer cannot be exported",
            why="its scores are of an earlier version of textgen, and their sums are rounded",
            fix="train a model with this version",
        )
    least = math.floor(min(score for _, score in pieces)) - 10.0
    characters = _characters_of_bytes()
    known = {piece for piece, _ in pieces}
    unread = [byte < 0x80 and chr(byte) in known for byte in range(256)]
    of_bytes = [_UNREAD * unread[byte] + characters[byte] for byte in range(256)]
    written = [("".join(map(characters.__getitem__, p.encode())), score) for p, score in pieces]
    names = [SPECIAL_TOKENS[UNK], eos_name(tokenizer)]
    vocabulary = [
        *((name, least * 100) for name in names),
        *((name, least) for name in of_bytes),
        *written,
    ]
    _check_distinct(name for name, _ in vocabulary)
    return {"type": "Unigram", "unk_id": UNK, "vocab": vocabulary, "byte_fallback": False}


def _characters_of_bytes() -> list[str]:
    """The character that GPT-2 and ``ByteLevel`` write each byte as."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = itertools.count(0x100)
    return [chr(byte if byte in shown else next(others)) for byte in range(256)]


def _merges(tokenizer: SubwordTokenizer, pieces: list[tuple[str, float]]) -> Rule:
    """Every way to merge two pieces to a third, in the order of the scores of these."""
    names = [SPECIAL_TOKENS[UNK], eos_name(tokenizer), *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = [*names, *(piece for piece, _ in pieces)]
    _check_distinct(vocabulary)
    known = {piece for piece, _ in pieces}
    merges = [
        [piece[:at], piece[at:]]
        for piece, _ in sorted(pieces, key=lambda each: -each[1])
        for at in range(1, len(piece))
        if piece[:at] in known and piece[at:] in known
    ]
    ids = {name: id for id, name in enumerate(vocabulary)}
    none = dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix"))
    none |= {"end_of_word_suffix": None}
    how = {"fuse_unk": False, "byte_fallback": True, "ignore_merges": False}
    return {"type": "BPE", **none, **how, "vocab": ids, "merges": merges}


def _word_list(tokenizer: Tokenizer, symbols: Sequence[str]) -> Rule:
    names = [SPECIAL_TOKENS[UNK], eos_name(tokenizer), *symbols]
    literal = tokenizer.config.unk_literal
    _check_distinct([*names, literal] if literal not in (None, names[UNK]) else names)
    ids = {name: id for id, name in enumerate(names)}
    return {"type": "WordLevel", "vocab": ids, "unk_token": names[UNK]}


def _check_distinct(names: Iterable[str | None]) -> None:
    """Raises UsageError if the text of a special token is an ordinary token, too."""
    seen = set[str | None]()
    for name in names:
        if name in seen:
            raise UsageError(
                f"a vocabulary with {name!r} in it cannot be exported",
                why="it is the name of a special token",
                fix=f"train with --unk-literal {name!r}, or without it in the text",
            )
        seen.add(name)


def _letters() -> str:
    """The characters of words, as ranges for a class: by this Python's version of Unicode."""
    codes = [code for code in range(0x110000) if is_word_character(chr(code))]
    # Consecutive codes have the same distance to their places.
    runs = itertools.groupby(enumerate(codes), key=lambda each: each[1] - each[0])
    ends = ((run[0][1], run[-1][1]) for run in (list(run) for _, run in runs))
    return "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in ends)


def _marks(symbols: Sequence[str], count: int) -> tuple[str, ...]:
    """Characters that no symbol has."""
    taken = set("".join(symbols))
    free = (char for char in map(chr, _PRIVATE) if char not in taken)
    return tuple(itertools.islice(free, count))


def _end_rule(tokenizer: Tokenizer, mark: str) -> Rule:
    """The text of ``<EOS>``, without spaces beside it."""
    return _replace(_whole(eos_name(tokenizer)), mark + tokenizer.terminator + mark)


def _spaced(mark: str, by_token: list[Rule], at_end: Sequence[Rule] = ()) -> Rule:
    """Decodes tokens with a space between any two, but not on a side where one has the mark."""
    joined: list[Rule] = [
        {"type": "WordPiece", "prefix": mark, "cleanup": False},
        {"type": "Fuse"},
        _replace(f"{mark} ?", ""),
    ]
    return _sequence("decoders", [*by_token, *joined, *at_end])


def _whole(text: str) -> str:
    return rf"\A{re.escape(text)}\z"


def _replace(pattern: str, content: str) -> Rule:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _kept(pattern: str) -> Rule:
    """Splits a text into the matches of a pattern, and drops what is between them."""
    matches = {"pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}
    return {"type": "Split", **matches}


def _sequence(name: str, rules: Sequence[Rule]) -> Rule:
    return {"type": "Sequence", name: list(rules)}
