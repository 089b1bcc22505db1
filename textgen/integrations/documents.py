"""Files of documents as steps of datatrove's pipelines: read, and written with more columns.

The readers of datatrove leave out what they cannot read, and rows without text. These raise an
error, and keep every row as it is.
"""

import contextlib
import gzip
import json
import math
import uuid
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import IO, Any

from datatrove.data import Document
from datatrove.io import DataFolder
from datatrove.pipeline.base import PipelineStep
from fsspec.core import has_magic, url_to_fs

from textgen.errors import DataError, ResourceError, UsageError
from textgen.integrations.datatrove import FILE

RUN = "_run"
"""The folder in the output for what is not a document: logs, statistics, completions. Programs that
read a folder of Parquet ignore a name that begins so."""

PARTS = f"{RUN}/parts"
"""The folder of files that are not complete."""

_PLACE = "place"
_ROWS = 2**13  # of a Parquet file at a time


@dataclass(frozen=True)
class Source:
    """A file of documents: its path for fsspec, and its name below the output folder."""

    path: str
    name: str


@dataclass(frozen=True)
class _Place:
    """Where a document comes from.

    Attributes:
        part: The number of the part of the file; rows: the part, as its format has it.
    """

    source: Source
    part: int
    rows: Any


class _Format(ABC):
    """A format of files with a document in each row."""

    @abstractmethod
    def read(
        self, file: IO[bytes], column: str, added: Sequence[str], where: str
    ) -> Iterator[tuple[Any, list[str]]]:
        """The file in parts: the rows, and the document of each.

        Raises:
            DataError: It is not of this format, or lacks the column, or has one of those that are
                to be added.
        """

    @abstractmethod
    def writer(
        self, file: IO[bytes]
    ) -> contextlib.AbstractContextManager[Callable[[Any, Mapping[str, list[Any]]], None]]:
        """Writes parts: the rows, and the values of more columns."""


class _JsonLines(_Format):
    """An object per line. A part is a line, which is kept as it is."""

    def __init__(self, *, compressed: bool) -> None:
        self._compressed = compressed

    def read(
        self, file: IO[bytes], column: str, added: Sequence[str], where: str
    ) -> Iterator[tuple[str, list[str]]]:
        lines = gzip.GzipFile(fileobj=file) if self._compressed else file
        for number, line in enumerate(lines, start=1):
            at = f"{where}, line {number}"
            try:
                text = line.decode().strip()
                row = json.loads(text) if text else None
            except (ValueError, RecursionError) as error:
                raise DataError("not JSON", where=at, why=str(error)) from error
            if not text:
                continue
            if not isinstance(row, dict):
                raise DataError("not a JSON object", where=at)
            _check_columns(row, column, added, at)
            yield text, [_text(row[column], at)]

    @contextlib.contextmanager
    def writer(self, file: IO[bytes]) -> Iterator[Callable[[str, Mapping[str, list[Any]]], None]]:
        # Without a name and a time, so that equal rows are equal files.
        compressed = (
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)
            if self._compressed
            else contextlib.nullcontext(file)
        )
        with compressed as stream:

            def write(line: str, values: Mapping[str, list[Any]]) -> None:
                added = {name: _in_json(value) for name, (value,) in values.items()}
                stream.write(f"{line[:-1]}, {json.dumps(added)[1:]}\n".encode())

            yield write


class _Parquet(_Format):
    """A part is a batch of rows, whose other columns are never converted."""

    def read(
        self, file: IO[bytes], column: str, added: Sequence[str], where: str
    ) -> Iterator[tuple[Any, list[str]]]:
        import pyarrow
        from pyarrow import parquet

        try:
            table = parquet.ParquetFile(file)
        except pyarrow.ArrowInvalid as error:
            raise DataError("not Parquet", where=where, why=str(error)) from error
        _check_columns(table.schema_arrow.names, column, added, where)
        row = 0
        for batch in table.iter_batches(batch_size=_ROWS):
            texts = batch.column(column).to_pylist()
            yield batch, [_text(text, f"{where}, row {row + at}") for at, text in enumerate(texts)]
            row += len(texts)

    @contextlib.contextmanager
    def writer(self, file: IO[bytes]) -> Iterator[Callable[[Any, Mapping[str, list[Any]]], None]]:
        import pyarrow
        from pyarrow import parquet

        with contextlib.ExitStack() as stack:
            to_file: Any = None

            def write(batch: Any, values: Mapping[str, list[Any]]) -> None:
                nonlocal to_file
                table = pyarrow.Table.from_batches([batch])
                for name, column in values.items():
                    kind = pyarrow.list_(pyarrow.uint32()) if name == "ids" else pyarrow.float64()
                    table = table.append_column(name, pyarrow.array(column, kind))
                if to_file is None:
                    to_file = stack.enter_context(parquet.ParquetWriter(file, table.schema))
                to_file.write_table(table)

            yield write


FORMATS: Mapping[str, _Format] = {
    ".jsonl": _JsonLines(compressed=False),
    ".jsonl.gz": _JsonLines(compressed=True),
    ".parquet": _Parquet(),
}
"""The formats by the end of a file's name."""


