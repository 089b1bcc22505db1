"""JSON files: equal bytes for equal values, and nothing but strict JSON is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from textgen import storage
from textgen.errors import CheckpointError


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"{} {}", b"\x00", b'{"a": "\xff"}', b"NaN", b"[" * 10**5, b'{"a":' * 10**5),
        *(b'{"a": 1, "a": 1}', b'{"x": {"a": 1, "b": 2, "a": 3}}', b'{"a": 1' + b"0" * 5000 + b"}"),
    ],
    ids=lambda text: repr(text[:30]),
)
def test_json_that_is_not_strict_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(CheckpointError, match=r"config\.json.*not valid JSON"):
        storage.read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "damaged .*not a thing"),
        ({}, "damaged .*format None"),
        ({"format": True}, "damaged .*format True"),
        ({"format": 0}, "damaged .*format 0"),
        ({"format": "2"}, "damaged .*format '2'"),
        ({"format": 1}, r"format 1 is older than this textgen reads \(2\)"),
        ({"format": 3}, r"format 3 is newer .*upgrade textgen"),
    ],
)
def test_an_object_has_the_current_format(tmp_path: Path, value: object, message: str) -> None:
    storage.write_json(tmp_path / "thing.json", value)
    with pytest.raises(CheckpointError, match=message):
        storage.read_object(tmp_path / "thing.json", "a thing", 2)
    storage.write_json(tmp_path / "thing.json", {"format": 2})
    assert storage.read_object(tmp_path / "thing.json", "a thing", 2) == {"format": 2}


@dataclass(frozen=True)
class Inner:
    count: int


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", "b"]
    rate: float
    name: str | None
    inner: Inner
    notes: tuple[str, ...] = ()


def test_a_dataclass_is_read_with_every_field_of_its_type() -> None:
    value = {"kind": "a", "rate": 1, "name": None, "inner": {"count": 2}, "notes": ["x"]}
    assert storage.from_json(Outer, value | {"later": 1}) == Outer("a", 1.0, None, Inner(2), ("x",))
    wrong: dict[str, list[Any]] = {
        "kind": ["c", [], None],
        "rate": ["1", True, None],
        "name": [3],
        "inner": [None, [], {"count": 2.0}, {"count": True}, {}],
        "notes": ["x", [1], None],
    }
    for name, values in wrong.items():
        for each in values:
            with pytest.raises((KeyError, TypeError)):
                storage.from_json(Outer, value | {name: each})
        with pytest.raises(KeyError):
            storage.from_json(Outer, {key: value[key] for key in value if key != name})


def test_a_required_file_that_is_missing_is_named_with_its_folder(tmp_path: Path) -> None:
    files = {"a.json": tmp_path / "a.json"}
    assert storage.require(files, "a.json") == tmp_path / "a.json"
    with pytest.raises(CheckpointError, match=rf"incomplete \({tmp_path}\): there is no b\.json"):
        storage.require(files, "b.json")


def test_equal_values_are_equal_bytes(tmp_path: Path) -> None:
    value = {"b": [1, 0.1, "é\u2028"], "a": None}
    for name in ("a", "b"):
        storage.write_json(tmp_path / name, dict(value))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert storage.read_json(tmp_path / "a") == value
    with pytest.raises(ValueError, match="JSON compliant"):
        storage.write_json(tmp_path / "c", {"a": float("nan")})
