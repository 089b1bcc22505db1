"""From chunks of text to ids by remembering: a text's chunks are mostly old acquaintances."""

from array import array
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from textgen.tokenizers.base import Ids

WorkOut = Callable[[list[str]], Iterable[Iterable[int]]]

_MOST_CHUNKS = 2**18
_LONGEST_CHUNK = 64


class ChunkMemory:
    """A chunk's ids, worked out when it is first met and remembered while there is room.

    They are kept as the bytes of uint32, because joining bytes beats every loop over numbers.
    work_out: the ids of each of some chunks. fixed: the chunks that are no text, as a newline.
    """

    def __init__(self, work_out: WorkOut, fixed: Mapping[str, Iterable[int]]) -> None:
        self._work_out = work_out
        self._fixed = {chunk: _bytes(ids) for chunk, ids in fixed.items()}
        self._known = dict(self._fixed)

    def ids(self, lists: Iterable[list[str]]) -> Ids:
        """The ids of all the chunks in these lists."""
        parts = []
        for chunks in lists:
            found = list(map(self._known.get, chunks))
            if None in found:
                new = self._meet([c for c, ids in zip(chunks, found, strict=True) if ids is None])
                found = [
                    new[c] if ids is None else ids for c, ids in zip(chunks, found, strict=True)
                ]
            parts.append(b"".join(found))  # type: ignore[arg-type]
        return np.frombuffer(b"".join(parts), dtype=np.uint32)

    def _meet(self, chunks: list[str]) -> dict[str, bytes]:
        """Work out the ids of all that is new together, and remember what is short."""
        distinct = list(dict.fromkeys(chunks))
        new = dict(zip(distinct, map(_bytes, self._work_out(distinct)), strict=True))
        if len(self._known) >= _MOST_CHUNKS:
            self._known = dict(self._fixed)
        self._known.update((c, ids) for c, ids in new.items() if len(c) <= _LONGEST_CHUNK)
        return new


def _bytes(ids: Iterable[int]) -> bytes:
    return array("I", ids).tobytes()
