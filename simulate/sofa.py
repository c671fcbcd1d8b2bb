"""Room responses in SOFA files (AES69): HDF5 with FIR filters from sources to receivers.

Understood are conventions of the data types FIR and FIR-E, such as SingleRoomDRIR, SingleRoomSRIR,
MultiSpeakerBRIR and GeneralFIR: Data.IR (measurements, receivers, samples), or with emitters before
the samples; Data.SamplingRate; Data.Delay in samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import fft

from simulate.sound_files import MOST_VALUES, RATES_HZ

_MARK = ".sofa#"  # `hall.sofa#3.1` is emitter 1 of measurement 3


class SofaResponse(NamedTuple):
    """One place of sound in a file: its name, the listener's pose, its receivers."""

    name: str
    pose: str
    n_mics: int


def is_sofa(path: str | Path) -> bool:
    """Whether the path is that of a SOFA file, or of one place of sound in it."""
    return str(path).lower().endswith(".sofa") or _MARK in str(path).lower()


def list_sofa(file: str | Path) -> list[SofaResponse]:
    """Every measurement and emitter of a file; ValueError in one line when it cannot be used."""
    with _open(file) as sofa:
        shape = _shape(sofa, file)
        poses = [_pose(sofa, m) for m in range(shape[0])]
        return [
            SofaResponse(f"{file}#{m}.{e}", poses[m], shape[1])
            for m in range(shape[0])
            for e in range(shape[2])
        ]


def read_sofa(name: str) -> tuple[np.ndarray, float]:
    """Responses (samples, receivers) float64 of a name from `list_sofa`, and their rate."""
    file, _, number = name.rpartition("#")
    m, e = (int(n) for n in number.split("."))
    with _open(file) as sofa:
        shape = _shape(sofa, file)
        ir = sofa["Data.IR"]
        x = np.asarray(ir[m] if ir.ndim == 3 else ir[m, :, e], float)
        rates = np.ravel(sofa["Data.SamplingRate"])
        rate = float(rates[min(m, len(rates) - 1)])
        delay = np.zeros(shape[1])
        if "Data.Delay" in sofa:
            given = np.asarray(sofa["Data.Delay"], float)
            given = given[min(m, len(given) - 1)]
            delay = delay + (given[..., min(e, given.shape[-1] - 1)] if given.ndim == 2 else given)
    if not RATES_HZ[0] <= rate <= RATES_HZ[1] or not np.all((delay >= 0) & (delay <= rate)):
        raise ValueError(
            f"expected a rate of {RATES_HZ[0]} to {RATES_HZ[1]} Hz and delays of 0 to 1 s, "
            f"found others in {file}"
        )
    return _delayed(x, delay).T, rate


@contextmanager
def _open(file: str | Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError:
        raise ValueError(f"expected h5py to read {file}: pip install 'clearbeam[sofa]'") from None
    try:
        with h5py.File(file, "r") as sofa:
            yield sofa
    except (OSError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"expected a SOFA file, found {file} ({reason})") from None


def _shape(sofa: Any, file: str | Path) -> tuple[int, int, int]:
    """Measurements, receivers and emitters."""
    for key in ("Data.IR", "Data.SamplingRate"):
        if key not in sofa:
            kind = sofa.attrs.get("DataType", b"none")
            kind = kind.decode() if isinstance(kind, bytes) else kind
            raise ValueError(
                f"expected a SOFA file of FIR responses with {key}, found {file} (DataType {kind})"
            )
    shape = sofa["Data.IR"].shape
    if len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(f"expected Data.IR of 3 or 4 axes, found {shape} in {file}")
    if math.prod(shape) > MOST_VALUES:
        raise ValueError(f"expected at most {MOST_VALUES} samples in {file}, found {shape}")
    return shape[0], shape[1], shape[2] if len(shape) == 4 else 1


def _pose(sofa: Any, measurement: int) -> str:
    """Where the listener was and looked: an array that moved is another array in another room."""
    said = []
    for key in ("ListenerPosition", "ListenerView"):
        if key in sofa and sofa[key].ndim == 2:
            rows = sofa[key]
            said.append(np.asarray(rows[min(measurement, len(rows) - 1)], float).round(3).tolist())
    return str(said)


def _delayed(x: np.ndarray, delay: np.ndarray) -> np.ndarray:
    """Responses (receivers, samples) later by `delay` (receivers,) samples, whole or not."""
    if not delay.any():
        return x
    n_samples = x.shape[-1] + int(np.ceil(delay.max()))
    n_fft = fft.next_fast_len(n_samples + 64, real=True)
    whole = np.floor(delay).astype(int)
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(n_fft) * (delay - whole)[:, None])
    between = np.asarray(fft.irfft(fft.rfft(x, n_fft) * turn, n_fft))
    out = np.zeros((len(x), n_samples))
    for row, y, start in zip(out, between, whole, strict=True):
        row[start:] = y[: n_samples - start]
    return out
