"""One run of a comparison: a model trained as ``train`` does it, and what is kept of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textgen import checkpoint, storage
from textgen.config import Device, ModelConfig
from textgen.errors import DivergedError
from textgen.results import ComparedRun, TrainingEvent, TrainingResult
from textgen.training_run import train

_SAMPLE_TOKENS, _SAMPLE_CHARACTERS, _SAMPLE_SEED = 200, 200, 1
_SAMPLE_TEMPERATURE = 0.8


@dataclass(frozen=True)
class Manner:
    """Where all runs compute."""

    device: Device
    threads: int | None


def run_one(
    name: str,
    tokens: Path,
    folder: Path,
    options: dict[str, Any],
    manner: Manner,
    on_event: Callable[[TrainingEvent], None],
    stop: Callable[[], int | None],
) -> ComparedRun | int:
    """Train in ``folder``, or go on there; what was reached, or the signal that ended it.

    A run that diverges has ended too, and says so: the others are not to suffer for it.
    """
    resume = storage.whole(folder / checkpoint.LAST) is not None
    try:
        result = train(
            tokens,
            out=folder,
            resume=resume,
            device=manner.device,
            threads=manner.threads,
            baseline=False,
            on_event=on_event,
            stop=stop,
            **({} if resume else options),  # which the checkpoint has
        )
    except DivergedError as error:
        return _ended(name, options["seed"], folder, manner, failed=str(error))
    if result.interrupted is not None:
        return result.interrupted
    return _ended(name, options["seed"], folder, manner, result)


def _ended(
    name: str,
    seed: int,
    folder: Path,
    manner: Manner,
    result: TrainingResult | None = None,
    failed: str | None = None,
) -> ComparedRun:
    """What is kept of a run. result: None of one that failed; then its best tells of it."""
    from textgen.models import model_class

    found = checkpoint.describe(folder)
    model = ModelConfig.from_options(found.config["model"])
    progress = found.config["progress"]
    true = model_class(model).generates
    return ComparedRun(
        name=name,
        seed=seed,
        folder=str(folder),
        description=model.description,
        parameters=found.parameters,
        steps=result.steps if result else progress["step"],
        tokens_seen=result.tokens_seen if result else progress["tokens_seen"],
        seconds=result.seconds if result else progress["seconds"],
        tokens_per_second=result.tokens_per_second if result else progress["tokens_per_second"],
        validation=result.validation if result else found.validation,
        curve=found.curve,
        true=true,
        sample=_sample(folder, manner) if true and failed is None else None,
        failed=failed,
    )


def _sample(folder: Path, manner: Manner) -> str:
    """A line that the model writes, the same each time; ends of lines are spaces in it."""
    from textgen.language_model import LanguageModel

    model = LanguageModel.load(folder, device=manner.device, threads=manner.threads)
    (sample,) = model.sample(
        length=_SAMPLE_TOKENS, temperature=_SAMPLE_TEMPERATURE, seed=_SAMPLE_SEED
    )
    return " ".join(sample.text.split())[:_SAMPLE_CHARACTERS]
