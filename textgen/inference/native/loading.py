"""Loads the compiled code, after compiling it in the background if it is not cached.

Without a C compiler there is none, and PyTorch operators are used.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from threading import Thread

import platformdirs
import torch

Library = ctypes.CDLL

_SOURCES = [
    Path(__file__).with_name(name) for name in ("textgen.c", "draw.h", "ngrams.h", "step.h")
]
_ADDRESS, _COUNT, _THREADS = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_FUNCTIONS = {
    "textgen_read": [_ADDRESS, _ADDRESS, _COUNT, _THREADS],
    "textgen_sample": [*4 * [_ADDRESS], _COUNT, _ADDRESS, _ADDRESS, _THREADS],
    "textgen_draw": [
        *(_ADDRESS, _ADDRESS, _COUNT, _ADDRESS, _ADDRESS, _COUNT, _COUNT),
        *(_ADDRESS, _ADDRESS, _ADDRESS, _THREADS),
    ],
}
"""The argument types of each function of ``textgen.c``."""
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
_VECTOR_FLAGS = {
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
}
_OPENMP_FLAGS = ("-fopenmp", "-fopenmp-simd")
_TIMEOUT_SECONDS = 60


def library(device: torch.device, dtype: torch.dtype) -> Library | None:
    """The compiled code for such tensors; None without a compiler, or while it is compiled."""
    return loading().library if device.type == "cpu" and dtype == torch.float32 else None


@cache
def loading() -> "Loading":
    return Loading(platformdirs.user_cache_path("textgen"), _compiler())


class Loading:
    """Loads the library from a cache folder, or compiles it into the folder in a thread.

    The name of the file is a hash of platform, compiler flags and source. The process does not
    exit before the thread has ended.
    """

    def __init__(self, folder: Path, compiler: list[str] | None) -> None:
        self.library: Library | None = None
        self._thread: Thread | None = None
        flags = (*_FLAGS, *_VECTOR_FLAGS.get(torch.backends.cpu.get_cpu_capability(), ()))
        key = hashlib.sha256(" ".join([sys.platform, platform.machine(), *flags]).encode())
        for source in _SOURCES:
            key.update(source.read_bytes())
        self._path = folder / f"{key.hexdigest()[:16]}.so"
        if self._path.exists():
            self._load()
        if self.library is None and compiler is not None:
            self._thread = Thread(target=self._compile, args=([*compiler, *flags],))
            self._thread.start()

    def wait(self) -> Library | None:
        """The library, or None, when compilation has ended."""
        if self._thread is not None:
            self._thread.join()
        return self.library

    def _load(self) -> None:
        try:
            library = Library(str(self._path))
            for name, types in _FUNCTIONS.items():
                function = getattr(library, name)
                function.argtypes, function.restype = types, None
        except (OSError, AttributeError):
            return
        self.library = library

    def _compile(self, command: list[str]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._path.parent) as folder:
                compiled = Path(folder, self._path.name)
                for flag in _OPENMP_FLAGS:
                    done = subprocess.run(
                        [*command, flag, str(_SOURCES[0]), "-o", str(compiled), "-lm"],
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        timeout=_TIMEOUT_SECONDS,
                        check=False,
                    )
                    if done.returncode == 0:
                        compiled.replace(self._path)
                        break
        except (OSError, subprocess.SubprocessError):
            return
        self._load()


def _compiler() -> list[str] | None:
    """The command of a C compiler, None if there is none."""
    if sys.platform == "win32":
        return None
    named = os.environ.get("CC")
    for command in [shlex.split(named)] if named else [[name] for name in _COMPILERS]:
        if command and (found := shutil.which(command[0])):
            return [found, *command[1:]]
    return None
