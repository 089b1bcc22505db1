"""A text as it is read: its ids, which of them are scored, and what each stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from textgen.batching import IdArray
from textgen.corpus.arriving import Text
from textgen.errors import UsageError
from textgen.tokenizers.base import EOS, UNK, Tokenizer

_LONGEST_NAMED = 2**20
"""Characters of a text of which it is told what is unknown; of more that would take gigabytes."""


@dataclass(frozen=True)
class Prepared:
    """A text as it is read.

    ids: all that is read, ``<EOS>`` at the end. scored: those that are scored. surfaces: what
    each of these stands for in the text; none where all is known, or the text is very long, and
    nobody asked. A token that reaches over the end of a prefix is scored whole.
    """

    given: Text
    ids: IdArray
    scored: slice
    surfaces: tuple[str, ...] = ()

    @property
    def scored_ids(self) -> IdArray:
        return self.ids[self.scored]

    @property
    def unknown(self) -> int:
        return int(np.count_nonzero(self.scored_ids == UNK))

    @property
    def unknown_surfaces(self) -> tuple[str, ...]:
        """What in the text is unknown, in its order."""
        if not self.surfaces:
            return ()
        places = np.flatnonzero(self.scored_ids == UNK).tolist()
        return tuple(self.surfaces[place].strip(" ") for place in places)

    def unknown_names(self, tokenizer: Tokenizer) -> list[str]:
        """The symbols of which it has the spelling, where they are unknown."""
        if not self.unknown:
            return []
        names = tokenizer.unknown_names((self.given.prefix or "") + self.given.text)
        return names[len(names) - self.unknown :]


def prepare(tokenizer: Tokenizer, given: Text, *, eos: bool, surfaces: bool) -> Prepared:
    """eos: whether ``<EOS>`` is scored. surfaces: wanted where all is known, too."""
    if tokenizer.terminator and tokenizer.terminator in given.text:
        raise UsageError(
            f"not one sentence: {given.text[:40]!r}",
            why=f"with --unit {tokenizer.config.unit} it ends at the newline in it",
            fix="give its parts one by one, or in a file",
        )
    prefix = given.prefix or ""
    whole = prefix + given.text
    ids = np.append(tokenizer.encode(whole), np.uint32(EOS))
    scored = slice(0, len(ids) - (not eos))
    names_unknown = len(whole) <= _LONGEST_NAMED and (ids == UNK).any()
    if not (prefix or surfaces or names_unknown):
        return Prepared(given, ids, scored)
    named = (*tokenizer.surfaces(whole), "")
    if prefix:
        scored = slice(_first_after(named, len(prefix)), scored.stop)
    return Prepared(given, ids, scored, named[scored])


def _first_after(surfaces: Sequence[str], characters: int) -> int:
    """The first token that reaches over so many characters, with the parts of its character."""
    ends = accumulate(map(len, surfaces))
    last = len(surfaces) - 1  # the end of the sentence
    first = next((place for place, end in enumerate(ends) if end > characters), last)
    while 0 < first < last and not surfaces[first - 1]:
        first -= 1
    return first
