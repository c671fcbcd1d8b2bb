"""Diagonal loading: the only place that strengthens the diagonal of a covariance.

An inverse needs a diagonal that neither rounding nor the lack of frames can eat. The load of each
mic is relative to its own power, its share of the trace, so a beamformer changes neither when the
signal is scaled nor when one mic is set louder. An absolute floor, far below any sound, is felt
only where a mic is silent altogether.
"""

from __future__ import annotations

import torch
from torch import Tensor

# -60 dB of a mic's power: above the rounding of float32 statistics (about -70 dB after some
# hundred frames), below what the noise of a real microphone adds by itself.
RELATIVE_LOADING = 1e-6
# A power of -300 dB: never felt beside any sound, invertible in float64.
ABSOLUTE_FLOOR = 1e-30


def load_diagonal(
    psd: Tensor, relative: float | Tensor = RELATIVE_LOADING, floor: float = ABSOLUTE_FLOOR
) -> Tensor:
    """Add ``relative`` times their power to the diagonal and scale back, so that powers stay.

    ``(psd + relative diag(psd)) / (1 + relative) + floor I``: what mics have in common shrinks by
    ``1 + relative``, which lets a beamformer rely on it less.

    Args:
        psd: covariances ``(..., mics, mics)``, Hermitian.
        relative: load relative to the power of each mic, a number or a tensor ``(...)``.
        floor: absolute load, in units of ``psd``.

    Returns:
        Loaded covariances of the same shape in complex128, ready to be inverted.
    """
    psd = psd.to(torch.complex128)
    identity = torch.eye(psd.shape[-1], dtype=psd.dtype, device=psd.device)
    if isinstance(relative, Tensor):
        relative = relative.to(device=psd.device, dtype=torch.float64)[..., None, None]
    return (psd + relative * psd * identity) / (1 + relative) + floor * identity


def loading_for_frames(n_frames: float | Tensor, n_mics: int) -> Tensor:
    """Relative loading of a covariance that was estimated from few frames.

    Fewer frames than mics leave directions without any power, where a beamformer would find beams
    without noise that are none. ``RELATIVE_LOADING + (mics / frames)^3`` trusts the mics one by one
    then, and vanishes when frames abound (Carlson 1988, "Covariance matrix estimation errors and
    diagonal loading in adaptive arrays", shows the need; the rule is ours).

    Args:
        n_frames: sum of the mask over frames, a number or a tensor ``(...)``.
        n_mics: mics of the array.

    Returns:
        Loading of the shape of ``n_frames``, for any beamformer's ``loading``.
    """
    n_frames = torch.as_tensor(n_frames, dtype=torch.float64).clamp(min=1e-3)
    return RELATIVE_LOADING + (n_mics / n_frames) ** 3
