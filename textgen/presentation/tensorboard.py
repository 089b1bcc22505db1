"""Training for TensorBoard: the events of a run as the files that it draws curves from."""

import importlib
import textwrap
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from textgen.errors import ResourceError, UsageError
from textgen.results import (
    TrainingEvent,
    TrainingSample,
    TrainingStart,
    TrainingStep,
    Validation,
)


class TensorBoardLog:
    """Receives the events of training and writes them under a folder; a context manager.

    Nothing is written before the run begins. A resumed run goes on in the same folder: what was
    written after the step at which it takes up is no longer shown.

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
            # torch is loaded here and not before: a fault in the text is told at once.
            module = importlib.import_module("torch.utils.tensorboard")
            # The first step that the run is about to make anew.
            again = event.resumed_step + 1 if event.resumed_step else None
            self._writer = module.SummaryWriter(self._folder, purge_step=again)
        elif isinstance(event, TrainingStep):
            self._stepped(event)
        elif isinstance(event, Validation):
            name = "pseudo_loss/validation" if event.pseudo else "loss/validation"
            self._writer.add_scalar(name, event.loss, event.step)
            self._writer.flush()
        elif isinstance(event, TrainingSample):
            # TensorBoard takes text for Markdown, in which indented text stays as it is.
            self._writer.add_text("sample", textwrap.indent(event.text, "    "), event.step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def _stepped(self, step: TrainingStep) -> None:
        for name, value in (
            ("loss/training", step.loss),
            ("learning_rate", step.learning_rate),
            ("gradient_norm", step.gradient_norm),
            ("tokens_per_second", step.tokens_per_second),
        ):
            self._writer.add_scalar(name, value, step.step)
