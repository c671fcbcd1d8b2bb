"""Training losses: functions of (estimate, reference) waveforms, each a mean over the batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from multichannel.stft import STFT

_EPS = 1e-12


def compressed_spectral(
    estimate: Tensor, reference: Tensor, stft: STFT, power: float = 0.3
) -> Tensor:
    """Squared error of magnitude-compressed spectra, 30 parts complex and 70 parts magnitude.

    The spectral part of the loss of Rong et al., "GTCRN", ICASSP 2024: magnitudes are raised to
    ``power``, phases kept.

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
    """Minus log10 of the scale-invariant signal-to-noise power ratio, the means not removed.

    Luo & Mesgarani 2019, "Conv-TasNet", eq. 15, which removes them, in Bel instead of dB.

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

    Yamamoto, Song & Kim, "Parallel WaveGAN", ICASSP 2020, section 2.2. Norms are taken over the
    whole batch, and magnitudes below 80 dB under the batch's peak count as equal, so that silence
    is neither a division by zero nor the loudest part of the loss.

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


def unintelligibility(estimate: Tensor, reference: Tensor, stft: STFT, rate: int = 16000) -> Tensor:
    """One minus a STOI that can be differentiated: 0 is as intelligible as the reference.

    Taal, Hendriks, Heusdens & Jensen, "An algorithm for intelligibility prediction of
    time-frequency weighted noisy speech", IEEE TASLP 2011, on the frames of `stft` rather than on
    those of 25.6 ms at 10 kHz. Segments of 384 ms count by their share of frames within
    40 dB of the loudest one, instead of leaving out the frames below.

    Args:
        estimate, reference: waveforms ``(batch, samples)``.
        stft: transform with windows of some 20 to 40 ms.
        rate: sampling rate in Hz.
    """
    bands = _third_octaves(stft.config.n_fft, rate).to(estimate.device)
    powers = [X.real.square() + X.imag.square() for X in (stft(estimate), stft(reference))]
    length = min(round(0.384 * rate / stft.config.hop), powers[0].shape[-1])
    e, r = ((bands @ power + _EPS).sqrt().unfold(-1, length, 1) for power in powers)
    e = e * (r.norm(dim=-1, keepdim=True) / e.norm(dim=-1, keepdim=True))
    e = torch.minimum(e, r * (1 + 10 ** (15 / 20)))
    e, r = (x - x.mean(-1, keepdim=True) for x in (e, r))
    alike = ((e * r).sum(-1) / (e.norm(dim=-1) * r.norm(dim=-1) + _EPS)).mean(1)
    frames = powers[1].sum(1)
    heard = (frames > 1e-4 * frames.amax(-1, keepdim=True) + _EPS).to(e.dtype)
    weight = heard.unfold(-1, length, 1).mean(-1)
    return (weight * (1 - alike)).sum() / (weight.sum() + _EPS)


@cache
def _third_octaves(n_fft: int, rate: int) -> Tensor:
    """Which bins belong to which of 15 third-octave bands from 150 Hz on, ``(bands, freqs)``."""
    centres = 150 * 2 ** (torch.arange(15) / 3)
    bins = torch.arange(n_fft // 2 + 1) * (rate / n_fft)
    edges = centres[:, None] * 2 ** (torch.tensor([-1, 1]) / 6)
    return ((bins >= edges[:, :1]) & (bins < edges[:, 1:])).float()


def _magnitude(X: Tensor) -> Tensor:
    return (X.real.square() + X.imag.square() + _EPS).sqrt()
