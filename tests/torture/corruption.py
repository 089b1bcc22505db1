"""Every truncation, every flipped bit and many forgeries of a checkpoint: all refused."""

import copy
import hashlib
import json
import random
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from runs import small_run
from safetensors.torch import load_file, save_file

from textgen import checkpoint, storage, train
from textgen.errors import CheckpointError, TextgenError

WEIGHTS, CONFIG, STATE = "model.safetensors", "config.json", "state.json"
Change = Callable[[Path], Any]


def campaign(folder: Path, *, small: bool) -> dict[str, Any]:
    run = tiny_run(folder)
    report: Counter[str] = Counter()
    flip_stride, cut_stride = (997, 97) if small else (1, 1)
    for name in (checkpoint.LAST,) if small else (checkpoint.LAST, checkpoint.BEST):
        _damage(run / name, report, flip_stride, cut_stride)
    for name, change in _forgeries(run / checkpoint.LAST):
        forged = resealed(run / checkpoint.LAST, folder / "forged", change)
        report["forgeries with right checksums"] += 1
        report["forgeries accepted"] += not refused(forged, name)
    for name in _NAMES:
        forged = _with_manifest(run / checkpoint.LAST, folder / "forged", name)
        report["forgeries with right checksums"] += 1
        report["forgeries accepted"] += not refused(forged, f"a manifest that names {name!r}")
    checkpoint.load(resealed(run / checkpoint.LAST, folder / "forged", lambda honest: None))
    _fuzz(run, folder / "fuzzed", report, 4 if small else 600)
    faults = sum(count for name, count in report.items() if name.endswith(("accepted", "faults")))
    return {
        "bytes of the checkpoint": sum(p.stat().st_size for p in (run / "last").iterdir()),
        "every n-th bit, every n-th length": [flip_stride, cut_stride],
        **report,
        "faults": faults,
    }


def tiny_run(folder: Path) -> Path:
    """A run with four hidden units and a vocabulary of six."""
    (folder / "tiny.txt").write_text("abab\nabba\nbaba\ncab\n" * 10, encoding="utf-8")
    options = {"hidden_size": 4, "embedding_size": 2, "batch_size": 1, "sequence_length": 4}
    small_run(folder / "tiny.txt", folder / "run", steps=4, **options)
    return folder / "run"


def refused(folder: Path, what: str = "") -> bool:
    """Whether a checkpoint is refused as one should be: CheckpointError, exit code 3."""
    try:
        checkpoint.load(folder)
        checkpoint.load_resumable(folder)
    except CheckpointError as error:
        return error.exit_code == 3
    except Exception as error:
        print(f"{what}: {type(error).__name__}: {error}", flush=True)
        return False
    print(f"{what}: accepted", flush=True)
    return False


def _damage(folder: Path, report: Counter[str], flip_stride: int, cut_stride: int) -> None:
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        for bit in range(0, 8 * len(data), flip_stride):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            report["flipped bits"] += 1
            report["flips accepted"] += not refused(folder, f"{path.name} bit {bit}")
        for length in range(0, len(data), cut_stride):
            path.write_bytes(data[:length])
            report["truncations"] += 1
            report["truncations accepted"] += not refused(folder, f"{path.name} cut to {length}")
        path.write_bytes(data)
    checkpoint.load(folder)


def resealed(source: Path, target: Path, change: Change) -> Path:
    """A copy with something changed and every checksum right again."""
    with storage.new_folder(target) as begun:
        for path in source.iterdir():
            if path.name != storage.MANIFEST:
                shutil.copy(path, begun)
        change(begun)
    return target


