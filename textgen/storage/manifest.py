"""``manifest.json``: the SHA-256 of every file of a folder, and of itself."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from textgen.errors import CheckpointError, ResourceError
from textgen.storage.files import (
    check_format,
    check_regular,
    flush_folder,
    foreign_kind,
    json_text,
    read_json,
    sha256_of,
)

MANIFEST = "manifest.json"
_MANIFEST_FORMAT = 1
_LARGEST_MANIFEST = 2**20
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def verified(folder: Path) -> dict[str, Path]:
    """The files of a folder by name, after checking every byte against its manifest.

    Raises CheckpointError if something is damaged, ResourceError if it cannot be read.
    """
    try:
        files = _listed_files(folder / MANIFEST)
        for name, (sha256, size) in files.items():
            _check_file(folder / name, sha256, size)
    except FileNotFoundError as error:
        raise _missing(folder, error) from error
    except OSError as error:
        raise ResourceError(
            "cannot read", where=error.filename or folder, why=error.strerror
        ) from error
    return {name: folder / name for name in files}


def write_manifest(folder: Path) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
        files[path.name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    manifest = {"format": _MANIFEST_FORMAT, "files": files}
    manifest["sha256"] = _manifest_sha256(manifest)
    with (folder / MANIFEST).open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(json_text(manifest))
        stream.flush()
        os.fsync(stream.fileno())
    flush_folder(folder)


def _manifest_sha256(manifest: dict[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _listed_files(where: Path) -> dict[str, tuple[str, int]]:
    manifest = read_json(where, _LARGEST_MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise CheckpointError("damaged", where=where, why="no list of files")
    check_format(manifest.get("format"), _MANIFEST_FORMAT, where)
    written = _is_as_written(where, manifest)
    if not written or manifest.get("sha256") != _manifest_sha256(manifest):
        raise CheckpointError("damaged", where=where, why="its checksum differs")
    files = {}
    for name, entry in manifest["files"].items():
        if not _FILE_NAME.fullmatch(name):
            raise CheckpointError("refused", where=where, why=f"it names the file {name!r}")
        try:
            files[name] = (str(entry["sha256"]), int(entry["bytes"]))
        except (TypeError, KeyError, ValueError) as error:
            raise CheckpointError("damaged", where=where, why=f"no checksum of {name}") from error
    return files


def _is_as_written(path: Path, value: Any) -> bool:
    """Whether a file is exactly what ``write_json`` writes for its value."""
    try:
        return path.read_bytes() == json_text(value).encode()
    except (ValueError, RecursionError):
        return False


def _check_file(path: Path, sha256: str, size: int) -> None:
    check_regular(path)
    found = path.stat().st_size
    if found == size and sha256_of(path) == sha256:
        return
    with path.open("rb") as stream:
        foreign = foreign_kind(stream.read(512))
    why = f"{found} bytes where {size} were written" if found != size else "its checksum differs"
    raise CheckpointError(
        "damaged", where=path, why=foreign or why, fix="copy the whole folder again"
    )


def _missing(folder: Path, error: FileNotFoundError) -> Exception:
    if not folder.exists():
        return ResourceError("no such folder", where=folder)
    if error.filename and Path(error.filename).name == MANIFEST:
        return CheckpointError(
            "not a textgen folder",
            where=folder,
            why=f"it has no {MANIFEST}",
            fix="give the folder that textgen wrote",
        )
    return CheckpointError("incomplete", where=error.filename, why="the file is missing")
