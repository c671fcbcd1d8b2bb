"""Training losses: functions of (estimate, reference) waveforms, each a mean over the batch."""

from __future__ import annotations

from collections.abc import Sequence

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
    return -torch.log10(si_snr_ratio(estimate, reference)).mean()


def si_snr_ratio(estimate: Tensor, reference: Tensor) -> Tensor:
    """The scale-invariant signal-to-noise power ratio of each clip, ``(...)``; finite on silence.

    Args:
        estimate, reference: waveforms ``(..., samples)``.
    """
    scale = (estimate * reference).sum(-1, keepdim=True) / (
        reference.square().sum(-1, keepdim=True) + _EPS
    )
    target = scale * reference
    noise = (estimate - target).square().sum(-1) + _EPS
    return target.square().sum(-1) / noise + _EPS


def multi_resolution_stft(estimate: Tensor, reference: Tensor, stfts: Sequence[STFT]) -> Tensor:
    """Spectral convergence plus log-magnitude error, averaged over several STFTs.

    Yamamoto, Song & Kim, "Parallel WaveGAN", ICASSP 2020, eqs. 5-7. Norms are taken over the whole
    batch, and magnitudes below 80 dB under the batch's peak count as equal, so that silence is
    neither a division by zero nor the loudest part of the loss.

    Args:
        estimate, reference: waveforms ``(batch, samples)``.
        stfts: transforms to compare in.
    """
    total = estimate.new_zeros(())
    for stft in stfts:
        e_mag, r_mag = _magnitude(stft(estimate)), _magnitude(stft(reference))
        convergence = (r_mag - e_mag).norm() / (r_mag.norm() + _EPS)
        floor = 1e-4 * r_mag.max().detach() + _EPS
        logs = (r_mag + floor).log() - (e_mag + floor).log()
        total = total + convergence + logs.abs().mean()
    return total / len(stfts)


def _magnitude(X: Tensor) -> Tensor:
    return (X.real.square() + X.imag.square() + _EPS).sqrt()
