"""The numbers of a picture: flat rows, as JSON, one object a line, or as a table between tabs."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from textgen.presentation.console import emit
from textgen.presentation.records import emit_record

Row = Mapping[str, Any]
"""Every row of a picture has the same keys."""


def emit_json(rows: Iterable[Row]) -> None:
    for row in rows:
        emit_record(dict(row))


def emit_tsv(rows: Iterable[Row]) -> None:
    """A header, then the rows; what is not known is empty."""
    for number, row in enumerate(rows):
        if number == 0:
            emit(_line(row))
        emit(_line(map(_cell, row.values())))


FORMATS: Mapping[str, Callable[[Iterable[Row]], None]] = {"json": emit_json, "tsv": emit_tsv}


def _line(cells: Iterable[Any]) -> str:
    written = io.StringIO()
    csv.writer(written, delimiter="\t", lineterminator="\n").writerow(cells)
    return written.getvalue()


def _cell(value: Any) -> Any:
    unknown = value is None or (isinstance(value, float) and not math.isfinite(value))
    return "" if unknown else value
