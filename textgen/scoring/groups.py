"""Texts in groups: large enough to be scored well, small enough to be held, not waited for."""

from collections.abc import Iterable, Iterator

from textgen.corpus.arriving import Arriving, Item, Text, characters_of

_MOST_TEXTS, _MOST_CHARACTERS = 4096, 2**18


def groups(texts: Iterable[Item], prefix: str | None = None) -> Iterator[list[Text]]:
    """The texts in their order, some thousand at a time, taken as they are asked for.

    Of texts that are ``Arriving`` a group is what has come, so that what a person types is
    scored at once. prefix: of those that have none of their own.
    """
    arriving = texts if isinstance(texts, Arriving) else None
    group: list[Text] = []
    characters = 0
    try:
        for line, item in enumerate(texts, start=1):
            if isinstance(item, Text):
                group.append(item)
            else:
                before, text = (prefix, item) if isinstance(item, str) else item
                group.append(Text(line, text, before))
            characters += characters_of(item)
            full = len(group) >= _MOST_TEXTS or characters >= _MOST_CHARACTERS
            if full or (arriving is not None and arriving.pauses()):
                yield group
                group, characters = [], 0
    except Exception:
        if group:  # what came before the error is whole
            yield group
        raise
    if group:
        yield group
