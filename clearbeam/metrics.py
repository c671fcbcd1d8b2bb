"""How close an estimate comes to its reference: SI-SDR, SDR, PESQ-WB, STOI and ESTOI.

Every metric is a function `(estimate, reference) -> float` of two waveforms (samples,) at 16 kHz,
and an entry of `METRICS`. All of them answer the degenerate cases in the same way:

| reference | estimate | answer |
|---|---|---|
| NaN or infinite | any | ValueError: the dataset is broken |
| all zero | any | NaN: undefined, and left out of every mean |
| sound | NaN, infinite or all zero | the worst score of the scale: a failure must not be skipped |
| too short or too empty to judge | sound | NaN: undefined (see `pesq_wb` and `stoi`) |

PESQ and STOI come from the packages `pesq` and `pystoi`, imported when first used.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import solve_toeplitz

SAMPLE_RATE = 16_000
CLAMP_DB = 100.0  # beyond it lies the quantisation noise of a 16-bit file: call them equal
DISTORTION_TAPS = 512  # the filter BSS-eval forgives: 32 ms

Waveform = NDArray[np.float64]
Measure = Callable[[ArrayLike, ArrayLike], float]


@dataclass(frozen=True)
class Metric:
    """A named score: its column title, its digits in a table, and the package it needs, if any."""

    name: str
    title: str
    digits: int
    worst: float
    package: str | None
    measure: Measure

    @property
    def available(self) -> bool:
        """Whether the package that this metric needs is installed."""
        return self.package is None or importlib.util.find_spec(self.package) is not None

    def require(self) -> None:
        """Raise ImportError, saying what to install, when the metric's package is missing."""
        if not self.available:
            raise ImportError(
                f"expected the package {self.package} for {self.name}, found none: "
                f"pip install 'clearbeam[eval]' (or pip install {self.package})"
            )


METRICS: dict[str, Metric] = {}


def _metric(
    title: str, digits: int, worst: float, package: str | None = None
) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Register a metric and give it the common answers to degenerate input (the table above)."""

    def register(function: Callable[..., float]) -> Callable[..., float]:
        @functools.wraps(function)
        def guarded(estimate: ArrayLike, reference: ArrayLike, **options: int) -> float:
            metric.require()
            s_hat, s = _waveforms(estimate, reference)
            if not s.any():
                return float("nan")
            if not (np.isfinite(s_hat).all() and s_hat.any()):
                return worst
            return float(function(s_hat / _rms(s_hat), s / _rms(s), **options))

        metric = Metric(function.__name__, title, digits, worst, package, guarded)
        METRICS[metric.name] = metric
        return guarded

    return register


@_metric("SI-SDR", digits=2, worst=-CLAMP_DB)
def si_sdr(estimate: ArrayLike, reference: ArrayLike) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, the mean not removed.

    estimate, reference: (samples,). The target is the projection of the estimate onto the
    reference; the answer lies in [-100, 100]. Le Roux et al., "SDR - half-baked or well done?",
    ICASSP 2019, eq. 3. Raises ValueError on unequal shapes or a reference that is not finite.
    """
    s_hat, s = np.asarray(estimate), np.asarray(reference)
    target = (s_hat @ s) / (s @ s) * s
    return _ratio_db(_energy(target), _energy(s_hat - target))


@_metric("SDR", digits=2, worst=-CLAMP_DB)
def sdr(estimate: ArrayLike, reference: ArrayLike, taps: int = DISTORTION_TAPS) -> float:
    """Signal-to-distortion ratio of BSS-eval in dB: any filter of `taps` taps is forgiven.

    estimate, reference: (samples,). The target is the projection of the estimate onto the
    reference delayed by 0..taps-1 samples; the answer lies in [-100, 100]. Vincent et al.,
    "Performance measurement in blind audio source separation", 2006, for one source and with
    time-invariant filters allowed as distortions. Raises ValueError on unequal shapes or a
    reference that is not finite.
    """
    s_hat, s = np.asarray(estimate), np.asarray(reference)
    # Zeros after the end keep every delayed reference whole, so R is Toeplitz, not nearly so.
    n_fft = next_fast_len(s.size + taps - 1, real=True)
    S, S_hat = rfft(s, n_fft), rfft(s_hat, n_fft)
    r = irfft(S.conj() * S, n_fft)[:taps]
    c = irfft(S.conj() * S_hat, n_fft)[:taps]
    # R h = c are the normal equations, so the projection's energy is c.h. The loading, 120 dB below
    # the reference, only matters where the reference leaves a band empty.
    r[0] *= 1 + 1e-12
    target = float(c @ solve_toeplitz(r, c))
    return _ratio_db(target, _energy(s_hat) - target)


