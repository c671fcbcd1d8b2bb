"""Diagonal loading: the only place that adds to the diagonal of a covariance.

An inverse needs a diagonal that rounding cannot eat. The load is relative to the trace, so that a
beamformer does not change when the signal is scaled, with an absolute floor so far below any sound
that it is felt only in a bin where every mic is silent.
"""

from __future__ import annotations

import torch
from torch import Tensor

# -60 dB of the mean mic power: above the rounding of float32 statistics (about -70 dB after some
# hundred frames), below what the noise of a real microphone adds by itself.
RELATIVE_LOADING = 1e-6
# A power of -300 dB: never felt beside the relative load, invertible in float64.
ABSOLUTE_FLOOR = 1e-30


def load_diagonal(
    psd: Tensor, relative: float | Tensor = RELATIVE_LOADING, floor: float = ABSOLUTE_FLOOR
) -> Tensor:
    """Add ``relative * trace / mics + floor`` to the diagonal of ``psd``.

    Args:
        psd: covariances ``(..., mics, mics)``, Hermitian.
        relative: load relative to the mean power of the mics, a number or a tensor ``(...)``.
        floor: absolute load, in units of ``psd``.

    Returns:
        Loaded covariances of the same shape in complex128, ready to be inverted.
    """
    psd = psd.to(torch.complex128)
    power = psd.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    load = relative * power.clamp(min=0) + floor
    identity = torch.eye(psd.shape[-1], dtype=psd.dtype, device=psd.device)
    return psd + load[..., None, None] * identity
