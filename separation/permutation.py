"""The spatial mixture model by itself: classes found from chance, then one order in all freqs.

Without a network every frequency has its own order of the classes. What tells that two of them are
one talker is that they are active in the same frames (Sawada, Araki & Makino 2011, "Underdetermined
convolutive blind source separation via frequency bin-wise clustering and permutation alignment").

Axes: spectrum ``X (mics, freqs, frames)``, posteriors ``(classes, freqs, frames)``.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

from separation.cacgmm import spatial_posteriors

_ITERATIONS = 20
_ROUNDS = 10
_TINY = 1e-12


def blind_posteriors(X: Tensor, n_classes: int, seed: int = 0) -> Tensor:
    """Posteriors of the classes of a recording that nothing is known of.

    Args:
        X: spectrum ``(mics, freqs, frames)``.
        n_classes: talkers, and one for the noise.
        seed: of the first masks; the same seed gives the same posteriors.

    Returns:
        ``(classes, freqs, frames)``, classes in no order, but the same one in all freqs.
    """
    g = torch.Generator().manual_seed(seed)
    start = torch.rand(n_classes, *X.shape[1:], generator=g, dtype=torch.float64)
    masks = -start.clamp(min=_TINY).log()  # over their sum: uniform over all shares
    found = spatial_posteriors(X, masks.to(X.real.dtype), _ITERATIONS)
    return spatial_posteriors(X, aligned(found), _ITERATIONS // 2, "time")


def aligned(posteriors: Tensor) -> Tensor:
    """The same posteriors with one order of the classes in all freqs.

    Neighbours first: freqs in pairs, pairs in fours and so on, each half in the order of the other;
    then every frequency in the order of the mean over all, until nothing changes.
    """
    n_classes, n_freqs, _ = posteriors.shape
    orders = torch.tensor(list(permutations(range(n_classes))), device=posteriors.device)
    P = _centred(posteriors)
    order = orders[:1].expand(n_freqs, -1).clone()  # [f, k]: the class of f that is class k
    size = 1
    while size < n_freqs:
        for first in range(0, n_freqs - size, 2 * size):
            left, right = slice(first, first + size), slice(first + size, first + 2 * size)
            profile = _taken(P[:, left], order[left]).mean(1, keepdim=True)
            theirs = _taken(P[:, right], order[right]).mean(1, keepdim=True)
            order[right] = order[right][:, _best(theirs, profile, orders)[0]]
        size *= 2
    for _ in range(_ROUNDS):
        profile = _taken(P, order).mean(1, keepdim=True)
        found = _best(P, profile, orders)
        if torch.equal(found, order):
            break
        order = found
    return _taken(posteriors, order)


def _centred(posteriors: Tensor) -> Tensor:
    """Activities of norm one without their means, whose inner products are correlations."""
    P = posteriors - posteriors.mean(-1, keepdim=True)
    return P / P.norm(dim=-1, keepdim=True).clamp(min=_TINY)


def _best(P: Tensor, profile: Tensor, orders: Tensor) -> Tensor:
    """For every frequency of ``P`` the order that correlates best with the profile (freqs, k)."""
    correlation = torch.einsum("jft,kft->fkj", P, profile.expand_as(P))
    scores = torch.stack([correlation[:, range(len(o)), o].sum(-1) for o in orders.tolist()], -1)
    return orders[scores.argmax(-1)]


def _taken(P: Tensor, order: Tensor) -> Tensor:
    """``P`` with the classes of every frequency in its order."""
    return P.gather(0, order.T[..., None].expand_as(P))
