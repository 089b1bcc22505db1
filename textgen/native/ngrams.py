"""What the compiled code is told of n-grams: the structs of ``ngrams.h``."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from textgen.native.addresses import address

_ADDRESS = ctypes.c_void_p


class _Level(ctypes.Structure):
    _fields_ = tuple((name, _ADDRESS) for name in ("begins", "words", "own", "left", "log_seen"))


class _Ngrams(ctypes.Structure):
    _fields_ = (
        ("order", ctypes.c_int64),
        ("vocabulary", ctypes.c_int64),
        ("levels", ctypes.POINTER(_Level)),
        ("first", _ADDRESS),
        ("weight", _ADDRESS),
        ("bias", ctypes.c_float),
        ("numbers", _ADDRESS),
        ("shares", _ADDRESS),
    )


@dataclass(frozen=True)
class NgramLevel:
    """The n-grams of one length, as ``ngrams.h`` has them: int64 and float64.

    begins, words: as they were counted. own: (entries,), the share of each. left: (contexts,),
    the share that is left to shorter n-grams, 1 where nothing follows. log_seen: (contexts,),
    ln(1 + how much was counted after each).
    """

    begins: Tensor
    words: Tensor
    own: Tensor
    left: Tensor
    log_seen: Tensor

    def struct(self) -> _Level:
        whole = (address(each, torch.int64) for each in (self.begins, self.words))
        real = (address(each, torch.float64) for each in (self.own, self.left, self.log_seen))
        return _Level(*whole, *real)


class Ngrams:
    """N-grams to be mixed into rows of logits.

    levels: of 2 tokens, of 3 and so on. first: (vocabulary,) float64. weight, bias: the gate's,
    float32. numbers: (rows, order - 1) int64, read and written by whoever reads on.
    """

    def __init__(
        self,
        levels: Sequence[NgramLevel],
        first: Tensor,
        weight: Tensor,
        bias: float,
        numbers: Tensor,
        threads: int,
    ) -> None:
        structs = (_Level * len(levels))(*(level.struct() for level in levels))
        shares = first.new_empty(threads, 2, len(first))
        self._struct = _Ngrams(
            len(levels) + 1,
            len(first),
            structs,
            address(first, torch.float64),
            address(weight),
            bias,
            address(numbers, torch.int64),
            address(shares, torch.float64),
        )
        self._kept = (levels, structs, first, weight, numbers, shares)
        self.pointer = ctypes.addressof(self._struct)
