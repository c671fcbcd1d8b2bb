"""The multichannel Wiener filter against its formula, its limits, and broken input."""

from __future__ import annotations

import math

import pytest
import torch

from multichannel.spatial import covariance_sums
from separation.wiener import (
    _LOADING,
    shares_of,
    solve_rows,
    spatial_covariances,
    wiener_images,
)

N_MICS, N_FREQS, N_FRAMES = 4, 3, 40


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.complex128)


def mixture(n_classes: int = 3):
    X = random(N_MICS, N_FREQS, N_FRAMES)
    g = torch.Generator().manual_seed(1)
    masks = torch.rand(n_classes, N_FREQS, N_FRAMES, generator=g, dtype=torch.float64)
    return X, masks / masks.sum(0)


def literal_images(X, masks, reference_mic, loading):
    n_mics, n_freqs, n_frames = X.shape
    images = torch.zeros(masks.shape, dtype=X.dtype)
    for f in range(n_freqs):
        R = []
        for mask in masks[:, f]:
            psd = sum(m * torch.outer(x, x.conj()) for m, x in zip(mask, X[:, f].T, strict=True))
            psd = psd / (psd.diagonal().sum().real / n_mics)
            psd = (psd + loading * torch.diag(psd.diagonal())) / (1 + loading)
            R.append(psd + loading * torch.eye(n_mics))
        for t in range(n_frames):
            power = X[:, f, t].abs().square().mean()
            v = masks[:, f, t] * power
            mixed = sum(one * psd for one, psd in zip(v, R, strict=True))
            y = torch.linalg.inv(mixed) @ X[:, f, t]
            for k, psd in enumerate(R):
                images[k, f, t] = v[k] * (psd @ y)[reference_mic]
    return images


@pytest.mark.parametrize("reference_mic", [0, 2])
def test_the_fast_filter_is_the_formula(reference_mic):
    X, masks = mixture()
    expected = literal_images(X, masks, reference_mic, _LOADING)
    assert torch.allclose(wiener_images(X, masks, reference_mic), expected, atol=1e-9)


def test_elimination_is_the_solution():
    A = random(N_FREQS, N_FRAMES, N_MICS, N_MICS)
    A = A @ A.mH
    b = random(N_FREQS, N_MICS, N_FRAMES, seed=1)
    expected = torch.linalg.solve(A, b.transpose(1, 2)).transpose(1, 2)
    rows = [A[:, :, m, m:].transpose(1, 2).clone() for m in range(N_MICS)]
    assert torch.allclose(solve_rows(rows, b), expected, atol=1e-8)


def test_what_the_classes_get_adds_up_to_the_reference_mic():
    X, masks = mixture()
    assert torch.allclose(wiener_images(X, masks, 1).sum(0), X[1])


def test_talkers_in_different_places_come_apart_even_where_they_talk_at_once():
    h, s = random(2, N_MICS, N_FREQS, seed=2), random(2, N_FREQS, 400, seed=3)
    loud = torch.where(torch.arange(400) % 4 < 2, 0.03, 1.0)
    s = s * torch.stack([loud, loud.roll(1)])[:, None]
    images = torch.einsum("kmf,kft->kmft", h, s)
    X = images.sum(0) + 1e-3 * random(N_MICS, N_FREQS, 400, seed=4)
    masks = shares_of(images[:, 0])
    found = wiener_images(X, masks)
    power = images[:, 0].abs().square().mean()
    left = (found - images[:, 0]).abs().square().mean() / power
    masked = (masks * X[0] - images[:, 0]).abs().square().mean() / power
    assert left < masked / 3


def test_one_mic_is_masked():
    X, masks = mixture()
    assert torch.allclose(wiener_images(X[:1], masks), masks * X[0])


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_level_does_not_matter(scale):
    X, masks = mixture()
    expected = scale * wiener_images(X, masks)
    assert torch.allclose(wiener_images(scale * X, masks), expected, rtol=1e-6)


def test_blocks_of_freqs_make_no_difference(monkeypatch):
    X, masks = mixture()
    whole = wiener_images(X, masks)
    monkeypatch.setattr("separation.wiener._BLOCK_VALUES", 1)
    assert torch.allclose(wiener_images(X, masks), whole)


@pytest.mark.parametrize("kind", ["dead", "copy", "silence", "frame", "nan", "absent", "float32"])
def test_no_input_breaks_it(kind):
    X, masks = mixture()
    X = {
        "dead": torch.where(torch.arange(N_MICS)[:, None, None] == 1, 0, X),
        "copy": torch.cat([X, X[:1]]),
        "silence": 0 * X,
        "frame": X[..., :1],
        "nan": torch.where(torch.arange(N_FRAMES) == 3, math.nan, X),
        "float32": X.to(torch.complex64),
    }.get(kind, X)
    masks = masks[..., : X.shape[-1]].clone()
    if kind == "absent":
        masks[1], masks[0] = 0, masks[:2].sum(0)
    found = wiener_images(X, masks.to(X.real.dtype))
    assert found.shape == masks.shape and torch.isfinite(found).all()
    assert torch.allclose(found.sum(0), torch.nan_to_num(X[0], nan=0.0), atol=1e-4)
    if kind == "absent":
        assert not found[1].any()


def test_a_dead_mic_is_as_if_it_were_not_there():
    X, masks = mixture()
    dead = torch.cat([X, 0 * X[:1]])
    assert torch.allclose(wiener_images(dead, masks), wiener_images(X, masks), atol=1e-3)


def test_shares_are_of_the_power_and_equal_in_silence():
    S = torch.tensor([2.0, 1.0, 0.0])[:, None, None] * random(1, 2, 3)
    S[:, 0, 0] = 0
    shares = shares_of(S)
    assert torch.allclose(shares[:, 1, 1], torch.tensor([0.8, 0.2, 0.0], dtype=torch.float64))
    assert torch.allclose(shares[:, 0, 0], torch.full((3,), 1 / 3, dtype=torch.float64))


def test_a_class_that_is_nowhere_has_the_covariance_of_nothing_in_particular():
    X, masks = mixture()
    masks[2] = 0
    R = spatial_covariances(covariance_sums(X, masks))
    assert torch.allclose(R[2, 0], R[2, 0, 0, 0] * torch.eye(N_MICS, dtype=R.dtype))
