r"""N-gram models as ARPA files, for KenLM, SRILM and what decodes speech with them.

Such a file has log10 p of every n-gram, and the back-off weight of its context, in one line:
``log10 p <tab> tokens between spaces <tab> log10 of the weight``. ``<EOS>`` before a sentence is
``<s>``, ``<EOS>`` at its end is ``</s>``, and ``<UNK>`` is ``<unk>``. N-grams that go on after the
end of a sentence, which textgen uses in document context, have no place in it.
"""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from textgen.errors import UsageError
from textgen.language_model import LanguageModel
from textgen.models.ngram import NgramModel, NgramOrder, NgramTables
from textgen.storage import NewFile
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, Tokenizer
from textgen.tokenizers.subword import SubwordTokenizer

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
_RESERVED = {BEGIN, END, UNKNOWN, "<UNK>"}  # KenLM also reads the last as <unk>
_SPACE = "\u2581"
_BYTE = re.compile(r"<(?=0x[0-9A-F]{2}>)")
_NO_CONTEXT = -99  # log10 p of <s>, which is never predicted
_KENLM_ORDERS = range(2, 7)
_BLOCK = 2**16  # n-grams written at a time

Ids = npt.NDArray[np.int64]


def write(model: LanguageModel, out: Path) -> list[str]:
    """Write an n-gram model; with gzip, if the name ends in ``.gz``.

    Raises:
        UsageError: It is of another kind.
    """
    if not isinstance(model.model, NgramModel):
        raise UsageError(
            f"--to arpa has no place for --model {model.header.model.model}",
            where=model.path,
            why="an ARPA file lists n-grams and their probabilities",
            fix="train one with --model ngram, or export a network with --to onnx",
        )
    tables = model.model.tables
    tokens = written_tokens(model.tokenizer)
    with NewFile(out) as file:
        # The gzip format; without a time, so that equal models are equal files.
        packer = zlib.compressobj(wbits=31) if out.name.endswith(".gz") else None
        for lines in _blocks(tables, tokens):
            data = "".join(lines).encode()
            file.write(data if packer is None else packer.compress(data))
        if packer is not None:
            file.write(packer.flush())
        file.finish()
    notes = []
    if tables.order not in _KENLM_ORDERS:
        notes.append(
            f"this model has order {tables.order}, and KenLM as it is usually built reads orders"
            f" {_KENLM_ORDERS[0]} to {_KENLM_ORDERS[-1]}: train with another --order, or see"
            " docs/doors/arpa.md"
        )
    config = model.tokenizer.config
    if not (config.level == "word" and config.split == "whitespace"):
        notes.append(
            "its words are the tokens of the model, so text must be split into them:"
            " see docs/doors/arpa.md"
        )
    return notes


def written_tokens(tokenizer: Tokenizer) -> list[str]:
    r"""The tokens of a vocabulary as an ARPA file has them: without white space, each once.

    Each is its entry in the vocabulary, with a space as ``▁``; other white space, a ``▁`` of the
    text, and the ``<`` of what would be read as something else, are bytes such as ``<0x0A>``. So
    the text is back when each ``<0x..>`` is replaced by its byte and then ``▁`` by a space.
    """
    subword = isinstance(tokenizer, SubwordTokenizer)
    tokens = []
    for id in range(len(SPECIAL_TOKENS), tokenizer.vocabulary_size):
        token = tokenizer.token(id)
        if subword:  # whose entries have the same marks
            is_byte = _BYTE.match(token) is not None and len(token) == len("<0x00>")
            tokens.append(token if is_byte else escaped(token.replace(_SPACE, " ")))
        else:
            tokens.append(escaped(token))
    return [UNKNOWN, END, *tokens]


def escaped(token: str) -> str:
    r"""A token without white space, which stands for nothing else.

    >>> escaped("a b"), escaped("\n"), escaped("▁"), escaped("<s>"), escaped("<b>")
    ('a▁b', '<0x0A>', '<0xE2><0x96><0x81>', '<0x3C>s>', '<b>')
    """
    if token in _RESERVED:
        return _bytes("<") + token[1:]
    token = _BYTE.sub(_bytes("<"), token)
    special = (char for char in token if char == _SPACE or (char.isspace() and char != " "))
    for char in dict.fromkeys(special):
        token = token.replace(char, _bytes(char))
    return token.replace("\0", _bytes("\0")).replace(" ", _SPACE)


