"""Compiling and caching the library, and doing without where that fails."""

import os
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


posix = pytest.mark.skipif(os.name != "posix", reason="no owners and modes")


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_only_the_user_can_write_into_the_cache(quick: str, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert finished(tmp_path / "new" / "cache", quick).library is not None
    finally:
        os.umask(before)
    (file,) = (tmp_path / "new" / "cache").iterdir()
    for path in (file, file.parent, file.parent.parent):
        assert path.stat().st_mode & 0o777 == 0o700


@posix
@pytest.mark.parametrize("which", ["folder", "file"])
@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_what_others_could_write_is_not_loaded_but_compiled_anew(
    quick: str, tmp_path: Path, which: str, mode: int
) -> None:
    cache = tmp_path / "cache"
    assert finished(cache, quick).note is None
    (file,) = cache.iterdir()
    (cache if which == "folder" else file).chmod(mode)
    without = finished(cache, None)
    assert without.library is None
    assert without.note == f"compiled code is not read from {cache}: others could write there"
    again = Loading(cache, [quick])
    assert again.library is None
    assert again.wait() is not None
    (file,) = cache.iterdir()
    assert {path.stat().st_mode & 0o777 for path in (cache, file)} == {0o700}
    assert finished(cache, None).library is not None, "what was compiled anew is trusted"


@posix
def test_a_link_is_not_followed(quick: str, tmp_path: Path) -> None:
    assert finished(tmp_path / "cache", quick).library is not None
    (file,) = (tmp_path / "cache").iterdir()
    elsewhere = file.rename(tmp_path / "elsewhere.so")
    file.symlink_to(elsewhere)
    assert finished(tmp_path / "cache", None).library is None


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="only root gives files to others"
)
def test_what_another_user_owns_is_not_loaded(quick: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert finished(cache, quick).library is not None
    (file,) = cache.iterdir()
    os.chown(file, 1234, 1234)
    assert finished(cache, None).library is None
    os.chown(file, 0, 0)
    os.chown(cache, 1234, 1234)
    assert finished(cache, None).library is None
    compiled = finished(cache, quick)
    assert compiled.library is not None, "compiled in a private folder, which is gone"
    assert compiled.note == f"compiled code is not kept in {cache}: it belongs to another user"
    assert list(cache.iterdir()) == [file]
