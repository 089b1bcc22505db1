"""Scores for programs: JSON, and tables for data frames in CSV, TSV or Parquet.

The totals of a table are not among its rows: they go to stderr, or into a file.
"""

import contextlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from textgen.errors import UsageError, missing_package
from textgen.presentation.console import emit
from textgen.presentation.formats import ScoreWriter, Shown, say_totals
from textgen.presentation.numbers import labelled
from textgen.presentation.records import (
    Value,
    delimited,
    emit_record,
    finite,
    of_first_token,
    score_record,
    score_types,
    sums,
    total_record,
)
from textgen.results import PartScore, ScoreSum, SentenceScore
from textgen.storage import NewFile

Columns = Sequence[tuple[str, type]]
"""The names of columns with their types: str, int, float or bool. Any may have gaps, None."""

_ROWS_TOGETHER = 2**14


class Sink(contextlib.AbstractContextManager["Sink"]):
    """Where the rows of a table go; ``begin`` comes first, ``end`` last.

    Attributes:
        is_stdout: Whether rows can be seen before the end.
    """

    is_stdout: bool

    def __exit__(self, *error: object) -> None:
        return None

    @abstractmethod
    def begin(self, columns: Columns) -> None: ...

    @abstractmethod
    def write(self, rows: Sequence[Sequence[Value]]) -> None:
        """Write rows with as many values as there are columns."""

    def end(self) -> None:
        return


class DelimitedSink(Sink):
    """Rows of values between delimiters.

    Args:
        out: The file to write; None: stdout.
    """

    def __init__(self, delimiter: str, out: str | None = None) -> None:
        self._delimiter = delimiter
        self._file = None if out is None else NewFile(Path(out))
        self.is_stdout = self._file is None

    def __enter__(self) -> Self:
        if self._file is not None:
            self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.__exit__(*error)

    def begin(self, columns: Columns) -> None:
        self.write([[name for name, _ in columns]])

    def write(self, rows: Sequence[Sequence[Value]]) -> None:
        text = delimited(rows, self._delimiter)
        if self._file is None:
            emit(text)
        else:
            self._file.write(text.encode("utf-8", "backslashreplace"))

    def end(self) -> None:
        if self._file is not None:
            self._file.finish()


class JsonSink(Sink):
    """An object for each row, on stdout."""

    is_stdout = True

    def begin(self, columns: Columns) -> None:
        self._names = [name for name, _ in columns]

    def write(self, rows: Sequence[Sequence[Value]]) -> None:
        for row in rows:
            emit_record(dict(zip(self._names, row, strict=True)))


class ParquetSink(Sink):
    """A Parquet file.

    Raises:
        UsageError: No file is named, or pyarrow is not installed.
    """

    is_stdout = False

    def __init__(self, out: str | None) -> None:
        if out is None:
            raise UsageError("--format parquet needs --out", fix="add --out FILE.parquet")
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            instead = "give --format csv"
            what = "--format parquet"
            raise missing_package(what, "pyarrow", "parquet", instead=instead) from error
        self._arrow: Any = pyarrow
        self._file = NewFile(Path(out))
        self._stream: Any = None
        self._waiting: list[Sequence[Value]] = []

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):  # of an incomplete file, which is removed
            if self._stream is not None:
                self._stream.close()
        self._file.__exit__(*error)

    def begin(self, columns: Columns) -> None:
        arrow = self._arrow
        of = {str: arrow.string(), int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_()}
        self._schema = arrow.schema([(name, of[kind]) for name, kind in columns])
        self._stream = arrow.parquet.ParquetWriter(
            arrow.PythonFile(self._file.stream), self._schema
        )

    def write(self, rows: Sequence[Sequence[Value]]) -> None:
        self._waiting += rows
        if len(self._waiting) >= _ROWS_TOGETHER:
            self._flush()

    def end(self) -> None:
        self._flush()
        self._stream.close()
        self._file.finish()

    def _flush(self) -> None:
        columns = zip(*self._waiting, strict=True) if self._waiting else [()] * len(self._schema)
        arrays = [
            self._arrow.array(values, each.type)
            for values, each in zip(columns, self._schema, strict=True)
        ]
        self._stream.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._waiting.clear()