def _bytes(char: str) -> str:
    return "".join(f"<0x{byte:02X}>" for byte in char.encode())


def sentence(tokenizer: Tokenizer, text: str) -> str:
    """The tokens of a sentence as the ARPA file of its model has them, between spaces.

    >>> from textgen.config import TokenizerConfig
    >>> from textgen.tokenizers.character import CharacterTokenizer
    >>> sentence(CharacterTokenizer(TokenizerConfig(), ["a", " "]), "a ab")
    'a ▁ a <unk>'
    """
    tokens = written_tokens(tokenizer)
    return " ".join(tokens[id] for id in tokenizer.encode(text))


def _blocks(tables: NgramTables, tokens: list[str]) -> Iterator[list[str]]:
    """The lines of the file, in blocks; of what is computed, two orders are in memory at a time."""
    size, orders = tables.vocabulary_size, tables.cpu_orders
    names = np.array([*tokens, BEGIN], object)
    kept = _kept(tables)
    counts = [int(each.sum()) for each in kept]
    counts[0] += 1  # <s>
    yield ["\\data\\\n", *(f"ngram {n}={count}\n" for n, count in enumerate(counts, start=1))]
    probabilities = tables.unigrams.cpu().numpy()
    suffixes = np.zeros(size + 1, np.int64)
    for length, order in enumerate(orders, start=1):
        ngrams, keys = np.flatnonzero(kept[length - 1]), order.keys.numpy()
        if length > 1:
            contexts, shorter = keys // size, orders[length - 2].keys
            # The n-gram without its first token, which is found from that of its context.
            wanted = torch.from_numpy(suffixes[contexts] * size + keys % size)
            suffixes = torch.searchsorted(shorter, wanted).numpy()
            backed_off = order.backoff.numpy()[contexts] * probabilities[suffixes]
            probabilities = order.probability.numpy() + backed_off
        yield [f"\n\\{length}-grams:\n"]
        backoff = orders[length].backoff.numpy() if length < tables.order else None
        if length == 1:
            yield [f"{_NO_CONTEXT}\t{BEGIN}{_weights(backoff, np.array([size]))[0]}\n"]
        for begin in range(0, len(ngrams), _BLOCK):
            block = ngrams[begin : begin + _BLOCK]
            columns = [names[ids].tolist() for ids in _columns(orders, length, block)]
            logs = np.minimum(np.log10(probabilities[block]), 0.0).tolist()
            yield [
                f"{log:.7g}\t{' '.join(ngram)}{weight}\n"
                for log, weight, *ngram in zip(
                    logs, _weights(backoff, block), *columns, strict=True
                )
            ]
    yield ["\n\\end\\\n"]


def _weights(backoff: npt.NDArray[np.float64] | None, ngrams: Ids) -> list[str]:
    """The ends of the lines of n-grams: log10 of their back-off weights, if there are longer ones.

    All have one: pyctcdecode reads no unigram without it.
    """
    if backoff is None:
        return [""] * len(ngrams)
    return [f"\t{weight:.7g}" for weight in np.log10(backoff[ngrams]).tolist()]


def _kept(tables: NgramTables) -> list[npt.NDArray[np.bool_]]:
    """For each order, which n-grams are within a sentence: with ``<EOS>`` at most as the last."""
    size = tables.vocabulary_size
    kept = [np.ones(size, np.bool_)]
    continues = np.arange(size + 1) != EOS  # with <s>, whose id is the vocabulary size
    for order in tables.cpu_orders[1:]:
        kept.append(continues[order.keys.numpy() // size])
        continues = kept[-1] & (order.tokens.numpy() != EOS)
    return kept


def _columns(orders: list[NgramOrder], length: int, ngrams: Ids) -> list[Ids]:
    """The tokens of n-grams of one order, the first tokens first; (ngrams,) each."""
    columns = []
    for order in orders[length - 1 : 0 : -1]:
        columns.append(order.tokens.numpy()[ngrams])
        ngrams = order.keys.numpy()[ngrams] // len(orders[0].tokens)
    return [ngrams, *reversed(columns)]
