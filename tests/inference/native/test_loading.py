"""Compiling and caching the library, and doing without where that fails."""

from pathlib import Path

import pytest
import torch

from textgen.inference.native.kernels import Loading, library

CPU = torch.device("cpu")
WRITES_NONSENSE = 'while [ "$1" != -o ]; do shift; done; echo nonsense > "$2"'


def finished(folder: Path, compiler: str | None) -> Loading:
    loading = Loading(folder, None if compiler is None else [compiler])
    loading.wait()
    return loading


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def quick(compiler: str, tmp_path: Path) -> str:
    """A compiler that does not optimize."""
    return script(tmp_path / "quick", f'exec {compiler} "$@" -O0')


def test_without_a_compiler_there_is_none_and_nothing_is_written(tmp_path: Path) -> None:
    assert library(CPU, torch.float32) is None  # the tests name no compiler
    assert finished(tmp_path / "cache", None).library is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("does", ["exit 1", "exit 0", "kill -9 $$", "echo >&2 no; exit 4"])
def test_a_compiler_that_fails_leaves_no_file(tmp_path: Path, does: str) -> None:
    compiler = script(tmp_path / "cc", does)
    assert finished(tmp_path / "cache", compiler).library is None
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(("folder", "compiler"), [("cache", "/missing/cc"), ("file/cache", "cc")])
def test_a_missing_compiler_or_a_folder_that_cannot_be_written_gives_none(
    tmp_path: Path, folder: str, compiler: str
) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert finished(tmp_path / folder, compiler).library is None


def test_it_is_compiled_once(quick: str, tmp_path: Path) -> None:
    assert finished(tmp_path / "cache", quick).library is not None
    assert len(list((tmp_path / "cache").iterdir())) == 1
    second = Loading(tmp_path / "cache", [script(tmp_path / "cc", "exit 1")])
    assert second.library is not None, "it is loaded at once"


def test_a_file_that_cannot_be_loaded_is_compiled_again(quick: str, tmp_path: Path) -> None:
    assert finished(tmp_path / "cache", script(tmp_path / "cc", WRITES_NONSENSE)).library is None
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert finished(tmp_path / "cache", None).library is None
    assert finished(tmp_path / "cache", quick).library is not None


def test_without_openmp_it_is_compiled_without_threads(quick: str, tmp_path: Path) -> None:
    refusing = f'case "$*" in *"-fopenmp "*) exit 1;; esac; exec {quick} "$@"'
    assert finished(tmp_path / "cache", script(tmp_path / "cc", refusing)).library is not None


@pytest.mark.usefixtures("compiled")
def test_it_is_for_float32_on_the_cpu_only() -> None:
    assert library(CPU, torch.float32) is not None
    assert library(CPU, torch.float64) is None
    assert library(torch.device("cuda"), torch.float32) is None
