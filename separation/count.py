"""How many talk: from how much of the sound each mask has, and from the embeddings.

Axes as in kmeans.py and network.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_TALKERS = 4
# A direction of the embeddings is a talker's when it has this share of the energetic bins.
_SHARE_OF_BINS = 0.06
# A stream is a talker's when it has this share of the energy of the loudest one: -17 dB.
_SHARE_OF_ENERGY = 0.02
_TINY = 1e-12


class CountRule(NamedTuple):
    """When there is a talker more: ``mask * x + direction * y + bias > 0`` of his `levels_db`.

    Fitted to a network by `clearbeam.training.counting`, and kept beside its weights.
    """

    mask: float = 1.0
    direction: float = 0.0
    bias: float = 17.0


def how_many(
    masks: Tensor, V: Tensor, X: Tensor, weight: Tensor, rule: CountRule | None = None
) -> int:
    """Talkers, at least one: by the rule, and more than there are masks by the embeddings.

    Args:
        masks: of talkers only ``(talkers, freqs, frames)``.
        V: embeddings ``(freqs, frames, embed)``.
        X: spectrum of the reference mic ``(freqs, frames)``.
        weight: of its bins ``(freqs, frames)``.
        rule: of the network.
    """
    rule = rule or CountRule()
    levels = levels_db(masks, V, X, weight)
    there = levels[:, 0] * rule.mask + levels[:, 1] * rule.direction + rule.bias > 0
    n_talkers = 1 + int(there.cumprod(0).sum())
    if n_talkers < len(masks):
        return n_talkers
    return max(n_talkers, count_by_embeddings(V, weight))


def levels_db(masks: Tensor, V: Tensor, X: Tensor, weight: Tensor) -> Tensor:
    """Of the second talker, the third and so on ``(talkers - 1, 2)``, below the first, in dB.

    How loud his mask's sound is, and how much of the embeddings lies in his direction: those of one
    talker are alike and those of two at right angles, so the eigenvalues of their second moments
    are the talkers' shares of the bins (Hershey, Chen, Le Roux & Watanabe 2016, "Deep clustering":
    the affinities ``V V^T`` are those of the talkers).

    Args: as `how_many`.
    """
    power = (masks * X).abs().square().sum((-1, -2)).sort(descending=True).values
    shares = _shares_of_directions(V, weight)[: len(masks)].to(power)
    levels = 10 * (torch.stack([power, shares], -1) + _TINY).log10()
    return levels[1:] - levels[:1]


def count_by_embeddings(V: Tensor, weight: Tensor, share: float = _SHARE_OF_BINS) -> int:
    """Number of directions that the embeddings of one recording need.

    Args:
        V: unit-norm ``(freqs, frames, embed)``.
        weight: of each bin ``(freqs, frames)``.
        share: the least share of a talker.

    Returns:
        0 in silence, else 1 to `MOST_TALKERS`.
    """
    shares = _shares_of_directions(V, weight)
    if not bool(shares.any()):
        return 0
    return min(max(int((shares > share).sum()), 1), MOST_TALKERS)


def _shares_of_directions(V: Tensor, weight: Tensor) -> Tensor:
    """Of the energetic bins, the largest first ``(embed,)``; zeros in silence."""
    weight = torch.where(torch.isfinite(V).all(-1), weight, 0)
    v = torch.nan_to_num(V).flatten(0, 1).double()
    moments = v.mT @ (v * weight.flatten()[:, None].double())
    total = weight.sum().double()
    moments = moments / torch.where(total > 0, total, 1)
    return torch.linalg.eigvalsh(moments).flip(0).clamp(min=0)


def loud_enough(energy: NDArray[np.floating], n_talkers: int | None = None) -> list[int]:
    """Which streams are talkers', the loudest first; at least one.

    Args:
        energy: of each stream ``(streams,)``.
        n_talkers: as many; left out, those who have a talker's share of the loudest one's.
    """
    order = np.argsort(-energy, kind="stable")
    n_loud = int((energy > _SHARE_OF_ENERGY * energy.max()).sum())
    return order[: n_talkers or max(1, n_loud)].tolist()
