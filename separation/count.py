"""How many talk: from the embeddings, and from how much of the sound each mask has.

Axes as in kmeans.py and network.py.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_TALKERS = 4
# A direction of the embeddings is a talker's when it has this share of the energetic bins.
_SHARE_OF_BINS = 0.06
# A mask is a talker's when its sound has this share of that of the loudest one: -17 dB.
_SHARE_OF_POWER = 0.02


def count_by_embeddings(V: Tensor, weight: Tensor, share: float = _SHARE_OF_BINS) -> int:
    """Number of directions that the embeddings of one recording need.

    Embeddings of one talker are alike and those of two at right angles, so the eigenvalues of their
    second moments are the talkers' shares of the bins (Hershey, Chen, Le Roux & Watanabe 2016,
    "Deep clustering", for why: the affinities ``V V^T`` are those of the talkers).

    Args:
        V: unit-norm ``(freqs, frames, embed)``.
        weight: of each bin ``(freqs, frames)``.
        share: the least share of a talker.

    Returns:
        0 in silence, else 1 to `MOST_TALKERS`.
    """
    weight = torch.where(torch.isfinite(V).all(-1), weight, 0)
    total = float(weight.sum())
    if total <= 0:
        return 0
    v = torch.nan_to_num(V).flatten(0, 1).double()
    moments = v.mT @ (v * weight.flatten()[:, None].double()) / total
    n_directions = int((torch.linalg.eigvalsh(moments) > share).sum())
    return min(max(n_directions, 1), MOST_TALKERS)


def count_by_masks(masks: Tensor, X: Tensor, share: float = _SHARE_OF_POWER) -> int:
    """Number of masks that have a talker's share of the sound.

    Args:
        masks: of talkers only ``(talkers, freqs, frames)``.
        X: the spectrum that they are masks of ``(freqs, frames)``.
        share: of the power of the loudest.

    Returns:
        0 in silence, else 1 to as many as there are masks.
    """
    power = (masks * X).abs().square().sum((-1, -2))
    return int((power > share * power.max()).sum()) if float(power.max()) > 0 else 0


def loud_enough(energy: NDArray[np.floating], n_talkers: int | None = None) -> list[int]:
    """Which streams are talkers', the loudest first; at least one.

    Args:
        energy: of each stream ``(streams,)``.
        n_talkers: as many; left out, those who have a talker's share of the loudest one's.
    """
    order = np.argsort(-energy, kind="stable")
    n_loud = int((energy > _SHARE_OF_POWER * energy.max()).sum())
    return order[: n_talkers or max(1, n_loud)].tolist()
