"""From chunks of text to ids by remembering: a text's chunks are mostly old acquaintances."""

from array import array
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from textgen.tokenizers.base import Ids

WorkOut = Callable[[list[str]], Iterable[Iterable[int]]]

_MOST_CHUNKS = 2**18
_LONGEST_CHUNK = 64


class ChunkMemory(dict[str, bytes]):
    """A chunk's ids, worked out when it is first met and remembered while there is room.

    They are kept as the bytes of uint32, because joining bytes beats every loop over numbers.
    work_out: the ids of each of some chunks. fixed: the chunks that are no text, as a newline.
    together: it is faster to work out many chunks at once than one by one.
    """

    def __init__(
        self, work_out: WorkOut, fixed: Mapping[str, Iterable[int]], *, together: bool = False
    ) -> None:
        self._work_out = work_out
        self._together = together
        self._fixed = {chunk: _bytes(ids) for chunk, ids in fixed.items()}
        self._much_is_new = True
        super().__init__(self._fixed)

    def __missing__(self, chunk: str) -> bytes:
        (ids,) = map(_bytes, self._work_out([chunk]))
        if len(chunk) <= _LONGEST_CHUNK:
            self._make_room()
            self[chunk] = ids
        return ids

    def ids(self, lists: Iterable[list[str]]) -> Ids:
        """The ids of all the chunks in these lists."""
        parts = []
        for chunks in lists:
            known = len(self)
            if self._together and self._much_is_new:
                self._meet(chunks)
            parts.append(b"".join(map(self.__getitem__, chunks)))
            self._much_is_new = len(self) - known > len(chunks) // 50
        return np.frombuffer(b"".join(parts), dtype=np.uint32)

    def _meet(self, chunks: list[str]) -> None:
        """Work out all that is new together."""
        self._make_room()
        new = [chunk for chunk in set(chunks) if chunk not in self and len(chunk) <= _LONGEST_CHUNK]
        self.update(zip(new, map(_bytes, self._work_out(new)), strict=True))

    def _make_room(self) -> None:
        if len(self) >= _MOST_CHUNKS:
            self.clear()
            self.update(self._fixed)


def _bytes(ids: Iterable[int]) -> bytes:
    return array("I", ids).tobytes()
