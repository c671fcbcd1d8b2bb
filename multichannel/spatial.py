"""Spatial statistics: who is loud where, and how the mics move together.

Axes: spectrum ``X (..., mics, freqs, frames)``, mask ``(..., freqs, frames)`` or
``(..., talkers, freqs, frames)``, covariance ``psd (..., [talkers,] freqs, mics, mics)``.

Values that are not finite say nothing: a sample of ``X`` counts as zero, so that a mic of NaN is a
dead mic, and a mask value counts as zero weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from multichannel import compiled_ops

# Frames averaged by one triangular product: long enough to keep Python out, short enough that the
# products which are zero anyway cost little.
_BLOCK = 32
# Values of X at a time whose covariances are computed inside a processor's own cache (1 MB).
_CACHED = 1 << 17
# An average remembers at least this weight of its past, however long nothing new has come.
_HELD_WEIGHT = 1e-10


class WeightedSum(NamedTuple):
    """A sum of weighted terms and the sum of their weights; two of them add.

    ``total (...)`` and ``weight``, which broadcasts against it. For covariances ``total`` is
    ``(..., freqs, mics, mics)`` and ``weight (..., freqs, 1, 1)``.
    """

    total: Tensor
    weight: Tensor

    def __add__(self, other: WeightedSum) -> WeightedSum:  # type: ignore[override]
        return WeightedSum(self.total + other.total, self.weight + other.weight)

    def mean(self) -> Tensor:
        """Weighted mean, zero where the weights are zero."""
        # times one over, as PyTorch would divide a complex number by a complex one
        return self.total * (1 / self.weight.clamp(min=torch.finfo(self.weight.dtype).tiny))


CovarianceState = WeightedSum


def masked_covariance(X: Tensor, mask: Tensor | None = None) -> Tensor:
    """Covariance of the mics over all frames, each frame weighted by the mask.

    ``psd = sum_t mask x x^H / sum_t mask``: Higuchi, Ito, Yoshioka & Nakatani 2016, "Robust MVDR
    beamforming using time-frequency masks for online/offline ASR in noise".

    Args:
        X: spectrum ``(..., mics, freqs, frames)``.
        mask: weights ``(..., freqs, frames)``, or ``(..., talkers, freqs, frames)`` for a
            covariance per talker (or class: stack speech and noise and save a pass). All frames
            count the same when left out.

    Returns:
        psd ``(..., [talkers,] freqs, mics, mics)``, zero where the mask is zero in all frames.

    Raises:
        ValueError: ``X`` is not complex, or the shapes of ``X`` and ``mask`` do not fit.
    """
    return covariance_sums(X, mask).mean()


def covariance_sums(
    X: Tensor, mask: Tensor | None = None, others: Tensor | None = None
) -> CovarianceState:
    """The sums behind `masked_covariance`: add those of all blocks of a long file, then ``mean()``.

    Args and raises as `masked_covariance`; ``others`` are more channels ``(..., n, freqs, frames)``
    after the mics.
    """
    _check(X, mask)
    if mask is None:
        mask = X.real.new_ones(X.shape[-2:])
    mask = mask.to(X.real.dtype)
    parts = [X] if others is None else [X, others]
    weight = mask.sum(-1)
    # rare, and dearer to look for in the signals than in their sums
    if not torch.isfinite(weight.sum()):
        mask = finite_or_zero(mask)
        weight = mask.sum(-1)
    total = _outer_sums(parts, mask)
    if not torch.isfinite(total.detach().sum()):
        total = _outer_sums([finite_or_zero(one) for one in parts], mask)
    return CovarianceState(total, weight[..., None, None])


def finite_or_zero(X: Tensor) -> Tensor:
    """``X`` with every value that is NaN or infinite set to zero."""
    return torch.where(torch.isfinite(X), X, torch.zeros((), dtype=X.dtype, device=X.device))


def finite_as_a_rule(X: Tensor) -> Tensor:
    """`finite_or_zero` at a twentieth of the cost where all is finite: then its sum is. It looks at
    values, so it is not for what is traced."""
    return X if torch.isfinite(X.sum()) else finite_or_zero(X)


def total_power(X: Tensor) -> Tensor:
    """Power of all mics together, ``(..., freqs, frames)`` of ``X (..., mics, freqs, frames)``.

    Of many frames mic by mic, so that on a CPU nothing of the size of ``X`` is written.
    """
    if X.shape[-1] == 1:
        return (X.real.square() + X.imag.square()).sum(-3)
    first, *others = (torch.view_as_real(one.resolve_conj()) for one in X.unbind(-3))
    parts = first.square()
    for one in others:
        parts = parts.addcmul_(one, one)
    return parts[..., 0] + parts[..., 1]


def recursive_covariance(
    X: Tensor, mask: Tensor | None, forgetting: float, state: CovarianceState | None = None
) -> tuple[Tensor, CovarianceState]:
    """Covariance of the mics up to each frame, older frames forgotten exponentially.

    Speech and noise may forget differently: call once for each. Offline and frame by frame give
    the same, since the offline form is one call with a fresh state.

    Args:
        X: spectrum ``(..., mics, freqs, frames)``.
        mask: weights ``(..., freqs, frames)`` or ``(..., talkers, freqs, frames)``; None: all one.
        forgetting: factor by which a frame counts less with each newer one, 0 to 1.
        state: of the call before; None is a fresh start.

    Returns:
        psd ``(..., [talkers,] freqs, frames, mics, mics)`` and the state for the next call.

    Raises:
        ValueError: ``X`` is not complex, shapes that do not fit, or forgetting outside 0 to 1.
    """
    _check(X, mask)
    X = finite_or_zero(X)
    outer = X.unsqueeze(-3) * X.unsqueeze(-4).conj()  # (..., mics, mics, freqs, frames)
    if mask is None:
        mask = X.real.new_ones(1, X.shape[-1])
    if mask.ndim == X.ndim:
        outer = outer.unsqueeze(-5)
    mask = mask.unsqueeze(-3).unsqueeze(-3)
    if state is not None:
        state = WeightedSum(*(one.movedim(-3, -1) for one in state))
    psd, state = recursive_average(outer, forgetting, mask, state)
    return psd.movedim((-2, -1), (-4, -3)), WeightedSum(*(one.movedim(-1, -3) for one in state))


def recursive_average(
    x: Tensor, forgetting: float, weight: Tensor | None = None, state: WeightedSum | None = None
) -> tuple[Tensor, WeightedSum]:
    """Mean of ``x`` up to each frame, older frames forgotten exponentially.

    ``mean_t = sum_s a^(t-s) w_s x_s / sum_s a^(t-s) w_s`` for s <= t: dividing by the weights makes
    the first frames unbiased. Where the weights are zero for long, the last mean is held.

    Args:
        x: real or complex ``(..., frames)``.
        forgetting: ``a`` of the formula, 0 (the frame alone) to 1 (all frames alike).
        weight: not negative, broadcasts against ``x``; NaN counts as zero; None: all one.
        state: of the call before; None is a fresh start.

    Returns:
        mean ``(..., frames)`` and the state for the next call.

    Raises:
        ValueError: forgetting outside 0 to 1.
    """
    if not 0 <= forgetting <= 1:
        raise ValueError(f"expected forgetting from 0 to 1, found {forgetting}")
    real = x.real if x.is_complex() else x
    if weight is None:
        weight = real.new_ones(x.shape[-1])
    weight = torch.nan_to_num(weight, nan=0.0, posinf=0.0, neginf=0.0).to(real.dtype)
    x = x * weight
    if state is None:
        state = WeightedSum(torch.zeros_like(x[..., 0]), torch.zeros_like(weight[..., 0]))
    if x.shape[-1] == 0:
        return x, state
    means = []
    for x_block, weight_block in zip(x.split(_BLOCK, -1), weight.split(_BLOCK, -1), strict=True):
        totals = _leaky_sums(x_block, forgetting, state.total)
        weights = _leaky_sums(weight_block, forgetting, state.weight)
        means.append(WeightedSum(totals, weights).mean())
        state = _held(WeightedSum(totals[..., -1], weights[..., -1]))
    return torch.cat(means, -1), state


def _check(X: Tensor, mask: Tensor | None) -> None:
    if not X.is_complex() or X.ndim < 3:
        raise ValueError(
            "expected complex X of shape (..., mics, freqs, frames), "
            f"found {X.dtype} {tuple(X.shape)}"
        )
    if mask is None:
        return
    if mask.shape[-2:] != X.shape[-2:] or mask.ndim not in (2, X.ndim - 1, X.ndim):
        raise ValueError(
            f"expected mask of shape (..., [talkers,] freqs, frames) to fit X {tuple(X.shape)}, "
            f"found {tuple(mask.shape)}"
        )


def _outer_sums(parts: Sequence[Tensor], mask: Tensor) -> Tensor:
    """``sum_t mask x x^H``, shape ``(..., [talkers,] freqs, mics, mics)``, of all channels."""
    if compiled_ops.fits(*parts, mask):
        return _compiled_sums(parts, mask)
    return _sums_by_bins(torch.cat([*parts], -3), mask)


def _compiled_sums(parts: Sequence[Tensor], mask: Tensor) -> Tensor:
    X = parts[0]
    per_talker = mask.ndim == X.ndim
    masks = mask if per_talker else mask.unsqueeze(-3)
    masks = masks.expand(*X.shape[:-3], *masks.shape[-3:]).reshape(-1, *masks.shape[-3:])
    flat = [one.reshape(-1, *one.shape[-3:]) for one in parts]
    totals = [
        compiled_ops.outer_sums([x for one in clip for x in one], one_mask)
        for *clip, one_mask in zip(*flat, masks, strict=True)
    ]
    total = torch.stack(totals) if len(totals) > 1 else totals[0]
    total = total.reshape(*X.shape[:-3], *total.shape[-4:])
    return total if per_talker else total.squeeze(-4)


def _sums_by_bins(X: Tensor, mask: Tensor) -> Tensor:
    """Some bins at a time, so that on a CPU all stays in the cache."""
    n_freqs = X.shape[-2]
    n_bins = n_freqs if X.is_cuda else max(1, _CACHED * n_freqs // max(1, X.numel()))
    blocks = zip(X.split(n_bins, -2), mask.split(n_bins, -2), strict=True)
    return torch.cat([_sums_of_bins(*block) for block in blocks], -3)


def _sums_of_bins(X: Tensor, mask: Tensor) -> Tensor:
    """One real product of 2 mics x 2 mics a bin: the parts of x = a + ib stand in rows
    a_0 b_0 a_1 ... and x_m conj(x_n) = (a_m a_n + b_m b_n) + i (b_m a_n - a_m b_n).
    """
    n_mics = X.shape[-3]
    parts = torch.stack([X.real, X.imag], -3).flatten(-4, -3).transpose(-3, -2)
    masks = mask.unbind(-3) if mask.ndim == X.ndim else (mask,)
    products = [(parts * one.unsqueeze(-2)) @ parts.mT for one in masks]
    product = torch.stack(products, -4) if mask.ndim == X.ndim else products[0]
    product = product.unflatten(-1, (n_mics, 2)).unflatten(-3, (n_mics, 2))
    real = product[..., 0, :, 0] + product[..., 1, :, 1]
    imag = product[..., 1, :, 0] - product[..., 0, :, 1]
    return torch.complex(real, imag)


def _leaky_sums(x: Tensor, forgetting: float, start: Tensor) -> Tensor:
    """``y_t = forgetting * y_(t-1) + x_t`` from ``y_(-1) = start`` as one triangular product."""
    if x.shape[-1] == 1:
        return x + (forgetting * start).unsqueeze(-1)
    age = torch.arange(x.shape[-1], dtype=torch.float64, device=x.device)
    decay = torch.triu(forgetting ** (age - age[:, None]).clamp(min=0)).to(x.dtype)
    return x @ decay + start.unsqueeze(-1) * (forgetting ** (age + 1)).to(x.dtype)


def _held(state: WeightedSum) -> WeightedSum:
    """Keep the mean but not the decay of a state that has faded, before it fades into denormals."""
    faded = (state.weight > 0) & (state.weight < _HELD_WEIGHT)
    scale = torch.where(faded, _HELD_WEIGHT / torch.where(faded, state.weight, 1), 1)
    return WeightedSum(state.total * scale, state.weight * scale)
