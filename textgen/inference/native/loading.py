"""Finds the compiled code, or has it compiled in the background, once a machine.

Without a compiler there is none, and all goes on as if it had never been asked for.
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

_SOURCE, *_INCLUDED = (
    Path(__file__).with_name(name) for name in ("textgen.c", "draw.h", "ngrams.h", "step.h")
)
_ADDRESS, _COUNT, _THREADS = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_PROCEDURES = {
    "textgen_read": [_ADDRESS, _ADDRESS, _COUNT, _THREADS],
    "textgen_write": [*4 * [_ADDRESS], _COUNT, _ADDRESS, _ADDRESS, _THREADS],
    "textgen_draw": [
        *(_ADDRESS, _ADDRESS, _COUNT, _ADDRESS, _ADDRESS, _COUNT, _COUNT),
        *(_ADDRESS, _ADDRESS, _ADDRESS, _THREADS),
    ],
}
"""What ``textgen.c`` offers, and what each takes."""
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
_FLAGS_OF_PROCESSORS = {
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
}
_WITH_OR_WITHOUT_THREADS = ("-fopenmp", "-fopenmp-simd")
_SECONDS = 60


def library(device: torch.device, dtype: torch.dtype) -> Library | None:
    """The compiled code, for such numbers; None where there is none, or none yet."""
    fits = device.type == "cpu" and dtype == torch.float32
    return loading().library if fits else None


@cache
def loading() -> "Loading":
    return Loading(platformdirs.user_cache_path("textgen"), _compiler())


class Loading:
    """Loads the library at once where a folder has it already, and else as soon as it has.

    What compiles it meanwhile is a thread, before whose end the process does not end.
    """

    def __init__(self, folder: Path, compiler: list[str] | None) -> None:
        self.library: Library | None = None
        self._thread: Thread | None = None
        flags = (*_FLAGS, *_FLAGS_OF_PROCESSORS.get(torch.backends.cpu.get_cpu_capability(), ()))
        self._path = folder / f"{_key(flags)}.so"
        if self._path.exists():
            self._load()
        if self.library is None and compiler is not None:
            self._thread = Thread(target=self._compile, args=([*compiler, *flags],))
            self._thread.start()

    @property
    def compiles(self) -> bool:
        """Whether it is, or was, not found but compiled."""
        return self._thread is not None

    def wait(self) -> Library | None:
        """What there is once nothing is being compiled any more."""
        if self._thread is not None:
            self._thread.join()
        return self.library

    def _load(self) -> None:
        try:
            library = Library(str(self._path))
            for name, arguments in _PROCEDURES.items():
                procedure = getattr(library, name)
                procedure.argtypes, procedure.restype = arguments, None
        except (OSError, AttributeError):
            return
        self.library = library

    def _compile(self, command: list[str]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._path.parent) as folder:
                compiled = Path(folder, self._path.name)
                for flag in _WITH_OR_WITHOUT_THREADS:
                    if _succeeds([*command, flag, str(_SOURCE), "-o", str(compiled), "-lm"]):
                        compiled.replace(self._path)
                        break
        except (OSError, subprocess.SubprocessError):
            return
        self._load()


def _key(flags: tuple[str, ...]) -> str:
    """What a library is for: this source, on such a processor."""
    key = hashlib.sha256(" ".join([sys.platform, platform.machine(), *flags]).encode())
    for source in (_SOURCE, *_INCLUDED):
        key.update(source.read_bytes())
    return key.hexdigest()[:16]


def _compiler() -> list[str] | None:
    """The command of a C compiler, where there is one."""
    if sys.platform == "win32":
        return None
    named = os.environ.get("CC")
    for command in [shlex.split(named)] if named else [[name] for name in _COMPILERS]:
        if command and (found := shutil.which(command[0])):
            return [found, *command[1:]]
    return None


def _succeeds(command: list[str]) -> bool:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
    )
    return done.returncode == 0
