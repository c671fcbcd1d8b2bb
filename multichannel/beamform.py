"""Blind beamformers: weights from the statistics of speech and noise, and their application.

Axes: weights ``w (..., freqs, mics)``, covariance ``psd (..., freqs, mics, mics)``, output
``w^H x``. Covariances of every frame ``(..., freqs, frames, mics, mics)`` give weights of every
frame ``(..., freqs, frames, mics)``.

Every beamformer solves in complex128, returns the type of its covariances, is differentiable, does
not change when the signal is scaled, leaves out mics that are dead, broken or copies, and passes
the reference mic through where its target has no energy (see usable.py).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from multichannel import compiled_ops
from multichannel.loading import RELATIVE_LOADING, load_diagonal
from multichannel.spatial import finite_or_zero
from multichannel.steering import principal_direction
from multichannel.usable import reference_where_unknown, sanitise


def apply_beamformer(w: Tensor, X: Tensor) -> Tensor:
    """Beam ``w^H x`` in every bin.

    Args:
        w: weights ``(..., freqs, mics)``, or ``(..., freqs, frames, mics)`` changing with time.
        X: spectrum ``(..., mics, freqs, frames)``; values that are not finite count as zero.

    Returns:
        Spectrum ``(..., freqs, frames)``.

    Raises:
        ValueError: the shapes do not fit.
    """
    n_mics, n_freqs, n_frames = X.shape[-3:]
    by_frame = w.shape[-3:] == (n_freqs, n_frames, n_mics) and w.ndim >= X.ndim
    if not by_frame and w.shape[-2:] != (n_freqs, n_mics):
        raise ValueError(
            f"expected w of shape (..., freqs, [frames,] mics) to fit X {tuple(X.shape)}, "
            f"found {tuple(w.shape)}"
        )
    weights = (w if by_frame else w.unsqueeze(-2)).conj().movedim(-1, 0).resolve_conj()
    Y = _weighted_sum(weights, X)
    if not torch.isfinite(Y.detach().sum()):  # rare, and dearer to look for in X than in the beam
        Y = _weighted_sum(weights, finite_or_zero(X))
    return Y


def mvdr_souden(
    psd_speech: Tensor,
    psd_noise: Tensor,
    reference_mic: int | Tensor = 0,
    loading: float | Tensor = RELATIVE_LOADING,
) -> Tensor:
    """MVDR that needs no steering vector: ``N^-1 S u / trace(N^-1 S)``.

    Souden, Benesty & Affes 2010, "On optimal frequency-domain multichannel linear filtering for
    noise reduction", eq. 18 with beta = 0.

    Args:
        psd_speech: ``S (..., freqs, mics, mics)``.
        psd_noise: ``N`` of the same shape.
        reference_mic: the mic whose speech is kept, an index or a tensor of indices ``(...)``.
        loading: relative diagonal loading of ``N``.

    Returns:
        w ``(..., freqs, mics)``.

    Raises:
        ValueError: the covariances are not square, or there is no such reference mic.
    """
    psds = psd_speech, psd_noise
    if has_torch_function(psds):  # an export has another way
        return handle_torch_function(mvdr_souden, psds, *psds, reference_mic, loading)
    if isinstance(reference_mic, int) and compiled_ops.solves(psd_speech, psd_noise, reference_mic):
        return compiled_ops.mvdr_souden(psd_speech, psd_noise, reference_mic, loading)
    _, reference, speech, noise = sanitise(reference_mic, psd_speech, psd_noise)
    ratio = torch.linalg.solve(load_diagonal(noise, loading), speech)
    w = _times(ratio, reference) / _nonzero(_trace(ratio)).unsqueeze(-1)
    return reference_where_unknown(w, reference, psd_speech.dtype)


def mvdr_rtf(
    psd_noise: Tensor,
    rtf: Tensor,
    reference_mic: int | Tensor = 0,
    loading: float | Tensor = RELATIVE_LOADING,
) -> Tensor:
    """MVDR towards a relative transfer function: ``N^-1 d / (d^H N^-1 d)``.

    Gannot, Burshtein & Weinstein 2001, "Signal enhancement using beamforming and nonstationarity
    with applications to speech", with the closed form of Capon 1969, eq. 20.

    Args:
        psd_noise: ``N (..., freqs, mics, mics)``.
        rtf: ``d (..., freqs, mics)``, such as `relative_transfer_function` gives.
        reference_mic: passed through where ``d`` is zero.
        loading: relative diagonal loading of ``N``.

    Returns:
        w ``(..., freqs, mics)`` with ``w^H d = 1`` over the usable mics.

    Raises:
        ValueError: the covariances are not square, or there is no such reference mic.
    """
    return least_power(psd_noise, rtf, reference_mic, loading)


def least_power(
    psd: Tensor,
    d: Tensor,
    reference_mic: int | Tensor,
    loading: float | Tensor,
    keep_one_copy: bool = True,
) -> Tensor:
    """``psd^-1 d / (d^H psd^-1 d)``: what every beamformer with a known ``d`` comes down to.

    Args and raises as `mvdr_rtf`, for any psd; ``keep_one_copy`` as `usable_mics`.
    """
    usable, reference, loud = sanitise(reference_mic, psd, keep_one_copy=keep_one_copy)
    target = torch.where(usable, d.to(loud.dtype), 0)
    filtered = _solve(load_diagonal(loud, loading), target)
    w = filtered / _nonzero(_inner(target, filtered).real).unsqueeze(-1)
    return reference_where_unknown(w, reference, psd.dtype)


def gev(
    psd_speech: Tensor,
    psd_noise: Tensor,
    reference_mic: int | Tensor = 0,
    loading: float | Tensor = RELATIVE_LOADING,
) -> Tensor:
    """Beam of the highest output SNR in every bin, with blind analytic normalisation.

    Warsitz & Haeb-Umbach 2007, "Blind acoustic beamforming based on generalized eigenvalue
    decomposition": the principal generalised eigenvector ``w`` of ``(S, N)`` times
    ``sqrt(w^H N N w / mics) / (w^H N w)`` (section III.A). The phase, which they leave free, is
    such that speech is in phase with the reference mic. By power iteration, so differentiable.

    Args, returns and raises as `mvdr_souden`.
    """
    usable, reference, speech, noise = sanitise(reference_mic, psd_speech, psd_noise)
    noise = load_diagonal(noise, loading)
    ratio = torch.linalg.solve(noise, speech)
    target = principal_direction(speech, ratio, reference)
    w = _solve(noise, target)
    # N w is the target direction d again, so w^H N N w = |d|^2 and w^H N w = w^H d
    size = _nonzero(target.abs().square().sum(-1) / usable.sum(-1).clamp(min=1)).sqrt()
    # no phase to mend: S (N^-1 S)^k is positive, so the target is real at the reference mic
    w = w * (size / _nonzero(_inner(w, target).real)).unsqueeze(-1)
    return reference_where_unknown(w, reference, psd_speech.dtype)


def sdw_mwf(
    psd_speech: Tensor,
    psd_noise: Tensor,
    reference_mic: int | Tensor = 0,
    mu: float = 1.0,
    rank1: bool = False,
    loading: float | Tensor = RELATIVE_LOADING,
) -> Tensor:
    """Speech-distortion-weighted multichannel Wiener filter: ``(S + mu N)^-1 S u``.

    Doclo, Spriet, Wouters & Moonen 2007, "Frequency-domain criterion for the speech distortion
    weighted multichannel Wiener filter for robust noise reduction". For speech of rank 1 it is
    ``N^-1 S u / (mu + trace(N^-1 S))`` (Souden, Benesty & Affes 2010, eq. 18 with beta = mu), which
    ``rank1`` uses whatever the rank of ``S`` is; with mu = 0 that is `mvdr_souden`.

    Args:
        psd_speech: ``S (..., freqs, mics, mics)``.
        psd_noise: ``N`` of the same shape.
        reference_mic: the mic whose speech is estimated, an index or a tensor of indices ``(...)``.
        mu: how much noise weighs against distortion of speech; 1 is the Wiener filter.
        rank1: use the form for speech of rank 1.
        loading: relative diagonal loading of ``N``.

    Returns:
        w ``(..., freqs, mics)``.

    Raises:
        ValueError: ``mu`` is negative, or 0 in the full form, and as `mvdr_souden`.
    """
    if mu < 0 or (mu == 0 and not rank1):
        raise ValueError(f"expected mu {'>= 0' if rank1 else '> 0'}, found {mu}")
    _, reference, speech, noise = sanitise(reference_mic, psd_speech, psd_noise)
    noise = load_diagonal(noise, loading)
    if rank1:
        ratio = torch.linalg.solve(noise, speech)
        w = _times(ratio, reference) / _nonzero(mu + _trace(ratio)).unsqueeze(-1)
    else:
        w = _solve(speech + mu * noise, _times(speech, reference))
    return reference_where_unknown(w, reference, psd_speech.dtype)


def choose_reference_mic(
    psd_speech: Tensor, psd_noise: Tensor, loading: float | Tensor = RELATIVE_LOADING
) -> Tensor:
    """The mic that, as reference of `mvdr_souden`, promises the highest output SNR over all bins.

    Of the beams ``w`` for every mic the one of the largest ``sum_f w^H S w / sum_f w^H N w``:
    Erdogan, Hershey, Watanabe, Mandel & Le Roux 2016, "Improved MVDR beamforming using
    single-channel mask prediction networks".

    Args:
        psd_speech: ``S (..., freqs, mics, mics)``.
        psd_noise: ``N`` of the same shape.
        loading: relative diagonal loading of ``N``.

    Returns:
        Indices ``(...)``, for any beamformer's ``reference_mic``; 0 where nothing tells them apart.
    """
    _, _, speech, noise = sanitise(0, psd_speech.detach(), psd_noise.detach())
    noise = load_diagonal(noise, loading)
    ratio: Tensor = torch.linalg.solve(noise, speech)
    w = ratio / _nonzero(_trace(ratio))[..., None, None]  # one column a candidate
    speech_out = (w.conj() * (speech @ w)).real.sum((-3, -2))
    noise_out = (w.conj() * (noise @ w)).real.sum((-3, -2))
    return (speech_out / _nonzero(noise_out)).argmax(-1)


def _weighted_sum(weights: Tensor, X: Tensor) -> Tensor:
    """Sum over mics of ``weights (mics, ..., freqs, frames or 1)`` times ``X``, of any layout."""
    one_clip = X.ndim == weights.ndim == 3 and weights.shape[-1] == 1
    if one_clip and compiled_ops.fits(X, weights):
        return compiled_ops.weighted_sum(weights[..., 0], X.unbind())
    if X.shape[-1] == 1:
        return (weights.movedim(0, -3) * X).sum(-3)
    Y = weights[0] * X[..., 0, :, :]
    for mic in range(1, len(weights)):
        Y.addcmul_(weights[mic], X[..., mic, :, :])
    return Y


def _times(psd: Tensor, vector: Tensor) -> Tensor:
    return (psd @ vector.unsqueeze(-1)).squeeze(-1)


def _solve(psd: Tensor, vector: Tensor) -> Tensor:
    # expanded, because solve takes a right side of fewer axes for a batch of vectors if it can
    vector = vector.expand(torch.broadcast_shapes(psd.shape[:-1], vector.shape))
    w: Tensor = torch.linalg.solve(psd, vector.unsqueeze(-1))
    return w.squeeze(-1)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a.conj() * b).sum(-1)


def _trace(psd: Tensor) -> Tensor:
    return psd.diagonal(dim1=-2, dim2=-1).real.sum(-1)


def _nonzero(x: Tensor) -> Tensor:
    """``x`` with 1 in place of 0, for a quotient whose numerator is 0 there too."""
    return torch.where(x != 0, x, 1)