def _forgeries(folder: Path) -> Iterator[tuple[str, Change]]:
    for name in load_file(folder / WEIGHTS):
        for what, change in _TENSOR_CHANGES.items():
            yield f"{what}: {name}", _with_tensors(name, change)
    for what, data in _HEADERS.items():
        yield f"{WEIGHTS}: {what}", _raw(WEIGHTS, data)
    yield "bytes after the weights", _raw(WEIGHTS, (folder / WEIGHTS).read_bytes() + b"more")
    yield "no weights", lambda folder: (folder / WEIGHTS).unlink()
    for file in (CONFIG, STATE, "tokenizer.json"):
        text = (folder / file).read_text(encoding="utf-8")
        yield f"deep {file}", _raw(file, b"[" * 200_000)
        yield f"{file} with a key twice", _raw(file, _twice(text))
        yield f"{file} with NaN", _raw(file, text.replace("{", '{"odd": NaN,', 1).encode())
        yield f"{file} cut short", _raw(file, text[: len(text) // 2].encode())
        yield f"{file} is a list", _raw(file, b"[]")


_NAMES = ("../config.json", "/etc/hostname", "a/b", "..", ".lock", "a\\b", "C:x", "", "absent")
"""What no manifest may list: places outside of its folder, and a file that is not there."""

_TENSOR_CHANGES: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "missing": lambda t, name: t.pop(name),
    "renamed": lambda t, name: t.update({name + "x": t.pop(name)}),
    "float64": lambda t, name: t.update({name: t[name].double()}),
    "bfloat16": lambda t, name: t.update({name: t[name].bfloat16()}),
    "int32": lambda t, name: t.update({name: t[name].int()}),
    "one longer": lambda t, name: t.update({name: torch.cat([t[name], t[name][:1]])}),
    "an axis more": lambda t, name: t.update({name: t[name].unsqueeze(0).contiguous()}),
    "NaN": lambda t, name: t[name].view(-1)[-1:].fill_(torch.nan),
    "infinite": lambda t, name: t[name].view(-1)[:1].fill_(-torch.inf),
    "and an extra one": lambda t, name: t.update({f"{name}.extra": torch.zeros(1)}),
}


def _safetensors(header: Any, payload: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def _entry(shape: list[int], offsets: list[int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": offsets}


_HEADERS = {
    "nothing": b"",
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a header of 2^64 - 1 bytes": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a header longer than the file": struct.pack("<Q", 10**6) + b"{}",
    "a deep header": _safetensors(b"[" * 100_000),
    "a deep header of objects": _safetensors(b'{"a":' * 100_000),
    "100,000 tensors": _safetensors({f"t{i}": _entry([0], [0, 0]) for i in range(100_000)}),
    "overlapping tensors": _safetensors(
        {"a": _entry([2], [0, 8]), "b": _entry([2], [4, 12])}, bytes(12)
    ),
    "a tensor beyond the file": _safetensors({"a": _entry([2], [0, 8])}, bytes(4)),
    "a shape that overflows": _safetensors({"a": _entry([2**62, 2**62], [0, 8])}, bytes(8)),
    "a tensor twice": _safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "a pickle": b"\x80\x04]\x94.",
    "a zip": b"PK\x03\x04" + bytes(64),
}


def _with_tensors(name: str, change: Callable[[dict[str, Any], str], Any]) -> Change:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors, name)
        save_file(tensors, folder / WEIGHTS)

    return apply


def _raw(file: str, data: bytes) -> Change:
    return lambda folder: (folder / file).write_bytes(data)


def _twice(text: str) -> bytes:
    """The first key of an object a second time."""
    first = next(iter(json.loads(text).items()))
    return text.replace("{", "{" + f"{json.dumps(first[0])}: {json.dumps(first[1])},", 1).encode()


def _with_manifest(source: Path, target: Path, name: str) -> Path:
    """A copy whose manifest lists one file more, the manifest's own checksum right."""
    resealed(source, target, lambda folder: None)
    raw = json.loads((target / storage.MANIFEST).read_text(encoding="utf-8"))
    raw["files"][name] = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}
    rest = {key: value for key, value in raw.items() if key != "sha256"}
    raw["sha256"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    storage.write_json(target / storage.MANIFEST, raw)
    return target


def _fuzz(run: Path, target: Path, report: Counter[str], count: int) -> None:
    """Odd values anywhere in the JSON of a run, which is then resumed: no fault of textgen's."""
    draws = random.Random(1)
    for _ in range(count):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(run, target)
        file, value = draws.choice((CONFIG, STATE, "tokenizer.json")), draws.choice(_ODD)
        raw = json.loads((run / checkpoint.LAST / file).read_text(encoding="utf-8"))
        where = _replace_somewhere(raw, value, draws)
        resealed(
            run / checkpoint.LAST,
            target / checkpoint.LAST,
            lambda folder, file=file, raw=raw: storage.write_json(folder / file, raw),
        )
        report["odd values"] += 1
        try:
            train(out=target, resume=True, stop=lambda: 2)
        except TextgenError as error:
            report["odd values refused"] += 1
            report["odd values that are faults"] += error.exit_code == 4
        except Exception as error:
            report["odd values that are faults"] += 1
            print(f"{file} {where} = {value!r}: {type(error).__name__}: {error}", flush=True)


_ODD = (None, -1, 0, 1.5, "x", "", [], {}, True, 2**70, 1e308, "../../etc", [1], {"a": None})


def _replace_somewhere(raw: Any, value: Any, draws: random.Random) -> str:
    """Put the value in a random place below ``raw``; the path to it."""
    path = ""
    while True:
        keys = list(raw) if isinstance(raw, dict) else range(len(raw))
        key = draws.choice(list(keys))
        path += f".{key}"
        if not isinstance(raw[key], dict | list) or not raw[key] or draws.random() < 0.2:
            raw[key] = copy.deepcopy(value)
            return path
        raw = raw[key]
