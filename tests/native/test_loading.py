"""Finding a compiler and what it has compiled; going on where there is none."""

from pathlib import Path

import pytest
import torch

from textgen.inference.native import library
from textgen.inference.native.loading import Loading

_WRITES_NONSENSE = 'while [ "$1" != -o ]; do shift; done; echo nonsense > "$2"'


def finished(folder: Path, compiler: str | None) -> Loading:
    loading = Loading(folder, None if compiler is None else [compiler])
    loading.wait()
    return loading


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_here_there_is_none_as_there_is_no_compiler() -> None:
    assert library(torch.device("cpu"), torch.float32) is None


def test_without_a_compiler_there_is_none_and_nothing_is_written(tmp_path: Path) -> None:
    assert finished(tmp_path / "cache", None).library is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("does", ["exit 1", "exit 0", "kill -9 $$", "echo >&2 no; exit 4"])
def test_a_compiler_that_fails_leaves_none_and_nothing(tmp_path: Path, does: str) -> None:
    compiler = script(tmp_path / "cc", does)
    assert finished(tmp_path / "cache", compiler).library is None
    assert list((tmp_path / "cache").iterdir()) == []


def test_one_that_cannot_be_run_leaves_none(tmp_path: Path) -> None:
    assert finished(tmp_path / "cache", str(tmp_path / "nowhere")).library is None


def test_a_place_that_cannot_be_written_to_leaves_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert finished(tmp_path / "file" / "cache", "cc").library is None


def test_it_is_compiled_once(compiler: str, tmp_path: Path) -> None:
    assert finished(tmp_path / "cache", compiler).library is not None
    assert len(list((tmp_path / "cache").iterdir())) == 1
    second = Loading(tmp_path / "cache", [script(tmp_path / "cc", "exit 1")])
    assert not second.compiles
    assert second.library is not None


def test_what_does_not_load_is_compiled_anew(compiler: str, tmp_path: Path) -> None:
    assert finished(tmp_path / "cache", script(tmp_path / "cc", _WRITES_NONSENSE)).library is None
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert finished(tmp_path / "cache", None).library is None
    assert finished(tmp_path / "cache", compiler).library is not None


def test_where_threads_cannot_be_linked_it_does_without(compiler: str, tmp_path: Path) -> None:
    refusing = f'case "$*" in *"-fopenmp "*) exit 1;; esac; exec {compiler} "$@"'
    assert finished(tmp_path / "cache", script(tmp_path / "cc", refusing)).library is not None


@pytest.mark.usefixtures("compiled")
def test_it_is_for_floats_on_a_processor_alone() -> None:
    cpu = torch.device("cpu")
    assert library(cpu, torch.float32) is not None
    assert library(cpu, torch.float64) is None
    assert library(torch.device("cuda"), torch.float32) is None
