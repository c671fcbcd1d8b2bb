"""Clusters of embeddings and the number of talkers: found, seeded, carried on, unbroken."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from separation.count import (
    MOST_TALKERS,
    CountRule,
    count_by_embeddings,
    how_many,
    levels_db,
    loud_enough,
)
from separation.kmeans import Clusters, carry_on, cluster, energetic

N_FREQS, N_FRAMES, EMBED = 20, 60, 8


def embeddings(n_talkers: int, spread: float = 0.15, seed: int = 0, n_frames: int = N_FRAMES):
    """Unit-norm embeddings about a direction a talker, and whose each bin is."""
    g = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(EMBED, EMBED, generator=g))[0][:n_talkers]
    owner = torch.randint(n_talkers, (N_FREQS, n_frames), generator=g)
    V = directions[owner] + spread * torch.randn(N_FREQS, n_frames, EMBED, generator=g)
    return V / V.norm(dim=-1, keepdim=True), owner


def agreement(labels: torch.Tensor, owner: torch.Tensor, n: int) -> float:
    """Share of bins whose label is that of most bins of their owner, labels used once each."""
    table = torch.tensor([[float(((labels == k) & (owner == j)).sum()) for j in range(n)]
                          for k in range(n)])  # fmt: skip
    assert len(set(table.argmax(1).tolist())) == n
    return float(table.amax(1).sum()) / owner.numel()


@pytest.mark.parametrize("n_talkers", [1, 2, 3, 4])
def test_clusters_are_the_talkers_heaviest_first_and_the_same_every_time(n_talkers):
    V, owner = embeddings(n_talkers)
    weight = torch.ones(owner.shape)
    found = cluster(V, weight, n_talkers, seed=3)
    assert agreement(found.nearness(V).argmax(0), owner, n_talkers) > 0.98
    assert found.weight.tolist() == sorted(found.weight.tolist(), reverse=True)
    assert torch.allclose(found.centroids.norm(dim=-1), torch.ones(n_talkers))
    again = cluster(V, weight, n_talkers, seed=3)
    assert torch.equal(found.centroids, again.centroids)


def test_masks_are_shares_that_follow_the_nearest():
    V, _ = embeddings(3)
    found = cluster(V, torch.ones(V.shape[:-1]), 3)
    masks = found.masks(V)
    assert torch.allclose(masks.sum(0), torch.ones(V.shape[:-1]))
    assert torch.equal(masks.argmax(0), found.nearness(V).argmax(0))


def test_bins_without_weight_have_no_vote():
    V, owner = embeddings(2)
    weight = torch.ones(owner.shape)
    expected = cluster(V, weight, 2)
    g = torch.Generator().manual_seed(9)
    noise = torch.randn(N_FREQS, N_FRAMES, EMBED, generator=g)
    noise[0, 0] = math.nan
    both = torch.cat([V, noise / noise.norm(dim=-1, keepdim=True)], 1)
    found = cluster(both, torch.cat([weight, 0 * weight], 1), 2)
    # another start may be drawn, but not another end
    assert torch.allclose(found.nearness(expected.centroids).amax(1), torch.ones(2), atol=1e-3)


def test_only_bins_near_the_loudest_have_a_vote():
    X = torch.tensor([[1.0, 0.5, 1e-3, 0.0, math.nan]])
    assert (energetic(X) > 0).tolist() == [[True, True, False, False, False]]
    assert not energetic(0 * X).any()


def test_block_by_block_a_talker_keeps_his_number_even_when_silent():
    V, owner = embeddings(3, n_frames=240)
    weight = torch.ones(owner.shape)
    weight[:, 60:180][owner[:, 60:180] == 2] = 0  # the third says nothing for two blocks
    state, labels = None, []
    for first in range(0, 240, 60):
        block = slice(first, first + 60)
        state = carry_on(V[:, block], weight[:, block], state, 3)
        labels.append(state.nearness(V[:, block]).argmax(0))
    assert agreement(torch.cat(labels, 1), owner, 3) > 0.98


def test_silence_moves_no_centroid_and_begins_nothing():
    V, owner = embeddings(2)
    weight = torch.ones(owner.shape)
    state = cluster(V, weight, 2)
    after = carry_on(V, 0 * weight, state, 2)
    assert torch.allclose(after.centroids, state.centroids, atol=1e-6)
    nothing = cluster(V, 0 * weight, 2)
    assert torch.isfinite(nothing.centroids).all() and not nothing.weight.any()
    begun = carry_on(V, weight, nothing, 2)
    assert torch.equal(begun.centroids, state.centroids)


def test_fewer_bins_than_clusters_is_no_error():
    V, _ = embeddings(1)
    found = cluster(V[:1, :2], torch.ones(1, 2), 4)
    assert isinstance(found, Clusters) and torch.isfinite(found.centroids).all()


@pytest.mark.parametrize(("n", "frames"), [(0, N_FRAMES), (2, 3)])
def test_what_cannot_be_clustered_is_told(n, frames):
    V, _ = embeddings(2)
    with pytest.raises(ValueError, match=r"expected .*, found"):
        cluster(V, torch.ones(N_FREQS, frames), n)


# --------------------------------------------------------------------------------- how many talk


@pytest.mark.parametrize("n_talkers", [1, 2, 3, 4])
def test_the_directions_of_the_embeddings_are_counted(n_talkers):
    V, owner = embeddings(n_talkers)
    assert count_by_embeddings(V, torch.ones(owner.shape)) == n_talkers


def test_silence_is_nobody_and_noise_at_most_the_most():
    V, owner = embeddings(2)
    assert count_by_embeddings(V, torch.zeros(owner.shape)) == 0
    g = torch.Generator().manual_seed(0)
    V = torch.randn(N_FREQS, N_FRAMES, EMBED, generator=g)
    V = V / V.norm(dim=-1, keepdim=True)
    assert count_by_embeddings(V, torch.ones(V.shape[:-1])) <= MOST_TALKERS
    nothing = torch.zeros(N_FREQS, N_FRAMES)
    for X in (nothing, nothing + 1):
        assert 1 <= how_many(torch.ones(3, *X.shape), V, X, X) <= MOST_TALKERS
    assert loud_enough(np.zeros(3)) == [0]


def test_a_mask_with_hardly_any_sound_is_no_talker():
    V, owner = embeddings(1)
    X = torch.ones(owner.shape)
    masks = torch.tensor([0.9, 0.05, 0.5])[:, None, None].expand(-1, *X.shape)
    assert how_many(masks, V, X, X) == 2
    assert how_many(masks[:2], V, X, X) == 1
    assert loud_enough(np.array([0.5, 1.0, 0.01])) == [1, 0]
    assert loud_enough(np.array([0.5, 1.0, 0.01]), 3) == [1, 0, 2]


@pytest.mark.parametrize("n_talkers", [1, 2, 3])
def test_a_rule_may_listen_to_the_directions_alone(n_talkers):
    V, owner = embeddings(n_talkers)
    X = torch.ones(owner.shape)
    masks = X.expand(3, -1, -1)
    levels = levels_db(masks, V, X, X)
    assert levels.shape == (2, 2) and levels[:, 0].abs().max() < 1e-4
    assert how_many(masks, V, X, X, CountRule(0.0, 1.0, 12.0)) == n_talkers
    assert how_many(masks, V, X, X) >= 3  # masks of equal level are talkers
