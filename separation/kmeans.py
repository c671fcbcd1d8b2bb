"""Clusters of unit-norm embeddings: who belongs together, whoever that is.

K-means with directions for centroids, so that nearness is the inner product. Bins count by their
weight: what is hardly heard has an embedding too, but no vote.

Axes: embeddings ``V (..., freqs, frames, embed)``, weights and labels ``(..., freqs, frames)`` of
one recording, no batch; centroids ``(clusters, embed)``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ENERGETIC_DB = 40.0  # bins further below the loudest one have no vote
_MOST_BINS = 20_000  # more do not move a centroid, and take time
_RESTARTS = 4
_ITERATIONS = 20
_TINY = 1e-12


class Clusters(NamedTuple):
    """Centroids ``(clusters, embed)`` of unit norm, and the weight ``(clusters,)`` behind each."""

    centroids: Tensor
    weight: Tensor

    def nearness(self, V: Tensor) -> Tensor:
        """Inner products ``(clusters, ...)`` of embeddings ``(..., embed)`` with the centroids."""
        return (V @ self.centroids.mT).movedim(-1, 0)

    def masks(self, V: Tensor, sharpness: float = 5.0) -> Tensor:
        """Soft memberships ``(clusters, freqs, frames)`` that add up to one."""
        return (sharpness * self.nearness(V)).softmax(0)


def energetic(X: Tensor, below_db: float = ENERGETIC_DB) -> Tensor:
    """Weights of bins: the square root of their magnitude, none where they are too quiet.

    Args:
        X: spectrum ``(freqs, frames)``.
        below_db: how far below the loudest bin one may lie.
    """
    magnitude = torch.nan_to_num(X.abs(), nan=0.0, posinf=0.0)
    peak = magnitude.max() if magnitude.numel() else magnitude.new_zeros(())
    loud = (magnitude > peak * 10 ** (-below_db / 20)) & (magnitude > 0)
    return torch.where(loud, magnitude, 0).sqrt()


def cluster(V: Tensor, weight: Tensor, n_clusters: int, seed: int = 0) -> Clusters:
    """The best of several spherical k-means, each from a seeded k-means++ start.

    Dhillon & Modha 2001, "Concept decompositions for large sparse text data using clustering"; the
    start is that of Arthur & Vassilvitskii 2007, "k-means++".

    Args:
        V: unit-norm embeddings ``(freqs, frames, embed)``.
        weight: of each bin ``(freqs, frames)``, not negative.
        n_clusters: how many.
        seed: the same seed gives the same clusters.

    Returns:
        Clusters, the heaviest first. With fewer different embeddings than clusters some are alike.

    Raises:
        ValueError: fewer than one cluster, or shapes that do not fit.
    """
    v, w = _voters(V, weight, n_clusters)
    generator = torch.Generator(device=v.device).manual_seed(seed)
    best, best_score = None, float("-inf")
    for _ in range(_RESTARTS if n_clusters > 1 else 1):
        clusters, score = _lloyd(v, w, _start(v, w, n_clusters, generator))
        if best is None or score > best_score + 1e-6:
            best, best_score = clusters, score
    assert best is not None
    order = best.weight.argsort(descending=True, stable=True)
    return Clusters(best.centroids[order], best.weight[order])


def carry_on(
    V: Tensor,
    weight: Tensor,
    clusters: Clusters | None,
    n_clusters: int,
    forgetting: float = 0.95,
    seed: int = 0,
) -> Clusters:
    """Clusters after one more block of frames, each the successor of the same one before.

    Args:
        V, weight, n_clusters, seed: as `cluster`, of the block.
        clusters: of the blocks before; None starts afresh.
        forgetting: how much of the past's weight is kept a block.

    Returns:
        The centroids moved by what the block adds to them; who is silent keeps his place.
    """
    if clusters is None or not bool((clusters.weight > 0).any()):
        return cluster(V, weight, n_clusters, seed)
    v, w = _voters(V, weight, n_clusters)
    before = forgetting * clusters.weight
    total, added = _sums(v, w, clusters.centroids)
    total = total + before[:, None] * clusters.centroids
    return Clusters(_unit(total, clusters.centroids), before + added)


def _voters(V: Tensor, weight: Tensor, n_clusters: int) -> tuple[Tensor, Tensor]:
    """Embeddings ``(bins, embed)`` and weights ``(bins,)`` of bins that have a vote."""
    if n_clusters < 1:
        raise ValueError(f"expected at least 1 cluster, found {n_clusters}")
    if V.ndim != 3 or weight.shape != V.shape[:-1]:
        raise ValueError(
            "expected V of shape (freqs, frames, embed) and weight (freqs, frames), "
            f"found {tuple(V.shape)} and {tuple(weight.shape)}"
        )
    weight = torch.where(torch.isfinite(V).all(-1), weight, 0)
    found = (weight > 0).flatten().nonzero().squeeze(-1)
    step = max(1, -(-len(found) // _MOST_BINS))
    found = found[::step]
    return V.flatten(0, 1)[found], weight.flatten()[found]


def _start(v: Tensor, w: Tensor, n_clusters: int, generator: torch.Generator) -> Tensor:
    """Embeddings far from each other, drawn with the probability of how far."""
    if not len(v):
        return torch.eye(max(n_clusters, v.shape[-1]), dtype=v.dtype)[:n_clusters, : v.shape[-1]]
    chosen = [v[torch.multinomial(w, 1, generator=generator)[0]]]
    for _ in range(n_clusters - 1):
        nearest = (v @ torch.stack(chosen).mT).amax(-1)
        far = w * (1 - nearest).clamp(min=0) + _TINY
        chosen.append(v[torch.multinomial(far, 1, generator=generator)[0]])
    return torch.stack(chosen)


def _lloyd(v: Tensor, w: Tensor, centroids: Tensor) -> tuple[Clusters, float]:
    """Centroids that no further step moves, and how near the embeddings are to theirs."""
    weight = w.new_zeros(len(centroids))
    for _ in range(_ITERATIONS):
        total, weight = _sums(v, w, centroids)
        moved = _unit(total, centroids)
        done = bool((moved - centroids).abs().amax() < 1e-4)
        centroids = moved
        if done:
            break
    score = float((w * (v @ centroids.mT).amax(-1)).sum()) if len(v) else 0.0
    return Clusters(centroids, weight), score


def _sums(v: Tensor, w: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sums of the embeddings of each cluster, and their weights."""
    if not len(v):
        return torch.zeros_like(centroids), w.new_zeros(len(centroids))
    labels = (v @ centroids.mT).argmax(-1)
    member = torch.nn.functional.one_hot(labels, len(centroids)).to(v.dtype) * w[:, None]
    return member.mT @ v, member.sum(0)


def _unit(x: Tensor, otherwise: Tensor) -> Tensor:
    norm = x.norm(dim=-1, keepdim=True)
    return torch.where(norm > _TINY, x / norm.clamp(min=_TINY), otherwise)
