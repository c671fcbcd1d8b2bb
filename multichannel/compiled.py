"""The compiled frame step: built by the system's C++ compiler on first use, then kept.

The library has a plain C interface and knows nothing of Python or PyTorch, so building it takes
seconds, loading it nothing. It is kept in the user's cache folder (``CLEARBEAM_CACHE`` names
another) under a name made of its sources, the compiler and the processor.
"""

from __future__ import annotations

import copy
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
    """The compiled engine, built where it was not yet; raises as `built`."""
    loaded = built("live.cpp")
    loaded.gtcrn_new.restype = loaded.live_new.restype = ctypes.c_void_p
    loaded.live_step.restype = loaded.live_state.restype = ctypes.c_int64
    loaded.calm_hops.restype = ctypes.c_int64
    return loaded


def built(name: str) -> ctypes.CDLL:
    """The library of a file of ``native/``.

    Raises:
        RuntimeError: there is no C++ compiler, or it failed.
    """
    source = _SOURCES / name
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        raise RuntimeError("expected a C++ compiler (c++, g++ or clang++), found none")
    path = cache_folder() / f"{source.stem}-{_fingerprint(compiler, source)}.so"
    if not path.is_file():
        _build(compiler, source, path)
    return ctypes.CDLL(str(path))


@functools.cache
def can_compile() -> bool:
    """Whether `library` works here."""
    try:
        library()
    except (RuntimeError, OSError):
        return False
    return True


def _fingerprint(compiler: str, source: Path) -> str:
    """Of all that the library depends on."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        cpu = platform.processor()
    digest = hashlib.sha256(version + cpu.encode() + " ".join(_FLAGS).encode())
    for part in (*sorted(_SOURCES.glob("*.h")), source):
        digest.update(part.read_bytes())
    return digest.hexdigest()[:16]


def _build(compiler: str, source: Path, path: Path) -> None:
    """Compile into ``path``, for this very processor where the compiler knows how."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    native = _NATIVE.get(platform.machine(), [])
    try:
        for extra in (native, []):
            command = [compiler, *_FLAGS, *extra, f"-I{_SOURCES}", str(source), "-o", str(partial)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                partial.replace(path)
                return
    finally:
        partial.unlink(missing_ok=True)
    reason = " ".join(done.stderr.split())[:300]
    raise RuntimeError(f"expected {compiler} to build {source.name}, found: {reason}")


def pointer(array: np.ndarray | None) -> ctypes.c_void_p:
    """To the first value; the caller keeps the array alive."""
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


class CompiledGTCRN:
    """A GTCRN that remembers the frames before.

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
        self._sizes = np.array([*config.inputs, config.normalise, config.width, inner], np.int32)
        self._compression, self._numbers = config.compression, pack_gtcrn(net)
        self.handle = self._new()

    def _new(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(
            self._library.gtcrn_new(
                pointer(self._sizes), ctypes.c_float(self._compression), pointer(self._numbers)
            )
        )

    def fresh(self) -> CompiledGTCRN:
        """The same network, which remembers nothing."""
        other = copy.copy(self)
        other.handle = self._new()
        return other

    def step(self, X: Tensor, cues: Tensor | None = None) -> Tensor:
        """Mask ``(257,)`` of the first of the spectra ``X (inputs, 257)``.

        Args and raises as `run`, for one frame.
        """
        return self.run(X.unsqueeze(-1), None if cues is None else cues.unsqueeze(-1))[..., 0]

    def run(self, X: Tensor, cues: Tensor | None = None) -> Tensor:
        """Mask ``(257, frames)`` of the first of the spectra ``X (inputs, 257, frames)``.

        Args:
            X: complex, on the CPU.
            cues: ``(n_cues, 257, frames)``; left out when the network has none.

        Raises:
            ValueError: the shapes are not the network's.
        """
        found = (0, *X.shape[1:]) if cues is None else tuple(cues.shape)
        n_frames = X.shape[-1]
        if X.shape[:-1] != (self._n_inputs, 257) or found != (self._n_cues, 257, n_frames):
            raise ValueError(
                f"expected X of shape ({self._n_inputs}, 257, frames) and {self._n_cues} cues, "
                f"found {tuple(X.shape)} and {found[0]} cues"
            )
        X = X.to(torch.complex64).resolve_conj()
        cues = X.real.new_empty(0, 257, n_frames) if cues is None else cues.to(torch.float32)
        mask = X.new_empty(n_frames, 257)
        X_strides, cue_strides = (np.array(x.stride(), np.int64) for x in (X, cues))
        self._library.gtcrn_run(
            self.handle,
            ctypes.c_void_p(X.data_ptr()),
            pointer(X_strides),
            ctypes.c_void_p(cues.data_ptr()),
            pointer(cue_strides),
            ctypes.c_void_p(mask.data_ptr()),
            ctypes.c_int64(n_frames),
        )
        return mask.T

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._library.gtcrn_delete(self.handle)
