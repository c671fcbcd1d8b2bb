"""A signal for a magnitude that has no phase."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multichannel.stft import STFT


def griffin_lim(
    magnitude: Tensor,
    stft: STFT,
    length: int,
    *,
    n_iterations: int = 64,
    momentum: float = 0.99,
    seed: int = 0,
) -> Tensor:
    """A waveform whose STFT magnitude is close to ``magnitude``.

    The fast Griffin-Lim algorithm (Perraudin, Balazs & Sondergaard 2013): project onto the spectra
    that a signal can have, then onto the wanted magnitude, with momentum.

    Args:
        magnitude: wanted magnitude ``(..., freqs, frames)``, not negative.
        stft: the transform that ``magnitude`` belongs to.
        length: number of samples of the result.
        n_iterations: projections.
        momentum: 0 gives the plain algorithm of Griffin & Lim 1984.
        seed: of the random phase at the start.

    Returns:
        Waveform ``(..., length)``.
    """
    generator = torch.Generator().manual_seed(seed)
    phase = torch.rand(magnitude.shape, generator=generator, dtype=torch.float64) * 2 * np.pi
    X = torch.polar(magnitude, phase.to(magnitude))
    previous = torch.zeros_like(X)
    for _ in range(n_iterations):
        consistent = stft(stft.inverse(X, length))
        accelerated = consistent + momentum * (consistent - previous)
        X = torch.polar(magnitude, accelerated.angle())
        previous = consistent
    return stft.inverse(X, length)
