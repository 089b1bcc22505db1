"""Where the checkpoints of a run are."""

from pathlib import Path

from textgen import storage
from textgen.checkpoint.header import CONFIG
from textgen.errors import CheckpointError, ResourceError

BEST, LAST = "best", "last"
METRICS = "metrics.jsonl"
WEIGHTS = "model.safetensors"


def find(path: Path) -> tuple[str, Path]:
    """("best" | "last", folder): the checkpoint meant by a run's folder or one of its two.

    Raises ResourceError where there is none, CheckpointError for a file of another kind.
    """
    if path.is_file():
        with path.open("rb") as stream:
            kind = storage.what_it_is(stream.read(512)) or "a file, where a folder is expected"
        raise CheckpointError("not a textgen checkpoint", where=path, why=kind)
    if (path / storage.MANIFEST).exists():
        return path.absolute().name.removesuffix(".old"), path
    for name in (BEST, LAST):
        folder = storage.whole(path / name)
        if folder is not None:
            return name, folder
    alone = storage.whole(path)
    if alone is not None and (alone / storage.MANIFEST).exists():
        return path.absolute().name, alone
    raise ResourceError(
        "no checkpoint" if path.is_dir() else "no such folder",
        where=path,
        fix="train one with: textgen train CORPUS --out FOLDER",
    )


def checked_files(folder: Path) -> dict[str, Path]:
    files = storage.verified(folder)
    for name in (CONFIG, WEIGHTS):
        if name not in files:
            raise CheckpointError("not a checkpoint", where=folder, why=f"it has no {name}")
    return files
