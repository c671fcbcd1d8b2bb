"""From geometry to what the mics hear: steering vectors, diffuse fields, transfer functions.

Axes: positions ``(mics, 3)`` in metres, frequencies ``(freqs,)`` in Hz, steering vector or relative
transfer function ``(..., freqs, mics)``, covariance ``(..., freqs, mics, mics)``.

Angles: azimuth 0 looks along +x and 90 along +y, elevation 90 along +z. A wave that reaches a mic
by a delay late has the phase ``exp(-2 pi i f delay)`` there, as in the STFT of a delayed signal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from multichannel.loading import RELATIVE_LOADING, load_diagonal
from multichannel.usable import at_mic, sanitise

SPEED_OF_SOUND = 343.0  # m/s, dry air at 20 degrees
# Mean correlation with the other mics from which a wrong polarity is believed.
_CLEAR = 0.1


def steering_vector(
    positions_m: Tensor,
    freqs_hz: Tensor,
    azimuth_deg: float | Tensor,
    elevation_deg: float | Tensor = 0.0,
    distance_m: float | None = None,
    reference_mic: int | Tensor | None = None,
    speed: float = SPEED_OF_SOUND,
) -> Tensor:
    """What each mic hears of a source of unit amplitude in the free field.

    Args:
        positions_m: of the mics ``(mics, 3)``, the origin being where angles are seen from.
        freqs_hz: ``(freqs,)``.
        azimuth_deg: number or tensor ``(...)``.
        elevation_deg: number or tensor that broadcasts against the azimuth.
        distance_m: of the source from the origin; None is the far field (plane wave, equal levels).
        reference_mic: mic whose signal has phase and level 1; None: what the origin would hear.
        speed: of sound, in m/s.

    Returns:
        Complex64 ``(..., freqs, mics)``, with the azimuth's shape in front.

    Raises:
        ValueError: positions are not ``(mics, 3)``, or the source lies on a mic.
    """
    positions = _positions(positions_m)
    towards = _direction(azimuth_deg, elevation_deg).to(positions.device)
    if distance_m is None:
        path_m = -towards @ positions.T  # relative to the origin
        level = torch.ones_like(path_m)
    else:
        source_to_mic = torch.linalg.vector_norm(
            distance_m * towards.unsqueeze(-2) - positions, dim=-1
        )
        if source_to_mic.min() <= 0:
            raise ValueError(f"expected a source away from the mics, found one at {distance_m} m")
        path_m = source_to_mic - distance_m
        level = distance_m / source_to_mic
    if reference_mic is not None:
        path_m = path_m - path_m[..., reference_mic, None]
        level = level / level[..., reference_mic, None]
    freqs = torch.as_tensor(freqs_hz, dtype=torch.float64, device=positions.device)
    phase = -2 * math.pi / speed * freqs[:, None] * path_m.unsqueeze(-2)
    return torch.polar(level.unsqueeze(-2).expand_as(phase), phase).to(torch.complex64)


def diffuse_covariance(
    positions_m: Tensor, freqs_hz: Tensor, speed: float = SPEED_OF_SOUND
) -> Tensor:
    """Coherence of the mics in a spherically diffuse field, ``sin(k d) / (k d)``.

    Sound of equal power from everywhere: Cook et al. 1955, "Measurement of correlation coefficients
    in reverberant sound fields"; Bitzer & Simmer 2001, "Superdirective microphone arrays",
    eq. 2.17.

    Args:
        positions_m: of the mics ``(mics, 3)``.
        freqs_hz: ``(freqs,)``.
        speed: of sound, in m/s.

    Returns:
        Complex64 ``(freqs, mics, mics)``, real in value, 1 on the diagonal.

    Raises:
        ValueError: positions are not ``(mics, 3)``.
    """
    positions = _positions(positions_m)
    distance_m = torch.linalg.vector_norm(positions[:, None] - positions, dim=-1)
    freqs = torch.as_tensor(freqs_hz, dtype=torch.float64, device=positions.device)
    # torch.sinc(x) is sin(pi x) / (pi x), and k d = 2 pi f d / c
    return torch.sinc(2 * freqs[:, None, None] * distance_m / speed).to(torch.complex64)


def relative_transfer_function(
    psd_speech: Tensor,
    psd_noise: Tensor | None = None,
    reference_mic: int | Tensor = 0,
    iterations: int = 1024,
    loading: float | Tensor = RELATIVE_LOADING,
) -> Tensor:
    """Transfer function of the talker to each mic, relative to the reference mic.

    The principal direction of the speech covariance; with ``psd_noise`` that of the noise-whitened
    one, coloured back: ``N w`` for the principal eigenvector ``w`` of ``N^-1 S`` (covariance
    whitening: Markovich, Gannot & Cohen 2009, "Multichannel eigenspace beamforming in a reverberant
    noisy environment with multiple interfering speech signals"). Found by power iteration from the
    reference column, which is the answer already when speech has rank 1, and differentiable where
    an eigenvector is not.

    Args:
        psd_speech: ``S (..., freqs, mics, mics)``.
        psd_noise: ``N`` of the same shape, or None for white noise.
        reference_mic: index, or tensor of indices of the batch shape ``(...)``.
        iterations: of the power method; they are squared up, so doubling costs one product more.
        loading: relative diagonal loading of ``psd_noise``.

    Returns:
        rtf ``(..., freqs, mics)``, 1 at the reference mic, or at the first usable one where that is
        dead; 0 at mics that are, and 0 altogether in a bin without speech: unknown.
    """
    given = [psd_speech] if psd_noise is None else [psd_speech, psd_noise]
    _, reference, speech, *noise = sanitise(reference_mic, *given)
    whitened = torch.linalg.solve(load_diagonal(noise[0], loading), speech) if noise else speech
    direction = principal_direction(speech, whitened, reference, iterations)
    at_reference = (reference * direction).sum(-1, keepdim=True)
    known = at_reference != 0
    rtf = torch.where(known, direction / torch.where(known, at_reference, 1), 0)
    return rtf.to(psd_speech.dtype)


def mic_gains(steering: Tensor, psd_mixture: Tensor, reference_mic: int | Tensor = 0) -> Tensor:
    """Gain and polarity of each mic, as a recording shows them.

    Geometry takes all mics for equal. One that is wired the wrong way round or set louder breaks
    every steered beam, and those that minimise output power most: they cancel the talker. The gain
    of a mic is its level in the median over bins; its polarity is wrong when, aligned by
    ``steering``, it clearly goes against the others. Divide the mics' signals by their gains
    before a steered beam hears them.

    Args:
        steering: towards the talker ``(..., freqs, mics)``.
        psd_mixture: ``(..., freqs, mics, mics)`` of the recording.
        reference_mic: the mic of gain 1.

    Returns:
        Real gains ``(..., mics)``, 1 for a mic that is dead; relative to the mean of all when that
        is the reference mic.
    """
    _, _, psd = sanitise(reference_mic, psd_mixture.detach(), keep_one_copy=False)
    level = psd.diagonal(dim1=-2, dim2=-1).real.sqrt()
    mean_level = level.mean(-1, keepdim=True)
    gain = (level / torch.where(mean_level > 0, mean_level, 1)).median(-2).values
    d = steering.detach().to(psd.dtype) / torch.where(level > 0, level, 1)
    gain = gain * _polarity((d.conj().unsqueeze(-1) * psd * d.unsqueeze(-2)).real.mean(-3))
    at_reference = (gain * at_mic(gain, reference_mic)).sum(-1, keepdim=True)
    gain = gain / torch.where(at_reference != 0, at_reference, 1)
    return torch.where(gain != 0, gain, 1).to(steering.real.dtype)


def principal_direction(
    speech: Tensor, whitened: Tensor, reference: Tensor, iterations: int = 1024
) -> Tensor:
    """``(S N^-1)^iterations S u``: power iteration towards the loudest direction of ``S N^-1``.

    Args:
        speech: ``S (..., mics, mics)``.
        whitened: ``N^-1 S``, the same shape.
        reference: ``u (..., mics)``.
        iterations: rounded up to a power of two.

    Returns:
        direction ``(..., mics)`` of any scale, 0 where ``S`` is 0.
    """
    power = whitened
    for _ in range(max(0, math.ceil(math.log2(iterations)))):
        power = _by_trace(power)
        power = power @ power
    return (_by_trace(speech) @ (_by_trace(power) @ reference.unsqueeze(-1))).squeeze(-1)


def _polarity(correlation: Tensor) -> Tensor:
    """Sign of each mic ``(..., mics)`` from real correlations ``(..., mics, mics)``."""
    side = torch.linalg.eigh(correlation).eigenvectors[..., -1].sign()
    side = torch.where(side.sum(-1, keepdim=True) < 0, -side, side)  # the majority is right
    support = side * (correlation @ side.unsqueeze(-1)).squeeze(-1) - 1  # without the mic itself
    return torch.where((side < 0) & (support > _CLEAR * (support.shape[-1] - 1)), -1.0, 1.0)


def _by_trace(psd: Tensor) -> Tensor:
    """Scale to trace 1, so that powers neither vanish nor overflow; zero stays zero."""
    trace = psd.diagonal(dim1=-2, dim2=-1).real.sum(-1)[..., None, None]
    return psd / torch.where(trace > 0, trace, 1)


def _positions(positions_m: Tensor) -> Tensor:
    positions = torch.as_tensor(positions_m, dtype=torch.float64)
    if positions.ndim != 2 or positions.shape[-1] != 3:
        raise ValueError(f"expected positions_m of shape (mics, 3), found {tuple(positions.shape)}")
    return positions


def _direction(azimuth_deg: float | Tensor, elevation_deg: float | Tensor) -> Tensor:
    """Unit vectors ``(..., 3)`` from the origin to the source."""
    azimuth, elevation = torch.broadcast_tensors(
        torch.deg2rad(torch.as_tensor(azimuth_deg, dtype=torch.float64)),
        torch.deg2rad(torch.as_tensor(elevation_deg, dtype=torch.float64)),
    )
    level = elevation.cos()
    return torch.stack([level * azimuth.cos(), level * azimuth.sin(), elevation.sin()], dim=-1)
