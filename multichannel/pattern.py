"""What a beam does, as numbers for plots: pattern, directivity index, white-noise gain.

Axes: weights ``w (..., freqs, mics)``, steering vectors ``(..., freqs, mics)``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def beam_pattern(w: Tensor, steering: Tensor) -> Tensor:
    """Gain of a beam towards many directions, ``|w^H d|``.

    Args:
        w: weights ``(..., freqs, mics)``.
        steering: ``(directions, freqs, mics)``, such as `steering_vector` gives.

    Returns:
        Gain ``(..., directions, freqs)``, 1 where a source passes unchanged.
    """
    return torch.einsum("...fm,dfm->...df", w.conj(), steering.to(w.dtype)).abs()


def directivity_index(w: Tensor, steering: Tensor, psd_diffuse: Tensor) -> Tensor:
    """Gain towards a direction over the gain for sound from everywhere, in dB.

    ``10 log10(|w^H d|^2 / (w^H Gamma w))``: Bitzer & Simmer 2001, "Superdirective microphone
    arrays", in Brandstein & Ward, "Microphone arrays".

    Args:
        w: weights ``(..., freqs, mics)``.
        steering: look direction ``(..., freqs, mics)``.
        psd_diffuse: from `diffuse_covariance`, ``(freqs, mics, mics)``.

    Returns:
        Index in dB ``(..., freqs)``.
    """
    w, psd = w.to(torch.complex128), psd_diffuse.to(torch.complex128)
    diffuse = (w.conj() * (psd @ w.unsqueeze(-1)).squeeze(-1)).sum(-1).real
    return 10 * torch.log10(_gain(w, steering) / diffuse)


def white_noise_gain(w: Tensor, steering: Tensor) -> Tensor:
    """Gain towards a direction over the gain for the mics' own noise, in dB.

    ``10 log10(|w^H d|^2 / (w^H w))``: Cox, Zeskind & Owen 1987, "Robust adaptive beamforming".
    At most ``10 log10(mics)`` for equal mics; below 0 the beam amplifies their noise.

    Args:
        w: weights ``(..., freqs, mics)``.
        steering: look direction ``(..., freqs, mics)``.

    Returns:
        Gain in dB ``(..., freqs)``.
    """
    w = w.to(torch.complex128)
    return 10 * torch.log10(_gain(w, steering) / w.abs().square().sum(-1))


def _gain(w: Tensor, steering: Tensor) -> Tensor:
    return (w.conj() * steering.to(w.dtype)).sum(-1).abs().square()
