"""The compiled frame step: built by the system's C++ compiler on first use, then kept.

The library has a plain C interface and knows nothing of Python or PyTorch, so building it takes
seconds, loading it nothing. It is kept in the user's cache folder (``CLEARBEAM_CACHE`` names
another) under a name made of its sources, the compiler and the processor.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multichannel.caches import cache_folder
from multichannel.gtcrn import GTCRN
from multichannel.packing import pack_gtcrn

_SOURCES = Path(__file__).parent / "native"
_FLAGS = "-std=c++17 -O3 -fno-math-errno -fno-trapping-math -Wno-psabi -w -shared -fPIC".split()
_NATIVE = {"x86_64": ["-march=native", "-mprefer-vector-width=512"], "aarch64": ["-mcpu=native"]}


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled engine, built where it was not yet.

    Raises:
        RuntimeError: there is no C++ compiler, or it failed.
    """
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        raise RuntimeError("expected a C++ compiler (c++, g++ or clang++), found none")
    path = cache_folder() / f"live-{_fingerprint(compiler)}.so"
    if not path.is_file():
        _build(compiler, path)
    loaded = ctypes.CDLL(str(path))
    loaded.gtcrn_new.restype = loaded.live_new.restype = ctypes.c_void_p
    loaded.live_step.restype = loaded.live_state.restype = ctypes.c_int64
    loaded.live_broken.restype = ctypes.c_uint32
    return loaded


def can_compile() -> bool:
    """Whether `library` works here."""
    try:
        library()
    except (RuntimeError, OSError):
        return False
    return True


def _fingerprint(compiler: str) -> str:
    """Of all that the library depends on."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        cpu = platform.processor()
    digest = hashlib.sha256(version + cpu.encode() + " ".join(_FLAGS).encode())
    for source in (*sorted(_SOURCES.glob("*.h")), _SOURCES / "live.cpp"):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _build(compiler: str, path: Path) -> None:
    """Compile into ``path``, for this very processor where the compiler knows how."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    source = str(_SOURCES / "live.cpp")
    native = _NATIVE.get(platform.machine(), [])
    try:
        for extra in (native, []):
            command = [compiler, *_FLAGS, *extra, source, "-o", str(partial)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                partial.replace(path)
                return
    finally:
        partial.unlink(missing_ok=True)
    reason = " ".join(done.stderr.split())[:300]
    raise RuntimeError(f"expected {compiler} to build the live engine, found: {reason}")


def pointer(array: np.ndarray | None) -> ctypes.c_void_p:
    """To the first value; the caller keeps the array alive."""
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


class CompiledGTCRN:
    """A GTCRN that takes one frame a call; it remembers the frames before.

    Args:
        net: in evaluation mode; later changes to it are not seen.

    Raises:
        RuntimeError: there is no C++ compiler, or it failed.
    """

    def __init__(self, net: GTCRN) -> None:
        config = net.config
        self._library, self.handle = library(), None
        self._n_inputs, self._n_cues = config.n_spectra + config.n_magnitudes, config.n_cues
        inner = config.width if config.inner is None else config.inner
        sizes = np.array([*config.inputs, config.normalise, config.width, inner], np.int32)
        numbers = pack_gtcrn(net)
        self.handle = ctypes.c_void_p(
            self._library.gtcrn_new(
                pointer(sizes), ctypes.c_float(config.compression), pointer(numbers)
            )
        )

    def step(self, X: Tensor, cues: Tensor | None = None) -> Tensor:
        """Mask ``(257,)`` of the first of the spectra ``X (inputs, 257)``.

        Args:
            X: complex64.
            cues: ``(n_cues, 257)``; left out when the network has none.

        Raises:
            ValueError: the shapes are not the network's.
        """
        found = 0 if cues is None else len(cues)
        if X.shape != (self._n_inputs, 257) or found != self._n_cues:
            raise ValueError(
                f"expected X of shape ({self._n_inputs}, 257) and {self._n_cues} cues, "
                f"found {tuple(X.shape)} and {found} cues"
            )
        spectra = np.ascontiguousarray(X.numpy(), np.complex64)
        maps = None if cues is None else np.ascontiguousarray(cues.numpy(), np.float32)
        mask = np.empty(257, np.complex64)
        self._library.gtcrn_step(self.handle, pointer(spectra), pointer(maps), pointer(mask))
        return torch.from_numpy(mask)

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._library.gtcrn_delete(self.handle)
