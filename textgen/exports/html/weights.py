"""A model as bytes for a page: its shape and tokenizer in JSON, then its weights.

The bytes are compressed by gzip, whose checksum and length a browser verifies, and written as
characters of 15 bits, U+5000 to U+CFFF. In UTF-16 these take 16 bits, 1.07 times as much as the
bytes themselves; base64 takes 1.33. ``unpack.js`` and ``network.js`` read all this.
"""

import copy
import gzip
import json
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.config import LSTMConfig, RNNConfig
from textgen.errors import UsageError
from textgen.exports import PagePrecision
from textgen.language_model import LanguageModel
from textgen.models import Model
from textgen.models.recurrent import RecurrentModel
from textgen.tokenizers.base import SPECIAL_TOKENS, Tokenizer
from textgen.tokenizers.subword import SubwordTokenizer
from textgen.tokenizers.vocabulary import SymbolTokenizer

KINDS = ("lstm", "gru", "rnn")
_LARGEST_INT8 = 127
_FIRST_CHARACTER, _BITS = 0x5000, 15
Matrix = npt.NDArray[np.float32]


def pack(model: LanguageModel, precision: PagePrecision) -> tuple[bytes, Model]:
    """The bytes of a model, compressed; and a model that predicts as the page will.

    Raises:
        UsageError: A weight is too large for float16.
    """
    network = cast(RecurrentModel, model.model)
    weights = _by_place(network)
    parts, rounded = [], {}
    for name, (weight, is_transposed) in weights.items():
        values = np.ascontiguousarray(weight.T if is_transposed else weight, dtype="<f4")
        if weight.ndim == 2:
            stored, values = _STORE[precision](values)
            parts.append(stored)
        else:
            parts.append(values.tobytes())
        rounded[name] = torch.from_numpy(values.T if is_transposed else values)
    config = network.config
    ngrams = None
    if isinstance(config, LSTMConfig) and config.ngram_embeddings:
        ngrams = {"longest": config.ngram_embeddings, "rows": config.ngram_rows}
    scores, tokenizer = _tokenizer(model.tokenizer)
    header = {
        "precision": precision,
        "kind": config.model,
        "activation": config.activation if isinstance(config, RNNConfig) else None,
        "vocabulary": config.vocabulary_size,
        "embedding": config.embedding_size,
        "layers": list(config.layer_sizes),
        "ngrams": ngrams,
        "tied": config.tie,
        "tokenizer": tokenizer,
    }
    head = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    raw = b"".join([len(head).to_bytes(4, "little"), head, scores, *parts])
    page_model = copy.deepcopy(network)
    page_model.load_state_dict(rounded, strict=False)
    return gzip.compress(raw, 9, mtime=0), page_model


def _by_place(network: RecurrentModel) -> dict[str, tuple[npt.NDArray[Any], bool]]:
    """The weights in the order of ``network.js``, and whether each is stored transposed.

    With one-hot input, the first layer looks up the columns of its matrix, which become rows.
    """
    named = network.state_dict()
    layers = range(len(network.layers))
    order = ["embedding.weight", "ngram_embedding.weight"]
    for layer in layers:
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        order += [f"layers.{layer}.{part}_l0" for part in parts]
    order += ["output.bias"] if network.config.tie else ["output.weight", "output.bias"]
    one_hot = "layers.0.weight_ih_l0" if network.config.embedding_size == 0 else ""
    return {name: (_array(named[name]), name == one_hot) for name in order if name in named}


def _array(weight: Tensor) -> npt.NDArray[Any]:
    return weight.detach().float().cpu().numpy()


def _in_float32(weights: Matrix) -> tuple[bytes, Matrix]:
    return weights.tobytes(), weights


def _in_float16(weights: Matrix) -> tuple[bytes, Matrix]:
    if np.abs(weights).max(initial=0) > np.finfo(np.float16).max:
        raise UsageError("a weight is too large for float16", fix="add --precision float32")
    halves = weights.astype("<f2")
    return halves.tobytes(), halves.astype(np.float32)


def _in_int8(weights: Matrix) -> tuple[bytes, Matrix]:
    """The upper half of the float32 scale of each row, then the rows in steps of their scales.

    Scales are rounded up, so that the largest weight of a row is 127 steps or less.
    """
    least = np.abs(weights).max(1, initial=0) / np.float32(_LARGEST_INT8)
    upper = ((least.view("<u4").astype(np.int64) + 0xFFFF) >> 16).astype("<u2")
    scales = (upper.astype("<u4") << 16).view(np.float32)[:, None]
    steps = np.rint(np.divide(weights, scales, out=np.zeros_like(weights), where=scales > 0))
    stored = steps.astype(np.int8)
    return upper.tobytes() + stored.tobytes(), stored * scales


_STORE: dict[PagePrecision, Callable[[Matrix], tuple[bytes, Matrix]]] = {
    "int8": _in_int8,
    "float16": _in_float16,
    "float32": _in_float32,
}


def _tokenizer(tokenizer: Tokenizer) -> tuple[bytes, dict[str, Any]]:
    """The scores of its pieces in float32, if it has any; and what else ``tokenizer.js`` needs."""
    config = tokenizer.config
    described = {
        name: getattr(config, name)
        for name in ("level", "unit", "split", "subword_model", "unk_literal")
    }
    if isinstance(tokenizer, SubwordTokenizer):
        pieces, scores = zip(*tokenizer.pieces(), strict=True)
        return np.array(scores, "<f4").tobytes(), described | {"pieces": pieces}
    assert isinstance(tokenizer, SymbolTokenizer)
    symbols = [tokenizer.token(id) for id in range(len(SPECIAL_TOKENS), tokenizer.vocabulary_size)]
    return b"", described | {"symbols": symbols}


def as_characters(data: bytes) -> str:
    """Bytes as characters of 15 bits, the least significant bit first.

    >>> [hex(ord(character)) for character in as_characters(b"\\x01\\x80")]
    ['0x5001', '0x5001']
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    filled = np.append(bits, np.zeros(-len(bits) % _BITS, np.uint8)).reshape(-1, _BITS)
    codes = filled @ (1 << np.arange(_BITS, dtype=np.uint16)) + np.uint16(_FIRST_CHARACTER)
    return codes.astype("<u2").tobytes().decode("utf-16-le")