@_metric("PESQ-WB", digits=3, worst=1.0, package="pesq")
def pesq_wb(estimate: ArrayLike, reference: ArrayLike) -> float:
    """Wide-band PESQ (ITU-T P.862.2): a predicted opinion score, about 1.0 to 4.64.

    estimate, reference: (samples,) at 16 kHz. NaN where PESQ finds no utterance in the reference
    or the clip is shorter than a quarter of a second. Raises ImportError without `pesq`.
    """
    import pesq

    try:
        return float(pesq.pesq(SAMPLE_RATE, np.asarray(reference), np.asarray(estimate), "wb"))
    except (pesq.NoUtterancesError, pesq.BufferTooShortError):
        return float("nan")


@_metric("STOI", digits=3, worst=0.0, package="pystoi")
def stoi(estimate: ArrayLike, reference: ArrayLike) -> float:
    """Short-time objective intelligibility, 0 to 1 (Taal et al., 2011).

    estimate, reference: (samples,) at 16 kHz. NaN where the reference has less than 384 ms of
    speech after its silent frames are left out. Raises ImportError without `pystoi`.
    """
    return _stoi(estimate, reference, extended=False)


@_metric("ESTOI", digits=3, worst=0.0, package="pystoi")
def estoi(estimate: ArrayLike, reference: ArrayLike) -> float:
    """Extended STOI, 0 to 1, which also judges modulated noise (Jensen and Taal, 2016).

    Shapes, the undefined case and what it raises are those of `stoi`.
    """
    return _stoi(estimate, reference, extended=True)


def _stoi(estimate: ArrayLike, reference: ArrayLike, extended: bool) -> float:
    from pystoi import stoi as package_stoi

    with warnings.catch_warnings():
        # The package says "too short" by a warning and a tiny score that looks like a measurement.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(package_stoi(reference, estimate, SAMPLE_RATE, extended=extended))
        except (RuntimeWarning, ValueError):
            return float("nan")


def attenuation(estimate: ArrayLike, noisy: ArrayLike) -> float:
    """How much less energy the estimate has than the mic it was made from, in dB: -100 to 100.

    estimate, noisy: (samples,). On noise alone that is how much of it was removed. NaN for a silent
    mic, the worst score for an estimate that is not finite.
    """
    s_hat, y = _waveforms(estimate, noisy)
    if not y.any():
        return float("nan")
    if not np.isfinite(s_hat).all():
        return -CLAMP_DB
    peak = max(float(np.abs(s_hat).max()), float(np.abs(y).max()))
    return _ratio_db(_energy(y / peak), _energy(s_hat / peak))


def _waveforms(estimate: ArrayLike, reference: ArrayLike) -> tuple[Waveform, Waveform]:
    s_hat, s = np.asarray(estimate, np.float64), np.asarray(reference, np.float64)
    if s.ndim != 1 or s_hat.shape != s.shape or s.size == 0:
        raise ValueError(
            "expected estimate and reference of one shape (samples,), "
            f"found {s_hat.shape} and {s.shape}"
        )
    if not np.isfinite(s).all():
        raise ValueError("expected a finite reference, found NaN or infinity in it")
    return s_hat, s


def _rms(x: Waveform) -> float:
    # Divided by the peak first, so that squaring neither overflows nor underflows.
    peak = float(np.abs(x).max())
    return peak * float(np.sqrt(np.mean((x / peak) ** 2)))


def _energy(x: Waveform) -> float:
    return float(x @ x)


def _ratio_db(target: float, error: float) -> float:
    """10 log10(target / error) within ±CLAMP_DB, for energies that may be zero."""
    limit = 10 ** (CLAMP_DB / 10)
    if target >= limit * error:
        return CLAMP_DB
    if error >= limit * target:
        return -CLAMP_DB
    return float(10 * np.log10(target / error))
