"""Which mics can be used in a bin, and which stands in for the reference mic when it cannot.

The one place that deals with broken mics. A mic that is left out keeps its row and column, all
zero, and after diagonal loading every beamformer gives it the weight 0. A bin in which a beamformer
learns nothing, because its target has no energy there, passes the reference mic through.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A mic 100 dB below the strongest one in its bin is dead: 16-bit recordings end above that.
DEAD = 1e-10
# Two mics whose difference is 50 dB below them are one mic twice: close to the rounding of float32
# statistics, and no two real mics agree so well where a beamformer can gain anything.
COPY = 1e-5


def usable_mics(psd: Tensor, reference_mic: int | Tensor = 0, keep_one_copy: bool = True) -> Tensor:
    """The mics that tell something of their own: finite, not dead, not the copy of another.

    Args:
        psd: covariances of the mixture ``(..., freqs, mics, mics)``; entries may be NaN.
        reference_mic: of two equal mics this one is kept, otherwise the first.
        keep_one_copy: False leaves out both: where geometry counts, one of them is not where its
            signal was recorded, and nothing tells which.

    Returns:
        Bool ``(..., freqs, mics)``. In a silent bin all finite mics are usable.
    """
    psd = psd.detach()
    power = psd.diagonal(dim1=-2, dim2=-1).real
    usable = torch.isfinite(power)
    usable &= (torch.isfinite(psd) | ~_pairs(usable)).all(-1)
    power = torch.where(usable, power, 0)
    usable &= power >= DEAD * power.amax(-1, keepdim=True)
    both = power.unsqueeze(-1) + power.unsqueeze(-2)
    same = _pairs(usable) & (both - 2 * psd.real < COPY * both)
    reference = at_mic(usable, reference_mic)
    index = torch.arange(usable.shape[-1], device=psd.device)
    if keep_one_copy:
        preferred = (index < index[:, None]) & ~reference.unsqueeze(-1)
        preferred = preferred | (reference.unsqueeze(-2) & ~reference.unsqueeze(-1))
    else:
        preferred = index != index[:, None]
    return usable & ~(same & preferred).any(-1)


def sanitise(
    reference_mic: int | Tensor, *psds: Tensor, keep_one_copy: bool = True
) -> tuple[Tensor, ...]:
    """The reference mic and covariances, free of what cannot be used.

    Args:
        reference_mic: index, or tensor of indices of shape ``(...)``.
        psds: covariances ``(..., freqs, mics, mics)`` whose sum is the mixture's.
        keep_one_copy: as `usable_mics`.

    Returns:
        ``usable (..., freqs, mics)``, ``reference (..., freqs, mics)``, 1 at the reference mic or
        at the first usable mic when it is not usable, and the psds with unusable rows and columns
        zero; all but the first in complex128.

    Raises:
        ValueError: the covariances are not square, or there is no such reference mic.
    """
    mixture = psds[0].detach()
    for psd in psds[1:]:
        mixture = mixture + psd.detach()
    if mixture.ndim < 3 or mixture.shape[-1] != mixture.shape[-2]:
        raise ValueError(
            f"expected psd of shape (..., freqs, mics, mics), found {tuple(mixture.shape)}"
        )
    usable = usable_mics(mixture, reference_mic, keep_one_copy)
    reference = standing_in(usable, reference_mic)
    reference = torch.nn.functional.one_hot(reference, usable.shape[-1])
    pairs = _pairs(usable)
    zero = torch.zeros((), dtype=torch.complex128, device=mixture.device)
    kept = [torch.where(pairs, psd.to(torch.complex128), zero) for psd in psds]
    return (usable, reference.to(torch.complex128), *kept)


def standing_in(usable: Tensor, reference_mic: int | Tensor) -> Tensor:
    """The reference mic where it is usable, else the first usable one, else itself: ``(...)``.

    Args:
        usable: bool ``(..., mics)``.
        reference_mic: as `at_mic`.
    """
    wanted = at_mic(usable, reference_mic)
    # argmax takes the first of equals
    rank = 4 * (usable & wanted).int() + 2 * usable.int() + wanted.int()
    return rank.argmax(-1)


def reference_where_unknown(w: Tensor, reference: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights in ``dtype``; in bins where ``w`` is zero or not finite those of the reference."""
    known = torch.isfinite(w).all(-1, keepdim=True) & (w != 0).any(-1, keepdim=True)
    return torch.where(known, w, reference).to(dtype)


def at_mic(like: Tensor, reference_mic: int | Tensor) -> Tensor:
    """Bool that broadcasts against ``like (..., mics)``: true at the reference mic.

    Raises:
        ValueError: there is no such mic.
    """
    n_mics = like.shape[-1]
    index = torch.as_tensor(reference_mic, device=like.device)
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < n_mics:
        raise ValueError(f"expected reference_mic from 0 to {n_mics - 1}, found {reference_mic}")
    while 0 < index.ndim < like.ndim - 1:
        index = index.unsqueeze(-1)
    return index.unsqueeze(-1) == torch.arange(n_mics, device=like.device)


def _pairs(usable: Tensor) -> Tensor:
    return usable.unsqueeze(-1) & usable.unsqueeze(-2)


def mics_out(X: Tensor) -> Tensor:
    """The mics ``(mics,)`` of ``X (mics, freqs, frames)`` that are silent in a frame while another
    is not; of mics that all are, those that are so the longest."""
    silent = (X[..., 1::64, :] == 0).all(-2)  # bins enough to tell
    n_out = (silent & ~silent.all(0)).sum(-1)
    return n_out > n_out.min()
