"""Tables as other programs read them: R's rules, re-stated here, and Parquet without pyarrow."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.errors import UsageError
from textgen.presentation.formats.lines import SINKS

TEXTS = st.text(st.sampled_from("ab \"'\t\n\\,;#|%é猫\u2028"), max_size=8)
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.lists(st.tuples(TEXTS, NUMBERS, st.none() | st.booleans(), TEXTS), min_size=1)
COLUMNS = [("a text", str), ("surprisal", float), ("unknown", bool), ("other", str)]


def written(form: str, rows: list[tuple[Any, ...]]) -> str:
    """A table of these columns and rows, as it stands on stdout."""
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout), SINKS[form](None) as sink:
        sink.begin(COLUMNS)
        sink.write(rows)
        sink.end()
    return stdout.getvalue()


def read_by_r(text: str, separator: str) -> list[list[str]]:
    """The fields that ``read.csv`` and ``read.delim`` find, before types are converted.

    They call scan() with sep, quote = "\\"", comment.char = "", strip.white = FALSE and
    blank.lines.skip = TRUE. In its C code (src/main/scan.c, fillBuffer, where there is a separator)
    a quotation mark opens a quotation wherever it stands in a field; in a quotation all is text up
    to the next mark, and two marks are one; nothing is escaped by a backslash. A connection reads
    CR and CR LF as LF.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    rows: list[list[str]] = []
    row: list[str] = []
    field, place, is_blank = "", 0, True
    while place < len(text):
        character = text[place]
        place += 1
        if character == '"':
            while True:
                end = text.index('"', place)  # an error: R warns "EOF within quoted string"
                field += text[place:end]
                place = end + 1
                if text[place : place + 1] != '"':
                    break
                field += '"'
                place += 1
            is_blank = False
        elif character in (separator, "\n"):
            is_blank = is_blank and character == "\n"
            if not is_blank:
                row.append(field)
            field = ""
            if character == "\n":
                rows += [row] if row else []
                row, is_blank = [], True
        else:
            field += character
            is_blank = False
    assert not row and not field
    return rows


@pytest.mark.parametrize(("form", "separator"), [("csv", ","), ("tsv", "\t")])
@given(rows=ROWS)
def test_r_reads_back_what_was_written(form: str, separator: str, rows: list[Any]) -> None:
    header, *back = read_by_r(written(form, rows), separator)
    assert header == [name for name, _ in COLUMNS]
    for (text, number, flag, other), fields in zip(rows, back, strict=True):
        assert (fields[0], fields[3]) == (text, other)
        assert fields[1] == ("" if number is None else repr(number))
        assert fields[2] == ("" if flag is None else str(int(flag)))


def test_the_rules_of_r_are_those_of_its_documentation() -> None:
    assert read_by_r('a,"b ""c"", d"\n\n1,"x\ny"\n', ",") == [["a", 'b "c", d'], ["1", "x\ny"]]
    assert read_by_r('5" x,y"z\n', ",") == [["5 x,yz"]]  # why such a text must be quoted


def test_a_figure_that_is_not_defined_is_empty() -> None:
    (_, row, *_) = written("csv", [("a", math.nan, None, "")]).split("\n")
    assert row == "a,,,"


def test_parquet_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(
        UsageError, match=r"pyarrow: it is not installed; pip install .*\[parquet\]', or give"
    ):
        SINKS["parquet"]("x.parquet")
