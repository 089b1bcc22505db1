"""What textgen asks of sentencepiece: to learn pieces from a sample, and to load them again."""

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from textgen.config import TokenizerConfig
from textgen.errors import UsageError
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, UNK

SPACE = "\u2581"  # how sentencepiece writes a space
_BYTES = 256
FEWEST_PIECES = len(SPECIAL_TOKENS) + _BYTES
_SAMPLE_CHARACTERS = 2**22
_LINE = re.compile(r".{1,1000}(?= |$)|.{1,1000}")  # sentencepiece leaves longer ones out
# What sentencepiece uses for purposes of its own, or cannot take: these are always bytes.
_NOT_LEARNED = "\x00-\x1f\x7f\u2581\u2585\ud800-\udfff"
_TOO_SMALL = re.compile(r"smaller than required_chars\D+\d+ vs (\d+)")


def learn(config: TokenizerConfig, texts: Iterable[str]) -> tuple[bytes, tuple[str, ...]]:
    """A sentencepiece model, and what there is to note about it.

    Learned from an even sample of the lines, of at most 4 million characters. The vocabulary
    is smaller than asked for where the text supports no more, and larger than the default
    where its characters need it. Raises UsageError where ``--vocab-size`` is too small.
    """
    lines, share = _sample(texts)
    learnable = list(_learnable(lines, config)) or [" "]
    size = config.largest_vocabulary or FEWEST_PIECES
    try:
        model = _train(learnable, size, config)
    except RuntimeError as error:
        needed = _TOO_SMALL.search(str(error))
        if needed is None:
            raise
        least = int(needed[1])
        if config.vocab_size is not None:
            raise UsageError(
                f"--vocab-size {size} is too small for this text",
                why=f"<UNK>, <EOS>, 256 bytes and its characters are {least} tokens",
                fix=f"give at least {least}",
            ) from error
        model = _train(learnable, least, config)
    found = processor(model).get_piece_size()
    notes = [f"the vocabulary is {found}: the text supports no more"] if found < size else []
    if share > 1:
        notes.append(f"the pieces were learned from one line in {share}")
    return model, tuple(notes)


def processor(model: bytes) -> Any:
    """The sentencepiece processor of a model. Raises ValueError where it is not one of ours."""
    import sentencepiece

    try:
        loaded = sentencepiece.SentencePieceProcessor(model_proto=model)
        size = loaded.get_piece_size()
        ours = (loaded.unk_id(), loaded.eos_id(), loaded.bos_id(), loaded.pad_id())
        in_bytes = size >= FEWEST_PIECES and all(
            loaded.is_byte(id) == (id >= len(SPECIAL_TOKENS))
            and (id < len(SPECIAL_TOKENS) or loaded.id_to_piece(id) == f"<0x{id - 2:02X}>")
            for id in range(FEWEST_PIECES)
        )
    except (RuntimeError, UnicodeDecodeError, TypeError) as error:
        raise ValueError(f"sentencepiece does not read it ({error})") from error
    if ours != (UNK, EOS, -1, -1) or not in_bytes:
        raise ValueError("it is a sentencepiece model, but not one of textgen's")
    return loaded


def pieces(loaded: Any) -> list[str]:
    """The pieces from the first byte on, by id. Raises ValueError."""
    try:
        found = [
            loaded.id_to_piece(id) for id in range(len(SPECIAL_TOKENS), loaded.get_piece_size())
        ]
    except UnicodeDecodeError as error:
        raise ValueError("a piece is not UTF-8") from error
    if len(set(found)) != len(found) or not all(found) or SPACE not in found:
        raise ValueError("its pieces are not as textgen learns them")
    return found


def written(found: Sequence[str]) -> list[bytes]:
    """What each of ``pieces`` writes: the single bytes, then the rest."""
    texts = [piece.replace(SPACE, " ").encode() for piece in found[_BYTES:]]
    return [*(bytes([byte]) for byte in range(_BYTES)), *texts]


def _sample(texts: Iterable[str]) -> tuple[list[str], int]:
    """Every n-th line, and the n for which they are not too many."""
    kept: list[str] = []
    share, characters, line_number = 1, 0, 0
    for text in texts:
        lines = text.split("\n")
        chosen = lines[-line_number % share :: share]
        line_number += len(lines)
        kept += chosen
        characters += sum(map(len, chosen))
        while characters > _SAMPLE_CHARACTERS:
            kept, share = kept[::2], share * 2
            characters = sum(map(len, kept))
    return kept, share


def _learnable(lines: Iterable[str], config: TokenizerConfig) -> Iterator[str]:
    """The lines without what is no part of any piece: such characters, and the rare ones."""
    lines = list(lines)
    apart = f"[{_NOT_LEARNED}]+"
    if config.unk_literal is not None:
        apart += f"|{re.escape(config.unk_literal)}"
    if config.least_count > 1:
        counts: Counter[str] = Counter()
        for line in lines:
            counts.update(line)
        rare = [char for char, count in counts.items() if count < config.least_count]
        apart += "".join(f"|{re.escape(char)}" for char in rare)
    for line in lines:
        for part in re.split(apart, line):
            yield from _LINE.findall(part)


def _train(lines: Iterable[str], size: int, config: TokenizerConfig) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type=config.subword_model,
        vocab_size=size,
        hard_vocab_limit=False,
        byte_fallback=True,
        required_chars=SPACE,  # without a piece of its own, a space would be the bytes of "▁"
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        unk_id=UNK,
        eos_id=EOS,
        bos_id=-1,
        pad_id=-1,
        num_threads=1,  # the sums of several threads would round differently
        minloglevel=2,  # say nothing
    )
    return model.getvalue()
