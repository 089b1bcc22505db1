"""The events of training for TensorBoard."""

import contextlib
import importlib
import textwrap
from pathlib import Path
from typing import Any

from textgen.errors import ResourceError, UsageError
from textgen.presentation.numbers import labelled
from textgen.results import TrainingEvent, TrainingSample, TrainingStart, TrainingStep, Validation

_SCALARS = {
    "loss/training": "loss",
    "learning_rate": "learning_rate",
    "gradient_norm": "gradient_norm",
    "tokens_per_second": "tokens_per_second",
}


class TensorBoardLog(contextlib.AbstractContextManager["TensorBoardLog"]):
    """Writes the events of training under a folder; a context manager.

    Nothing is written before the run begins. A resumed run uses the same folder: what was written
    after the step at which it is resumed is no longer shown.

    Raises ResourceError where the optional package is missing or the folder is a file.
    """

    def __init__(self, folder: str) -> None:
        if not folder:
            raise UsageError("--log-dir needs a folder")
        try:
            importlib.import_module("tensorboard")
        except ImportError as error:
            raise ResourceError(
                "--log-dir needs the package tensorboard",
                why="it is not installed",
                fix="pip install 'textgen[tensorboard]'",
            ) from error
        if Path(folder).exists() and not Path(folder).is_dir():
            raise ResourceError("--log-dir is not a folder", where=folder)
        self._folder = folder
        self._writer: Any = None

    def __call__(self, event: TrainingEvent) -> None:
        if isinstance(event, TrainingStart):
            # torch is loaded here and not before: a fault in the text is reported at once.
            module = importlib.import_module("torch.utils.tensorboard")
            # The first step that the run is about to make anew.
            again = event.resumed_step + 1 if event.resumed_step else None
            self._writer = module.SummaryWriter(self._folder, purge_step=again)
        elif isinstance(event, TrainingStep):
            for name, attribute in _SCALARS.items():
                self._writer.add_scalar(name, getattr(event, attribute), event.step)
        elif isinstance(event, Validation):
            (name,) = labelled({"loss": event.loss}, pseudo=event.pseudo)
            self._writer.add_scalar(f"{name}/validation", event.loss, event.step)
            self._writer.flush()
        elif isinstance(event, TrainingSample):
            # TensorBoard takes text for Markdown, in which indented text stays as it is.
            self._writer.add_text("sample", textwrap.indent(event.text, "    "), event.step)

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()
