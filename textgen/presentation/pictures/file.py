"""A picture as a file, written whole or not at all; the only place that knows its formats."""

import importlib.util
import io
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from textgen.errors import UsageError
from textgen.presentation.pictures.style import styled
from textgen.storage import NewFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
_DOTS_PER_INCH = 160


class PictureFile(AbstractContextManager["PictureFile"]):
    """The file that ``--out`` names. That it can be written is known before it is drawn.

    Raises UsageError for a name of another format, or where matplotlib is not installed;
    ResourceError where the place cannot be written.
    """

    def __init__(self, name: str) -> None:
        self.path = Path(name)
        self._format = self.path.suffix.lower()
        if self._format not in FORMATS:
            raise UsageError(
                f"--out must end in {' or '.join(FORMATS)}, got {name!r}",
                fix="leave it out to see the picture here",
            )
        if importlib.util.find_spec("matplotlib") is None:
            raise UsageError(
                "--out needs the package matplotlib",
                why="it is not installed",
                fix="pip install 'textgen[plot]', or leave --out out to see the picture here",
            )
        self._file = NewFile(self.path)
        self._held = ExitStack()

    def __enter__(self) -> Self:
        self._held.enter_context(self._file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.__exit__(kind, error, trace)

    def save(self, figure: "Figure") -> None:
        self._file.write(rendered(figure, self._format))
        self._file.finish()


def rendered(figure: "Figure", format: str) -> bytes:
    """The bytes of a picture: the same for the same figure. format: one of ``FORMATS``."""
    # A figure that was made without pyplot is drawn without a display, whatever the backend.
    stream = io.BytesIO()
    metadata = {"Date": None} if format == ".svg" else {"Software": None}
    with styled():
        figure.savefig(stream, format=format[1:], dpi=_DOTS_PER_INCH, metadata=metadata)
    return stream.getvalue()
