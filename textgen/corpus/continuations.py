"""What goes on from what: two columns of a TSV."""

from collections.abc import Iterable, Iterator

from textgen.corpus.arriving import Text
from textgen.errors import DataError

_COLUMNS = ("prefix", "continuation")


def continuations(lines: Iterable[str], name: str) -> Iterator[Text]:
    """The prefix and the continuation of each line of a TSV, as they come.

    The first line may be a header, which says which columns these are; without one they are the
    only two. name: of the file. Raises DataError where a line has other columns.
    """
    places, count = (0, 1), 2
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if number == 1 and set(_COLUMNS) <= set(fields):
            places, count = (fields.index(_COLUMNS[0]), fields.index(_COLUMNS[1])), len(fields)
            continue
        if len(fields) != count:
            raise DataError(
                f"{len(fields)} columns, not {count}",
                where=f"{name}, line {number}",
                fix="put one tab between the prefix and its continuation",
            )
        yield Text(number, fields[places[1]], prefix=fields[places[0]])
