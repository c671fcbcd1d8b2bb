"""Spatial mixture model: which talker a bin belongs to, told by how the mics hear it.

Every class (a talker, the noise) has in every frequency a complex angular central Gaussian
distribution of the directions of the mics' vectors (Ito, Araki & Nakatani 2016, "Complex angular
central Gaussian mixture model for directional statistics in mask-based microphone array signal
processing"). Levels play no part.

Axes: spectrum ``X (mics, freqs, frames)``, masks and posteriors ``(classes, freqs, frames)``.
"""

from __future__ import annotations

import ctypes
from typing import Literal

import torch
from torch import Tensor

from multichannel import compiled_ops
from multichannel.compiled_ops import at, steps
from multichannel.loading import load_diagonal
from multichannel.spatial import finite_as_a_rule
from multichannel.usable import mics_out

Prior = Literal["masks", "frequency", "time"]

_TINY = 1e-20
# Loads a class's matrix, relative to its trace: how sure a bin may be of its class.
_LOADING = 1e-3
# Bytes of features whose EM runs to its end before the next frequencies are looked at.
_BLOCK_BYTES = 4 << 20
_MAX_MICS, _MAX_CLASSES = 16, 8  # of native/mixture.cpp


def spatial_posteriors(
    X: Tensor,
    masks: Tensor,
    n_iterations: int = 5,
    prior: Prior = "frequency",
    strength: float = 1.0,
) -> Tensor:
    """Posteriors of the classes after expectation maximisation that begins with ``masks``.

    As by Ito et al. 2016: a posterior is proportional to the prior over ``det(B)
    (z^H B^-1 z)^mics`` with ``z = x / |x|``, and the matrix ``B`` of a class to the sum over frames
    of ``z z^H / (z^H B^-1 z)``, weighted by the posteriors. The first M step takes the masks for
    posteriors and ``z^H B^-1 z`` for 1, so classes are the same in every frequency and no
    permutation has to be found.

    Args:
        X: spectrum ``(mics, freqs, frames)``; values that are not finite count as zero. A mic that
            is silent in some frames, when others are not, is left out of all: where mics come and
            go, directions do too.
        masks: ``(classes, freqs, frames)``, not negative; need not add up to one. Where all are
            zero nothing is known, and the bin has no part in the first M step.
        n_iterations: of EM; 0 returns the masks, made to add up to one.
        prior: of a class in a bin before the mics are asked: its mask (``masks``), its share of the
            frames of the frequency that are not silent, or its share of the freqs of the frame.
        strength: exponent of the likelihood, 1 as published; less trusts the prior more.

    Returns:
        Posteriors ``(classes, freqs, frames)`` that add up to one. A silent bin has its prior, and
        no part in those of others.

    Raises:
        ValueError: shapes that do not fit.
    """
    if X.ndim != 3 or masks.ndim != 3 or masks.shape[1:] != X.shape[1:]:
        raise ValueError(
            "expected X of shape (mics, freqs, frames) and masks (classes, freqs, frames), "
            f"found {tuple(X.shape)} and {tuple(masks.shape)}"
        )
    masks = torch.nan_to_num(masks, nan=0.0).clamp(min=0).to(X.real.dtype)
    total = masks.sum(0)
    masks = masks / torch.where(total > _TINY, total, 1)
    if n_iterations == 0:
        return torch.where(total > _TINY, masks, 1 / len(masks))
    out = mics_out(X)
    X = X[~out] if out.any() else X
    n_mics, _, n_frames = X.shape
    if _compiles(X, masks, n_iterations, prior):
        return _compiled_em(X, masks, n_iterations, prior, strength)
    if prior == "time":  # a frame's prior needs all freqs
        return _em(_features(X), masks, n_mics, n_iterations, prior, strength)
    size = max(1, _BLOCK_BYTES // max(1, 4 * n_frames * n_mics**2))
    parts = zip(X.split(size, 1), masks.split(size, 1), strict=True)
    found = [_em(_features(x), m, n_mics, n_iterations, prior, strength) for x, m in parts]
    return torch.cat(found, 1)


def _compiles(X: Tensor, masks: Tensor, n_iterations: int, prior: Prior) -> bool:
    """Whether `_compiled_em` can do it: a frequency after the other, so not where they wait for
    each other."""
    if not compiled_ops.fits(X, masks) or len(X) > _MAX_MICS or len(masks) > _MAX_CLASSES:
        return False
    return prior != "time" or n_iterations == 1


def _compiled_em(
    X: Tensor, masks: Tensor, n_iterations: int, prior: Prior, strength: float
) -> Tensor:
    """`_em` of all freqs in single precision on a CPU, by native/mixture.cpp."""
    X = X.resolve_conj()
    before = masks.mean(1, keepdim=True).expand_as(masks) if prior == "time" else masks
    posterior = masks.clone(memory_format=torch.contiguous_format)
    compiled_ops.library_of("mixture.cpp").mixture_em(
        *(at(X), steps(X), len(X), *map(ctypes.c_int64, X.shape[1:])),
        *(at(posterior), len(masks), None if prior == "frequency" else at(before), steps(before)),
        *(n_iterations, ctypes.c_float(strength), ctypes.c_double(_LOADING)),
    )
    return posterior


def _em(
    Z: Tensor, masks: Tensor, n_mics: int, n_iterations: int, prior: Prior, strength: float
) -> Tensor:
    """EM for some freqs; features ``Z (freqs, mics^2, frames)``, masks classes first."""
    heard = Z[:, :n_mics].sum(1, keepdim=True) > 0
    posterior = masks.transpose(0, 1)  # freqs first, for one matrix product a frequency
    log_masks = posterior.clamp(min=_TINY).log()
    form = torch.ones_like(posterior)
    for _ in range(n_iterations):
        inverse, log_det = _matrices((posterior / form * heard) @ Z.mT, n_mics)
        form = (inverse @ Z).clamp(min=_TINY)
        likelihood = -n_mics * form.log() - log_det.unsqueeze(-1)
        likelihood = torch.where(heard, strength * likelihood, 0)
        posterior = (_log_prior(posterior, log_masks, heard, prior) + likelihood).softmax(1)
    return posterior.transpose(0, 1)


def _log_prior(posterior: Tensor, log_masks: Tensor, heard: Tensor, prior: Prior) -> Tensor:
    if prior == "masks":
        return log_masks
    if prior == "time":
        return posterior.mean(0, keepdim=True).clamp(min=_TINY).log()
    shares = (posterior * heard).sum(-1, keepdim=True)
    return (shares / heard.sum(-1, keepdim=True).clamp(min=1)).clamp(min=_TINY).log()


def _matrices(total: Tensor, n_mics: int) -> tuple[Tensor, Tensor]:
    """Inverses of the classes' matrices as vectors ``(freqs, classes, mics^2)``, and the logs of
    their determinants ``(freqs, classes)``, from weighted sums of features.

    A matrix matters up to a factor only, which cancels in the posterior: its trace is set to the
    number of mics.
    """
    B = _hermitian(total.double(), n_mics)
    trace = B.diagonal(dim1=-2, dim2=-1).real.sum(-1)[..., None, None]
    identity = torch.eye(n_mics, dtype=B.dtype, device=B.device)
    B = torch.where(trace > _TINY, B * (n_mics / trace.clamp(min=_TINY)), identity)
    # a dead mic is as loud as the load, and says the same of every class
    factor, _ = torch.linalg.cholesky_ex(load_diagonal(B, _LOADING, _LOADING))
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).real.log().sum(-1)
    inverse = torch.cholesky_inverse(factor)
    return _vector(inverse).to(total.dtype), log_det.to(total.dtype)


