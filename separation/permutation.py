"""The spatial mixture model by itself: classes found from chance, then one order in all freqs.

Without a network every frequency has its own order of the classes. What tells that two of them are
one talker is that they are active in the same frames (Sawada, Araki & Makino 2011, "Underdetermined
convolutive blind source separation via frequency bin-wise clustering and permutation alignment").

Axes: spectrum ``X (mics, freqs, frames)``, posteriors ``(classes, freqs, frames)``.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations

import torch
from torch import Tensor

from multichannel.cacgmm import spatial_posteriors

# Few: with more, the model is surer and more often wrong (docs/benchmarks.md).
_ITERATIONS = 3
_ROUNDS = 10
_TINY = 1e-12


def blind_posteriors(
    X: Tensor, n_classes: int, seed: int = 0, n_iterations: int = _ITERATIONS
) -> Tensor:
    """Posteriors of the classes of a recording that nothing is known of.

    Args:
        X: spectrum ``(mics, freqs, frames)``.
        n_classes: talkers, and one for the noise.
        seed: of the first masks; the same seed gives the same posteriors.
        n_iterations: of EM in each frequency by itself; one of all together follows.

    Returns:
        ``(classes, freqs, frames)``, classes in no order, but the same one in all freqs.
    """
    masks = _chance((n_classes, *X.shape[1:]), seed).to(X.real)
    found = spatial_posteriors(X, masks, n_iterations)
    return spatial_posteriors(X, aligned(found), 1, "time")


@lru_cache(maxsize=2)
def _chance(shape: tuple[int, ...], seed: int) -> Tensor:
    """Masks that are, over their sum, uniform over all shares; live ones are asked for again."""
    g = torch.Generator().manual_seed(seed)
    start = torch.rand(shape, generator=g, dtype=torch.float64)
    return -start.clamp(min=_TINY).log()


def aligned(posteriors: Tensor) -> Tensor:
    """The same posteriors with one order of the classes in all freqs.

    Neighbours first: freqs in pairs, pairs in fours and so on, each half in the order of the other;
    then every frequency in the order of the mean over all, until nothing changes.
    """
    orders = torch.tensor(list(permutations(range(len(posteriors)))), device=posteriors.device)
    P = _centred(posteriors)
    order = _by_neighbours(P, orders)  # [f, k]: the class of f that is class k
    for _ in range(_ROUNDS):
        found = _best(P, _mean(P, order), orders)
        if torch.equal(found, order):
            break
        order = found
    return _taken(posteriors, order)


def _by_neighbours(P: Tensor, orders: Tensor) -> Tensor:
    """Order of every frequency ``(freqs, classes)``, all pairs of groups of a size at once."""
    n_classes, n_freqs, _ = P.shape
    n_padded = 1 << (n_freqs - 1).bit_length()
    profiles = torch.nn.functional.pad(P, (0, 0, 0, n_padded - n_freqs))
    order = orders[:1].expand(n_padded, -1).clone()
    size = 1
    while size < n_padded:
        left, right = profiles[:, 0::2], profiles[:, 1::2]
        best = _best(right, left, orders)
        profiles = left + _taken(right, best)
        halves = order.view(-1, 2, size, n_classes)
        halves[:, 1] = halves[:, 1].gather(-1, best[:, None].expand(-1, size, -1))
        size *= 2
    return order[:n_freqs]


def _centred(posteriors: Tensor) -> Tensor:
    """Activities of norm one without their means, whose inner products are correlations."""
    P = posteriors - posteriors.mean(-1, keepdim=True)
    return P / P.norm(dim=-1, keepdim=True).clamp(min=_TINY)


def _best(P: Tensor, profile: Tensor, orders: Tensor) -> Tensor:
    """For every frequency of ``P`` the order that correlates best with its profile, ``(freqs, k)``;
    a profile ``(classes, 1 or freqs, frames)``."""
    n_classes = len(P)
    if profile.shape[1] == 1:  # one product for all freqs
        correlation = (P @ profile[:, 0].mT).transpose(0, 1)  # [f, j, k]
    else:
        correlation = P.transpose(0, 1) @ profile.permute(1, 2, 0)
    chosen = torch.nn.functional.one_hot(orders, n_classes).mT.flatten(1)  # [order, (j, k)]
    return orders[(correlation.flatten(1) @ chosen.to(P.dtype).T).argmax(-1)]


def _mean(P: Tensor, order: Tensor) -> Tensor:
    """Mean of `_taken` over the freqs, ``(classes, 1, frames)``, as one product."""
    n_classes, n_freqs, _ = P.shape
    chosen = torch.nn.functional.one_hot(order, n_classes).to(P.dtype)  # [f, k, j]
    total = chosen.permute(1, 2, 0).flatten(1) @ P.flatten(0, 1)
    return total.unsqueeze(1) / n_freqs


def _taken(P: Tensor, order: Tensor) -> Tensor:
    """``P`` with the classes of every frequency in its order."""
    return P[order.T, torch.arange(P.shape[1], device=P.device)]
