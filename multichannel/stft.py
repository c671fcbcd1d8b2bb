"""The STFT core: the only place that frames a signal.

Axes: waveform ``x (..., samples)``, spectrum ``X (..., freqs, frames)``.

Framing, drawn for n_fft = 4 * hop (``0`` is the zero history, ``p`` the padding after the end)::

    samples      0 0 0 |x x x x x x x x| p p p
    frame 0     [0 0 0  x]
    frame 1       [0 0  x x]
    ...
    last frame                       [x  p p p]

The history makes the first frame complete as soon as one hop of signal is there, so the offline
transform is the streaming one with a fresh state, and every sample lies in as many frames as every
other: reconstruction is perfect to the first and the last sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.signal import get_window
from torch import Tensor, nn

from multichannel import compiled_ops

# Below this share of its maximum the overlapped window power is taken for a hole in the signal.
_HOLE = 1e-3


@dataclass(frozen=True)
class STFTConfig:
    """Size of an STFT: ``n_fft`` and ``hop`` in samples, ``window`` by its scipy name.

    A ``sqrt_`` prefix takes the square root of the (periodic) window: ``sqrt_hann``, the default.
    ``synthesis`` shortens the latency: only that many samples, the last of each frame, are put
    together again; None is all of them.
    """

    n_fft: int = 512
    hop: int = 256
    window: str = "sqrt_hann"
    synthesis: int | None = None

    @property
    def latency(self) -> int:
        """Samples from the newest sample that an output depends on, back to that output."""
        return self.n_fft if self.synthesis is None else self.synthesis

    @property
    def n_freqs(self) -> int:
        """Bins of a spectrum."""
        return self.n_fft // 2 + 1

    def n_frames(self, n_samples: int) -> int:
        """Number of frames that a signal of ``n_samples`` samples reaches into."""
        return -(-(n_samples + self.n_fft - self.hop) // self.hop)

    def freqs_hz(self, sample_rate: int) -> Tensor:
        """Centre of each bin in Hz, shape ``(freqs,)``."""
        return torch.arange(self.n_freqs, dtype=torch.float64) * sample_rate / self.n_fft


class STFTState(NamedTuple):
    """Samples that later frames still need: ``(..., n)`` with n_fft - hop <= n < n_fft."""

    tail: Tensor


class ISTFTState(NamedTuple):
    """Sum of the frames so far, where later frames still add: ``(..., latency - hop)``."""

    overlap: Tensor


class STFT(nn.Module):
    """Short-time Fourier transform and its inverse, offline and frame by frame.

    The synthesis window is the canonical dual: the analysis window over the sum of its squares in
    all overlapping frames, which gives the signal whose spectrum is nearest in least squares
    (Griffin & Lim 1984). So any window and hop work whose overlapped power has no hole; for the
    square-root Hann window at half overlap both windows are equal.
    With a shorter synthesis the two differ (Mauler & Martin 2007, "A low delay, variable
    resolution, perfect reconstruction spectral analysis-synthesis system for speech enhancement"):
    the analysis window rises slowly and falls fast, and what they make together lies at its end.

    Args:
        config: sizes and window; 512/256 square-root Hann when left out.

    Raises:
        ValueError: sizes that cannot be, an unknown window, or a pair that does not overlap-add.
    """

    analysis_window: Tensor
    synthesis_window: Tensor

    def __init__(self, config: STFTConfig | None = None) -> None:
        super().__init__()
        self.config = config or STFTConfig()
        # float64 here; cast to the signal's type when used
        for name, window in zip(("analysis", "synthesis"), _windows(self.config), strict=True):
            self.register_buffer(f"{name}_window", torch.from_numpy(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Spectrum ``(..., freqs, frames)`` of ``x (..., samples)``, float32 or float64.

        Raises:
            ValueError: ``x`` is not real floating point or has no sample.
        """
        if x.shape[-1] < 1:
            raise ValueError(f"expected x of shape (..., samples >= 1), found {tuple(x.shape)}")
        n_frames = self.config.n_frames(x.shape[-1])
        if self._compiled(x):
            return self._frames(x, self.config.hop - self.config.n_fft, n_frames)
        n_padding = n_frames * self.config.hop - x.shape[-1]
        return self.step(nn.functional.pad(x, (0, n_padding)))[0]

    def _compiled(self, x: Tensor) -> bool:
        sizes = self.config.n_fft, self.config.latency
        return compiled_ops.transforms(*sizes) and compiled_ops.fits(x)

    def _frames(self, x: Tensor, first: int, n_frames: int) -> Tensor:
        """``n_frames`` frames of ``x``, the first of which begins at sample ``first``."""
        window, hop = self.analysis_window.to(x.dtype), self.config.hop
        if self._compiled(x):
            X = compiled_ops.stft(x.reshape(-1, x.shape[-1]), window, hop, first, n_frames)
            return X.reshape(*x.shape[:-1], *X.shape[-2:]).mT
        frames: Tensor = torch.fft.rfft(x.unfold(-1, len(window), hop) * window)
        return frames.mT

    def step(self, x: Tensor, state: STFTState | None = None) -> tuple[Tensor, STFTState]:
        """The frames that ``x (..., samples)`` completes, and the state for the next call.

        Any number of samples may be given; with less than a hop there may be no frame yet.
        """
        if not x.is_floating_point():
            raise ValueError(f"expected x of a real floating type, found {x.dtype}")
        n_fft, hop = self.config.n_fft, self.config.hop
        history = x.new_zeros(*x.shape[:-1], n_fft - hop) if state is None else state.tail
        signal = torch.cat([history, x], dim=-1)
        n_frames = (signal.shape[-1] - (n_fft - hop)) // hop
        tail = signal[..., n_frames * hop :].clone()
        if n_frames == 0:
            empty = x.new_zeros(*x.shape[:-1], self.config.n_freqs, 0)
            return torch.complex(empty, empty), STFTState(tail)
        return self._frames(signal, 0, n_frames), STFTState(tail)

    def inverse(self, X: Tensor, length: int | None = None) -> Tensor:
        """Waveform ``(..., samples)`` of ``X (..., freqs, frames)``.

        Args:
            X: complex spectrum.
            length: number of samples to return; by default those that no missing frame touches.

        Raises:
            ValueError: ``X`` has the wrong number of freqs, or ``length`` is more than it holds.
        """
        n_held = X.shape[-1] * self.config.hop
        length = max(0, n_held - self.delay) if length is None else length
        if length > n_held:
            raise ValueError(f"expected a length of at most {n_held} samples, found {length}")
        # the first samples out belong to the zero history
        return self._samples(X)[..., self.delay : self.delay + length]

    def inverse_step(self, X: Tensor, state: ISTFTState | None = None) -> tuple[Tensor, ISTFTState]:
        """The samples that ``X (..., freqs, frames)`` completes: ``(..., frames * hop)``.

        They lag the input of `step` by `delay` samples; the first ``delay`` ones are the history.
        """
        x = self._samples(X)
        if state is not None:
            x[..., : self.delay] += state.overlap
        n = X.shape[-1] * self.config.hop
        return x[..., :n], ISTFTState(x[..., n:].clone())

    def _samples(self, X: Tensor) -> Tensor:
        """All samples ``(..., frames * hop + delay)`` of ``X``, the last of them not complete."""
        if X.shape[-2] != self.config.n_freqs:
            raise ValueError(
                f"expected X of shape (..., {self.config.n_freqs}, frames), found {tuple(X.shape)}"
            )
        hop, n_frames = self.config.hop, X.shape[-1]
        window = self.synthesis_window.to(X.real.dtype)
        if n_frames and not self._compiled(X):
            frames = torch.fft.irfft(X.mT, n=self.config.n_fft)[..., -len(window) :]
            return _overlap_added(frames * window, hop)
        x = X.real.new_zeros(*X.shape[:-2], n_frames * hop + self.delay)
        if n_frames:
            frames = X.mT.reshape(-1, n_frames, self.config.n_freqs)
            compiled_ops.istft(frames, window, hop, x.view(-1, x.shape[-1]))
        return x

    @property
    def delay(self) -> int:
        """Samples by which the output of `inverse_step` lags the input of `step`."""
        return self.config.latency - self.config.hop


class STFTStream:
    """An STFT and its inverse that remember their state from call to call.

    Args:
        stft: the transform.
    """

    def __init__(self, stft: STFT) -> None:
        self.stft = stft
        self._analysis: STFTState | None = None
        self._synthesis: ISTFTState | None = None
        self._n_history = stft.delay  # samples of the zero history still to come out

    def analyse(self, x: Tensor) -> Tensor:
        """The frames ``(..., freqs, frames)`` that ``x (..., samples)`` completes."""
        X, self._analysis = self.stft.step(x, self._analysis)
        return X

    def synthesise(self, X: Tensor) -> Tensor:
        """The samples that ``X (..., freqs, frames)`` completes; the first one is the signal's."""
        x, self._synthesis = self.stft.inverse_step(X, self._synthesis)
        n_history = min(self._n_history, x.shape[-1])
        self._n_history -= n_history
        return x[..., n_history:]


def join_frames(spectra: Sequence[Tensor]) -> Tensor:
    """Spectra ``(..., freqs, frames)`` one after another, in memory as the STFT writes them."""
    if len(spectra) == 1:
        return spectra[0]
    return torch.cat([X.mT for X in spectra], -2).mT


def _overlap_added(frames: Tensor, hop: int) -> Tensor:
    """Sum ``(..., samples)`` of ``frames (..., frames, samples)``, each ``hop`` after the last."""
    n_frames, n = frames.shape[-2:]
    n_parts = -(-n // hop)
    parts = nn.functional.pad(frames, (0, n_parts * hop - n)).unflatten(-1, (n_parts, hop))
    # part p of frame t belongs at hop t + p: one shifted addition a part
    x = frames.new_zeros(*frames.shape[:-2], n_frames + n_parts - 1, hop)
    for part in range(n_parts):
        x[..., part : part + n_frames, :] += parts[..., part, :]
    return x.flatten(-2)[..., : (n_frames - 1) * hop + n]


def _windows(config: STFTConfig) -> tuple[np.ndarray, np.ndarray]:
    """Analysis ``(n_fft,)`` and synthesis ``(latency,)``, whose product overlap-adds to one."""
    n_fft, hop, n = config.n_fft, config.hop, config.latency
    if not 1 <= hop <= n <= n_fft:
        raise ValueError(
            f"expected 1 <= hop <= synthesis <= n_fft, found hop {hop}, {n} and {n_fft} samples"
        )
    if n_fft % 2 or n % 2:
        raise ValueError(f"expected an even n_fft and synthesis, found {n_fft} and {n}")
    rise = _periodic_window(config.window, 2 * n_fft - n)[: n_fft - n // 2]
    analysis = np.concatenate([rise, _periodic_window(config.window, n)[n // 2 :]])
    end = analysis[-n:]
    product = end**2 if n == n_fft else _faded(config)
    product /= _overlapped_sum(product, hop)
    return analysis, np.divide(product, end, out=np.zeros(n), where=end != 0)


def _faded(config: STFTConfig) -> np.ndarray:
    """One, faded in and out over what a frame shares with its neighbours, at most half of it."""
    n = config.latency
    n_fade = min(n // 2, n - config.hop)
    fade = _periodic_window(config.window, 2 * n_fade) ** 2 if n_fade else np.ones(0)
    return np.concatenate([fade[:n_fade], np.ones(n - 2 * n_fade), fade[n_fade:]])


def _periodic_window(window: str, n: int) -> np.ndarray:
    name = window.removeprefix("sqrt_")
    try:
        values: np.ndarray = get_window(name, n, fftbins=True)
    except ValueError as error:
        raise ValueError(f"expected a window that scipy knows, found {window!r}") from error
    return np.sqrt(np.maximum(values, 0)) if name != window else values


def _overlapped_sum(product: np.ndarray, hop: int) -> np.ndarray:
    """Sum of all shifted copies over each sample of one, shape ``(n,)``."""
    n_parts = -(-len(product) // hop)
    parts = np.pad(product, (0, n_parts * hop - len(product))).reshape(n_parts, hop)
    total = parts.sum(axis=0)
    if total.min() < _HOLE * total.max():
        raise ValueError(
            f"expected a window and hop that overlap-add; at {len(product)} samples and hop {hop} "
            f"the windows leave sample {int(total.argmin())} of every hop without power"
        )
    return np.tile(total, n_parts)[: len(product)]
