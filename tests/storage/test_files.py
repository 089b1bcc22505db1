"""JSON files: equal bytes for equal values, and nothing but strict JSON is read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from textgen import storage
from textgen.config import Bounds, Count, TrainingConfig
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
        ([], "damaged .*not a JSON object"),
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
        storage.read_object(tmp_path / "thing.json", 2)
    storage.write_json(tmp_path / "thing.json", {"format": 2})
    assert storage.read_object(tmp_path / "thing.json", 2) == {"format": 2}


@dataclass(frozen=True)
class Inner:
    count: Count


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", "b"]
    rate: Annotated[float, Bounds(0, 1, open_low=True)]
    name: str | None
    inner: Inner
    notes: tuple[str, ...]
    sizes: Mapping[str, int]
    training: TrainingConfig
    added: int = 7


GOOD = {
    **{"kind": "a", "rate": 0.5, "name": None, "inner": {"count": 2}, "notes": ["x"]},
    **{"sizes": {"x": 1}, "training": {"steps": 5}},
}


def test_a_value_is_read_with_every_field_of_its_type() -> None:
    training = TrainingConfig(steps=5)
    whole = Outer("a", 0.5, None, Inner(2), ("x",), {"x": 1}, training)
    assert storage.from_json(Outer, GOOD | {"later": 1}) == whole
    assert storage.from_json(Outer, [*GOOD.values(), 8]) == replace(whole, added=8)
    assert storage.from_json(tuple[Inner, ...], [{"count": 1}, [2]]) == (Inner(1), Inner(2))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("kind", ["c", [], None, {}]),
        ("rate", ["1", True, None, 0, 1, 1.5, 10**400, -1]),
        ("name", [3, "\ud800"]),
        ("inner", [None, [], 3, {"count": 2.0}, {"count": True}, {"count": -1}, {"count": 2**54}]),
        ("notes", ["x", [1], None, {}]),
        ("sizes", [[], None, {"x": "y"}, {"\ud800": 1}]),
        ("training", [None, [], {"steps": "5"}, {"steps": 0}, {"betas": 3}]),
        ("added", [None, 1.0]),
    ],
)
def test_a_value_of_another_type_or_out_of_range_names_its_file(
    tmp_path: Path, name: str, values: list[Any]
) -> None:
    path = tmp_path / "thing.json"
    for each in values:
        path.write_text(json.dumps({"format": 1, **GOOD, name: each}))
        with pytest.raises(CheckpointError, match=r"damaged \(.*thing\.json\): .*"):
            storage.read(Outer, path, 1)


def test_a_missing_field_is_named_with_its_path() -> None:
    with pytest.raises(ValueError, match=r"inner\.count is missing"):
        storage.from_json(Outer, GOOD | {"inner": {}})


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, number: str) -> None:
    (tmp_path / "thing.json").write_text(f'{{"a": {number}}}')
    with pytest.raises(CheckpointError, match="not a finite number"):
        storage.read_json(tmp_path / "thing.json")


def test_lines_are_read_up_to_one_that_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n[2]\n{"a": ')
    assert list(storage.read_lines(path)) == [
        (f"{path}, line 1", {"a": 1}),
        (f"{path}, line 2", [2]),
    ]
    for bad in (
        b"\0\0\n",
        b"\xff\n",
        b"{\n",
        b"\n",
        b"1e999\n",
        b"[" * 2**20,
        "{}\n".encode("utf-16-le"),
    ):
        path.write_bytes(b"1\n" + bad + b"3\n")
        with pytest.raises(CheckpointError, match=r"damaged \(.*lines\.jsonl, line 2\)"):
            list(storage.read_lines(path))


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