def _features(X: Tensor) -> Tensor:
    """``z z^H`` of the directions ``z = x / |x|`` as real vectors ``(freqs, mics^2, frames)``.

    The vectors of two Hermitian matrices have the inner product ``trace(A B)``, so one real matrix
    product gives the forms ``z^H A z`` of all frames, and another one sums ``z z^H`` over them.
    """
    X = finite_as_a_rule(X)
    power = X.abs().square().sum(0)
    z = (X * torch.where(power > 0, power.clamp(min=_TINY).rsqrt(), 0)).transpose(0, 1)
    a, b = z.real.contiguous(), z.imag.contiguous()
    n_freqs, n_mics, n_frames = a.shape
    Z = a.new_empty(n_freqs, n_mics**2, n_frames)
    torch.mul(a, a, out=Z[:, :n_mics]).addcmul_(b, b)
    first, n_pairs = n_mics, n_mics * (n_mics - 1) // 2
    a_m, b_m = a * 2**0.5, b * 2**0.5
    for m in range(n_mics - 1):
        n, end = slice(m + 1, None), first + n_mics - 1 - m
        real, imag = Z[:, first:end], Z[:, first + n_pairs : end + n_pairs]
        torch.mul(a_m[:, m, None], a[:, n], out=real).addcmul_(b_m[:, m, None], b[:, n])
        torch.mul(b_m[:, m, None], a[:, n], out=imag).addcmul_(a_m[:, m, None], b[:, n], value=-1)
        first = end
    return Z


def _vector(A: Tensor) -> Tensor:
    """The vector of a Hermitian matrix, as in `_features`."""
    m, n = torch.triu_indices(A.shape[-1], A.shape[-1], 1, device=A.device)
    pairs = A[..., m, n] * 2**0.5
    return torch.cat([A.diagonal(dim1=-2, dim2=-1).real, pairs.real, pairs.imag], -1)


def _hermitian(vector: Tensor, n_mics: int) -> Tensor:
    """The matrix of a vector."""
    m, n = torch.triu_indices(n_mics, n_mics, 1, device=vector.device)
    power, real, imag = vector.split([n_mics, len(m), len(m)], -1)
    A = torch.diag_embed(torch.complex(power, torch.zeros_like(power)))
    pairs = torch.complex(real, imag) * 0.5**0.5
    A[..., m, n], A[..., n, m] = pairs, pairs.conj()
    return A
