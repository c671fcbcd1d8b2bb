"""Training losses: functions of (estimate, reference) waveforms, each a mean over the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from multichannel.stft import STFT

_EPS = 1e-12


def compressed_spectral(
    estimate: Tensor, reference: Tensor, stft: STFT, power: float = 0.3
) -> Tensor:
    """Squared error of magnitude-compressed spectra, 30 parts complex and 70 parts magnitude.

    Rong et al., "GTCRN", ICASSP 2024, section 2.3: magnitudes are raised to ``power``, phases kept.

    Args:
        estimate, reference: waveforms ``(batch, samples)``.
        stft: transform to compare in.
        power: exponent of the magnitudes.
    """
    E, R = stft(estimate), stft(reference)
    e_mag, r_mag = _magnitude(E), _magnitude(R)
    e_gain, r_gain = e_mag ** (power - 1), r_mag ** (power - 1)
    parts = (E.real * e_gain - R.real * r_gain).square() + (
        E.imag * e_gain - R.imag * r_gain
    ).square()
    return 30 * parts.mean() + 70 * (e_mag**power - r_mag**power).square().mean()


def negative_si_snr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Minus log10 of the scale-invariant signal-to-noise power ratio (Luo & Mesgarani 2019, eq. 4).

    Args:
        estimate, reference: waveforms ``(batch, samples)``.
    """
    scale = (estimate * reference).sum(-1, keepdim=True) / (
        reference.square().sum(-1, keepdim=True) + _EPS
    )
    target = scale * reference
    noise = (estimate - target).square().sum(-1) + _EPS
    return -torch.log10(target.square().sum(-1) / noise + _EPS).mean()


def _magnitude(X: Tensor) -> Tensor:
    return (X.real.square() + X.imag.square() + _EPS).sqrt()