def _format(name: str) -> _Format | None:
    return next((each for suffix, each in FORMATS.items() if name.endswith(suffix)), None)


def _check_columns(names: Iterable[str], column: str, added: Sequence[str], where: str) -> None:
    known = list(names)
    if column not in known:
        why = f"it has {', '.join(known) or 'none'}"
        raise DataError(f"no column {column!r}", where=where, why=why)
    for name in added:
        if name in known:
            raise DataError(f"has a column {name!r} already", where=where, fix="rename it")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise DataError("the document is not text", where=where, why=f"it is {value!r:.40}")
    return value


def _in_json(value: Any) -> Any:
    """The value, or None for a number that JSON cannot express."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def find_documents(given: Sequence[str]) -> list[Source]:
    """The files of documents that some paths name: files, folders, patterns; of any filesystem.

    Raises:
        ResourceError: There is nothing.
        UsageError: The format of a file is not known, or two files have one name.
    """
    sources: dict[str, Source] = {}
    for each in given:
        filesystem, path = url_to_fs(each)
        if filesystem.isdir(path):
            found = [file for file in filesystem.find(path) if _format(file)]
            found = [file for file in found if f"/{RUN}/" not in file.removeprefix(path)]
            names = [str(PurePosixPath(file).relative_to(path)) for file in found]
        else:
            is_pattern = has_magic(path)
            found = filesystem.glob(path) if is_pattern else [path] * filesystem.exists(path)
            names = [PurePosixPath(file).name for file in found]
        if not found:
            raise ResourceError("no documents", where=each, fix=f"there are {_suffixes()}")
        for file, name in zip(found, names, strict=True):
            if _format(name) is None:
                raise UsageError("not documents", where=file, fix=f"there are {_suffixes()}")
            if name in sources:
                raise UsageError(
                    f"two files are named {name}",
                    why=f"{sources[name].path} and {file} would be written to one",
                    fix="rename one, or give the folder above both",
                )
            local = "file" in filesystem.protocol
            sources[name] = Source(file if local else filesystem.unstrip_protocol(file), name)
    return [sources[name] for name in sorted(sources)]


def _suffixes() -> str:
    return ", ".join(FORMATS)


class DocumentFiles(PipelineStep):  # type: ignore[misc]
    """Reads documents: task ``rank`` every ``world_size``-th file.

    Args:
        column: That of the text.
        added: The columns that are to be added.
    """

    type, name = "textgen", "documents"

    def __init__(self, sources: Sequence[Source], column: str, added: Sequence[str]) -> None:
        super().__init__()
        self.sources, self.column, self.added = list(sources), column, tuple(added)

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The documents in order."""
        for source in self.sources[rank::world_size]:
            filesystem, path = url_to_fs(source.path)
            form = _format(source.name)
            assert form is not None
            with filesystem.open(path, "rb") as file, _readable(source.path):
                parts = form.read(file, self.column, self.added, source.path)
                for part, (rows, texts) in enumerate(parts):
                    place = _Place(source, part, rows)
                    for number, text in enumerate(texts):
                        metadata = {FILE: source.path, _PLACE: place}
                        yield Document(text, f"{source.name}/{part}/{number}", metadata=metadata)


@contextlib.contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn what decompression raises into an error of one line."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError("damaged", where=where, why=str(error)) from error


class DocumentWriter(PipelineStep):  # type: ignore[misc]
    """Writes the rows of ``DocumentFiles`` with more columns, from the metadata of the documents.

    A file appears when it is complete.
    """

    type, name = "textgen", "writer"

    def __init__(self, out: DataFolder, columns: Sequence[str]) -> None:
        super().__init__()
        self.out, self.columns = out, tuple(columns)

    def run(
        self, data: Iterator[Document], rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """The same documents."""
        for source, documents in groupby(data, key=lambda each: each.metadata[_PLACE].source):
            form = _format(source.name)
            assert form is not None
            with _new_file(self.out, source.name) as file, form.writer(file) as write:
                for _, group in groupby(documents, key=lambda each: each.metadata[_PLACE].part):
                    part = list(group)
                    values = {name: [doc.metadata[name] for doc in part] for name in self.columns}
                    write(part[0].metadata[_PLACE].rows, values)
                    yield from part


@contextlib.contextmanager
def _new_file(folder: DataFolder, name: str) -> Iterator[IO[bytes]]:
    """A file to write, which is under its name when it is complete.

    In an object store every file is so; a local one is written elsewhere. Two processes may write
    the same: one that seemed dead, and the one started in its place.
    """
    if not folder.is_local():
        file = folder.open(name, "wb", autocommit=False)
        try:
            yield file
            file.close()
        except BaseException:
            file.discard()
            raise
        file.commit()
        return
    part = f"{PARTS}/{uuid.uuid4().hex}"
    with folder.open(part, "wb") as file:
        yield file
    target = Path(folder.resolve_paths(name))
    target.parent.mkdir(parents=True, exist_ok=True)
    Path(folder.resolve_paths(part)).replace(target)
