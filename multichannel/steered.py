"""Beamformers that are told where to listen: a steering vector or transfer function is given.

Axes: steering vector ``d (..., freqs, mics)``, covariance ``psd (..., freqs, mics, mics)``, weights
``w (..., freqs, mics)``, output ``w^H x``. As in beamform.py they solve in complex128, return the
type of what they are given, are differentiable and leave out unusable mics.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multichannel.beamform import least_power
from multichannel.loading import RELATIVE_LOADING, load_diagonal
from multichannel.usable import reference_where_unknown, sanitise

# White noise 20 dB below the diffuse field: bounds how much a superdirective beam of a small array
# amplifies the self-noise and mismatch of its mics.
SELF_NOISE = 1e-2
# The mixture holds the talker himself: this much keeps a beam that minimises all power from
# cancelling him where frames are few or the steering vector is a little off.
MIXTURE_LOADING = 3e-2
# A null is 80 dB deep, or softer where it would cost more than 20 dB of noise.
_SOFTNESS = 1e-8
_DEAREST_NULL = 100.0


def delay_and_sum(
    steering: Tensor, usable: Tensor | None = None, reference_mic: int | Tensor = 0
) -> Tensor:
    """Align the mics towards a direction and average them: ``d / (d^H d)``.

    The beam with the highest white-noise gain (Van Trees 2002, "Optimum array processing",
    section 2.6).

    Args:
        steering: ``d (..., freqs, mics)``.
        usable: mics to use ``(..., freqs, mics)``, from `usable_mics`; all when left out.
        reference_mic: passed through where ``d`` is zero.

    Returns:
        w ``(..., freqs, mics)`` with ``w^H d = 1`` over the usable mics.
    """
    white = torch.eye(steering.shape[-1], dtype=steering.dtype, device=steering.device)
    white = white.expand(*steering.shape[-2:-1], *white.shape)
    return _in_field(white, steering, usable, reference_mic)


def superdirective(
    psd_diffuse: Tensor,
    steering: Tensor,
    usable: Tensor | None = None,
    reference_mic: int | Tensor = 0,
    loading: float | Tensor = SELF_NOISE,
) -> Tensor:
    """The beam of the highest directivity index: MVDR in a diffuse field.

    ``G^-1 d / (d^H G^-1 d)`` with the coherence ``G`` of the field: Cox, Zeskind & Kooij 1986,
    "Practical supergain", where loading ``G`` trades directivity for white-noise gain.

    Args:
        psd_diffuse: from `diffuse_covariance`, ``(freqs, mics, mics)``.
        steering: ``d (..., freqs, mics)``.
        usable: mics to use ``(..., freqs, mics)``, from `usable_mics`; all when left out.
        reference_mic: passed through where ``d`` is zero.
        loading: power of the mics' self-noise relative to the diffuse field.

    Returns:
        w ``(..., freqs, mics)`` with ``w^H d = 1`` over the usable mics.
    """
    field = load_diagonal(psd_diffuse, loading).to(psd_diffuse.dtype)
    return _in_field(field, steering, usable, reference_mic)


def mvdr_steered(
    psd_noise: Tensor,
    steering: Tensor,
    reference_mic: int | Tensor = 0,
    loading: float | Tensor = RELATIVE_LOADING,
) -> Tensor:
    """MVDR towards a steering vector: least noise, the look direction untouched.

    ``N^-1 d / (d^H N^-1 d)``: Capon 1969, "High-resolution frequency-wavenumber spectrum analysis",
    eq. 20, with the covariance of the noise alone.

    Args:
        psd_noise: ``N (..., freqs, mics, mics)``.
        steering: ``d (..., freqs, mics)``, such as `steering_vector` gives.
        reference_mic: passed through where ``d`` is zero.
        loading: relative diagonal loading of ``N``.

    Returns:
        w ``(..., freqs, mics)`` with ``w^H d = 1`` over the usable mics.

    Raises:
        ValueError: the covariances are not square, or there is no such reference mic.
    """
    return least_power(psd_noise, steering, reference_mic, loading, keep_one_copy=False)


def mpdr(
    psd_mixture: Tensor,
    steering: Tensor,
    reference_mic: int | Tensor = 0,
    loading: float | Tensor = MIXTURE_LOADING,
) -> Tensor:
    """Least output power with the look direction untouched: needs no noise estimate.

    As `mvdr_steered`, with the covariance of the mixture: Capon 1969, eq. 20; Van Trees 2002,
    section 6.2.4. It cancels the talker where ``steering`` is wrong by more than the loading
    forgives: even out the mics by `mic_gains` first.

    Args:
        psd_mixture: ``(..., freqs, mics, mics)`` of speech and noise together.
        steering: ``d (..., freqs, mics)``.
        reference_mic: passed through where ``d`` is zero.
        loading: relative diagonal loading of ``psd_mixture``.

    Returns, raises as `mvdr_steered`.
    """
    return least_power(psd_mixture, steering, reference_mic, loading, keep_one_copy=False)


def lcmv(
    psd_noise: Tensor,
    rtf: Tensor,
    interferers: Tensor,
    reference_mic: int | Tensor = 0,
    loading: float | Tensor = RELATIVE_LOADING,
) -> Tensor:
    """Least noise with the target untouched and a null towards every interferer.

    ``N^-1 C (C^H N^-1 C)^-1 g`` with the target and interferers in the columns of ``C`` and
    ``g = (1, 0, ..., 0)``: Frost 1972, "An algorithm for linearly constrained adaptive array
    processing". Where a null would raise the noise by more than 20 dB, as at low
    frequencies when the interferer stands near the target, it is softened into noise of finite
    power. So the target stays untouched even where it cannot be told from an interferer, or where
    there are more constraints than mics.

    Args:
        psd_noise: ``N (..., freqs, mics, mics)``.
        rtf: of the target ``(..., freqs, mics)``.
        interferers: transfer functions ``(..., talkers, freqs, mics)`` of any scale.
        reference_mic: passed through where ``rtf`` is zero.
        loading: relative diagonal loading of ``N``.

    Returns:
        w ``(..., freqs, mics)`` with ``w^H rtf = 1`` and ``w^H interferer = 0``.

    Raises:
        ValueError: as `mvdr_steered`.
    """
    usable, reference, noise = sanitise(reference_mic, psd_noise, keep_one_copy=False)
    columns = torch.cat([rtf.unsqueeze(-1), interferers.movedim(-3, -1)], -1).to(noise.dtype)
    columns = torch.where(usable.unsqueeze(-1), columns, 0)
    filtered = torch.linalg.solve(load_diagonal(noise, loading), columns)
    w = filtered @ _through_target_alone(columns.mH @ filtered)
    return reference_where_unknown(w.squeeze(-1), reference, psd_noise.dtype)


def _through_target_alone(gram: Tensor) -> Tensor:
    """Coefficients ``(..., 1 + talkers, 1)`` of the columns from ``C^H N^-1 C``, target first.

    Scaled to a diagonal of 1 that is [[1, a^H], [a, A]], and its inverse times (1, 0) is
    (1, -b) / (1 - a^H b) with b = A^-1 a. The nulls raise the noise by the factor 1 / (1 - a^H b);
    a smaller b softens them.
    """
    scale = gram.diagonal(dim1=-2, dim2=-1).real
    scale = torch.where(scale > 0, scale, 1).rsqrt().unsqueeze(-1)
    gram = scale * gram * scale.mT
    a = gram[..., 1:, :1]
    b = torch.linalg.solve(load_diagonal(gram[..., 1:, 1:], _SOFTNESS, floor=_SOFTNESS), a)
    dearest = 1 - 1 / _DEAREST_NULL
    b = b * dearest / (a.mH @ b).real.clamp(min=dearest)
    coefficients = torch.cat([torch.ones_like(b[..., :1, :]), -b], -2) / (1 - (a.mH @ b).real)
    return scale * coefficients * scale[..., :1, :]


def _in_field(
    field: Tensor, steering: Tensor, usable: Tensor | None, reference_mic: int | Tensor
) -> Tensor:
    """Beam of least power in a field that is known, from the usable mics."""
    if usable is not None:
        field = field * (usable.unsqueeze(-1) & usable.unsqueeze(-2))
        steering = steering * usable
    return least_power(field, steering, reference_mic, loading=0)
