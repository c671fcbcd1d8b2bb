"""What tells talkers apart: how loud a bin is, and how its phase differs between microphones.

A map of the reference microphone's magnitude, and for each of a few pairs (reference, other) the
cosine and sine of their phase difference. Pairs fill slots, so the number of maps does not depend
on the number of microphones; a slot without a pair is zero, which no phase difference is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from multichannel.level import LevelState, running_level

N_PAIRS = 3
N_MAPS = 1 + 2 * N_PAIRS
_COMPRESSION = 0.5
_FLOOR = 1e-9


def chosen_mics(n_mics: int, reference_mic: int = 0, n_pairs: int = N_PAIRS) -> list[int]:
    """The reference and up to `n_pairs` others, spread evenly over the order of the microphones.

    Raises:
        ValueError: there is no such reference microphone.
    """
    if not 0 <= reference_mic < n_mics:
        raise ValueError(f"expected a reference mic in 0..{n_mics - 1}, found {reference_mic}")
    others = [(reference_mic + step) % n_mics for step in range(1, n_mics)]
    if len(others) > n_pairs:
        places = torch.linspace(0, len(others) - 1, n_pairs).round().long().tolist()
        others = [others[place] for place in places]
    return [reference_mic, *others]


def level_of(X: Tensor, causal: bool, state: LevelState | None) -> tuple[Tensor, LevelState | None]:
    """Level ``(batch, frames or 1)`` of ``X (batch, frames, freqs)``: running, or of the clip."""
    if causal:
        return running_level(X, state)
    return X.abs().mean(dim=(1, 2))[:, None] + _FLOOR, None


def spectral_map(X: Tensor, level: Tensor) -> Tensor:
    """Compressed magnitude ``(batch, 1, frames, freqs)`` of ``X (batch, frames, freqs)``."""
    return ((X.abs() / level[..., None]) ** _COMPRESSION)[:, None]


def pair_maps(X: Tensor, bands: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Cosine and sine of the phase differences to mic 0, weighted within a band by energy.

    In a band the cross-spectra of its bins are summed before the phase is taken, and divided by the
    sum of their magnitudes: bins that disagree give a shorter vector.

    Args:
        X: spectra ``(batch, mics, frames, freqs)``, the reference first; a silent mic gives zeros.
        bands: sums bins to bands on the last axis (`ERB.analyse`); None keeps bins.

    Returns:
        ``(batch, 2 * N_PAIRS, frames, bands)``, all cosines before all sines.
    """
    sums = bands or Tensor.contiguous
    cross = X[:, 1 : 1 + N_PAIRS] * X[:, :1].conj()
    total = sums(cross.abs())
    total = torch.where(total > 0, total, 1)
    maps = torch.cat([sums(cross.real) / total, sums(cross.imag) / total], dim=1)
    missing = N_PAIRS - cross.shape[1]
    if missing:
        cosines, sines = maps.chunk(2, dim=1)
        empty = maps.new_zeros(len(maps), missing, *maps.shape[2:])
        maps = torch.cat([cosines, empty, sines, empty], dim=1)
    return maps


def class_maps(shares: Tensor, X: Tensor, bands: Callable[[Tensor], Tensor]) -> Tensor:
    """Shares of classes in the energy of each band.

    Args:
        shares: ``(batch, classes, frames, freqs)``.
        X: spectra of the reference ``(batch, frames, freqs)``.
        bands: sums bins to bands on the last axis.

    Returns:
        ``(batch, classes, frames, bands)``, zeros in silence.
    """
    power = (X.real.square() + X.imag.square())[:, None]
    total = bands(power)
    return bands(shares * power) / torch.where(total > 0, total, 1)
