"""From chunks of text to ids by remembering: a text's chunks are mostly old acquaintances."""

from array import array
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from textgen.tokenizers.base import Ids

_MOST_CHUNKS = 2**18
_LONGEST_CHUNK = 64


class ChunkMemory(dict[str, bytes]):
    """A chunk's ids, worked out when it is first met and remembered while there is room.

    They are kept as the bytes of uint32, because joining bytes beats every loop over numbers.
    work_out: the ids of a chunk. fixed: the chunks that are no text, such as a newline.
    """

    def __init__(
        self, work_out: Callable[[str], Iterable[int]], fixed: Mapping[str, Iterable[int]]
    ) -> None:
        self._work_out = work_out
        self._fixed = {chunk: _bytes(ids) for chunk, ids in fixed.items()}
        super().__init__(self._fixed)

    def __missing__(self, chunk: str) -> bytes:
        ids = _bytes(self._work_out(chunk))
        if len(chunk) <= _LONGEST_CHUNK:
            if len(self) >= _MOST_CHUNKS:
                self.clear()
                self.update(self._fixed)
            self[chunk] = ids
        return ids

    def ids(self, lists: Iterable[list[str]]) -> Ids:
        """The ids of all the chunks in these lists."""
        known = self.__getitem__
        joined = b"".join([b"".join(map(known, chunks)) for chunks in lists])
        return np.frombuffer(joined, dtype=np.uint32)


def _bytes(ids: Iterable[int]) -> bytes:
    return array("I", ids).tobytes()