SINKS: Mapping[str, Callable[[str | None], Sink]] = {
    "csv": partial(DelimitedSink, ","),
    "tsv": partial(DelimitedSink, "\t"),
    "json": lambda _: JsonSink(),
    "parquet": ParquetSink,
}
"""The sinks by format; each takes the file to write, or None for stdout."""


class TidyScores(ScoreWriter):
    """A row per sentence or per part; the caller opens and closes the sink.

    The log-probability's column names its base: ``log_prob`` is natural, ``log2_prob`` to base 2.
    Surprisal and entropy are in bits. What is not known is empty.
    """

    shows_pseudo = True
    format: ClassVar[str]

    def __init__(self, shown: Shown) -> None:
        super().__init__(shown)
        self._sink = shown.sink or SINKS[self.format](None)

    def begin(self) -> None:
        if self.shown.level == "sentence":
            texts = ["prefix", "text"] if self.shown.prefixed else ["text"]
            head = ["line", *sums(ScoreSum(pseudo=self.shown.pseudo)), *texts]
        else:
            head = ["line", "number", *self._part(PartScore("", "", 0.0))]
        base = self.shown.base_name
        log_prob = "log_prob" if base == "e" else f"log{base}_prob"
        types = score_types(head, of_parts=self.shown.level != "sentence")
        self._sink.begin([(name.replace("log_prob", log_prob), types[name]) for name in head])

    def sentence(self, score: SentenceScore) -> None:
        if self.shown.level != "sentence":
            parts = enumerate(score.parts or (), start=1)
            self._sink.write(
                [[score.line, number, *self._part(part).values()] for number, part in parts]
            )
            return
        log_prob, *rest = sums(score).values()
        texts = [score.prefix or "", score.text] if self.shown.prefixed else [score.text]
        self._sink.write([[score.line, self.shown.log(log_prob), *rest, *texts]])

    def end(self, total: ScoreSum, sentences: int) -> None:
        self._sink.end()
        write_totals(total, sentences, self.shown)

    def _part(self, part: PartScore) -> dict[str, Value]:
        level = self.shown.level
        values: dict[str, Value] = {
            level: part.text if part.token is None else part.token,
            "log_prob": self.shown.log(part.log_prob),
            "surprisal": part.surprisal,
        }
        if level == "word":
            values |= of_first_token(part) | {"unknown": part.unknown, "tokens": part.tokens}
        else:
            values["entropy"] = part.entropy
            if not self.shown.pseudo:
                values["entropy_reduction"] = part.entropy_reduction
            values["unknown"] = part.unknown
        if level == "token":
            values |= {"id": part.id, "rank": part.rank, "text": part.span}
        return labelled(values, pseudo=self.shown.pseudo)


class CsvScores(TidyScores):
    format = "csv"


class TsvScores(TidyScores):
    format = "tsv"


class ParquetScores(TidyScores):
    format = "parquet"


def write_totals(total: ScoreSum, sentences: int, shown: Shown) -> None:
    """Write the totals into the file that was named for them, else to stderr."""
    if shown.totals is None:
        say_totals(total, sentences, shown)
        return
    with NewFile(Path(shown.totals)) as file:
        record = finite(total_record(total, adapted=shown.adapted) | {"sentences": sentences})
        file.write((json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode())
        file.finish()


class JsonScores(ScoreWriter):
    """A line per sentence, then the totals. ``log_prob`` is natural, whatever the base."""

    shows_pseudo = True

    def sentence(self, score: SentenceScore) -> None:
        emit_record(score_record(score, self.shown.level))

    def end(self, total: ScoreSum, sentences: int) -> None:
        emit_record(total_record(total, adapted=self.shown.adapted))
