"""Beamformers that are told where to listen: a steering vector or transfer function is given.

Axes: steering vector ``d (..., freqs, mics)``, covariance ``psd (..., freqs, mics, mics)``, weights
``w (..., freqs, mics)``, output ``w^H x``. As in beamform.py they solve in complex128, return the
type of what they are given, are differentiable and leave out unusable mics.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multichannel.beamform import mvdr_rtf
from multichannel.loading import RELATIVE_LOADING, load_diagonal
from multichannel.usable import reference_where_unknown, sanitise

# White noise 20 dB below the diffuse field: bounds how much a superdirective beam of a small array
# amplifies the self-noise and mismatch of its mics.
SELF_NOISE = 1e-2
# A null is as deep as 80 dB; softer where interferer and target cannot be told apart.
_NULL_DEPTH = 1e-8


def delay_and_sum(
    steering: Tensor, usable: Tensor | None = None, reference_mic: int | Tensor = 0
) -> Tensor:
    """Align the mics towards a direction and average them: ``d / (d^H d)``.

    The beam with the highest white-noise gain (Van Trees 2002, "Optimum array processing", 2.6).

    Args:
        steering: ``d (..., freqs, mics)``.
        usable: mics to use ``(..., freqs, mics)``, from `usable_mics`; all when left out.
        reference_mic: passed through where ``d`` is zero.

    Returns:
        w ``(..., freqs, mics)`` with ``w^H d = 1`` over the usable mics.
    """
    white = torch.eye(steering.shape[-1], dtype=steering.dtype, device=steering.device)
    white = white.expand(*steering.shape[-2:-1], *white.shape)
    return mvdr_rtf(_kept(white, usable), steering, reference_mic)


def superdirective(
    psd_diffuse: Tensor,
    steering: Tensor,
    usable: Tensor | None = None,
    reference_mic: int | Tensor = 0,
    loading: float | Tensor = SELF_NOISE,
) -> Tensor:
    """The beam of the highest directivity index: MVDR in a diffuse field.

    Cox, Zeskind & Kooij 1986, "Practical supergain", eq. 12, where ``loading`` trades directivity
    for white-noise gain.

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
    return mvdr_rtf(_kept(field, usable), steering, reference_mic, loading=0)


def mvdr_steered(
    psd_noise: Tensor,
    steering: Tensor,
    reference_mic: int | Tensor = 0,
    loading: float | Tensor = RELATIVE_LOADING,
) -> Tensor:
    """MVDR towards a steering vector: least noise, the look direction untouched.

    Capon 1969, "High-resolution frequency-wavenumber spectrum analysis", eq. 10, with the
    covariance of the noise alone.

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
    return mvdr_rtf(psd_noise, steering, reference_mic, loading)


def mpdr(
    psd_mixture: Tensor,
    steering: Tensor,
    reference_mic: int | Tensor = 0,
    loading: float | Tensor = RELATIVE_LOADING,
) -> Tensor:
    """Least output power with the look direction untouched: needs no noise estimate.

    Capon 1969, eq. 10; Van Trees 2002, 6.2.4. It cancels the target itself where ``steering`` is
    wrong by more than the noise hides: calibrate it, or load more.

    Args:
        psd_mixture: ``(..., freqs, mics, mics)`` of speech and noise together.
        steering: ``d (..., freqs, mics)``.
        reference_mic: passed through where ``d`` is zero.
        loading: relative diagonal loading of ``psd_mixture``.

    Returns, raises as `mvdr_steered`.
    """
    return mvdr_rtf(psd_mixture, steering, reference_mic, loading)


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
    processing", eq. 7. Only the interferers' part of ``C^H N^-1 C`` is loaded, which turns their
    nulls into noise of finite power: the target stays untouched even where it cannot be told from
    an interferer, or where there are more constraints than mics.

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
    usable, reference, noise = sanitise(reference_mic, psd_noise)
    columns = torch.cat([rtf.unsqueeze(-1), interferers.movedim(-3, -1)], -1).to(noise.dtype)
    columns = torch.where(usable.unsqueeze(-1), columns, 0)
    filtered = torch.linalg.solve(load_diagonal(noise, loading), columns)
    gram = columns.mH @ filtered
    gain = gram.diagonal(dim1=-2, dim2=-1).real
    softness = torch.where(gain > 0, _NULL_DEPTH * gain, 1)  # 1: nothing known, nothing to null
    softness = torch.cat([(gain[..., :1] <= 0).to(gain.dtype), softness[..., 1:]], -1)
    response = torch.zeros_like(gram[..., :1])
    response[..., 0, :] = 1
    w = filtered @ torch.linalg.solve(gram + torch.diag_embed(softness), response)
    return reference_where_unknown(w.squeeze(-1), reference, psd_noise.dtype)


def _kept(psd: Tensor, usable: Tensor | None) -> Tensor:
    """``psd`` as if the other mics were dead."""
    if usable is None:
        return psd
    return psd * (usable.unsqueeze(-1) & usable.unsqueeze(-2))
