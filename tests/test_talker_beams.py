"""Beams of talkers in a scene whose transfer functions are known: each hears his own talker."""

from __future__ import annotations

import pytest
import torch

from multichannel.spatial import CovarianceState, covariance_sums
from separation.beams import BEAMS, lcmv_weights, mvdr_weights
from separation.wiener import shares_of

N_MICS, N_FREQS, N_FRAMES, N_TALKERS = 6, 5, 600, 3


def random(*shape: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.complex128)


def scene(noise: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """Talkers who each talk in turn and at once, under noise from a place of its own.

    Returns the spectrum and masks.
    """
    h = random(N_TALKERS + 1, N_FREQS, N_MICS, seed=1)
    turn = torch.arange(N_FRAMES) // 50 % (N_TALKERS + 2)
    quiet = [1e-3 + (turn == k) + (turn == N_TALKERS) for k in range(N_TALKERS)]
    level = torch.stack([*quiet, torch.full((N_FRAMES,), noise)])
    s = random(N_TALKERS + 1, N_FREQS, N_FRAMES, seed=2) * level[:, None]
    images = torch.einsum("kfm,kft->kmft", h, s)
    images[-1] += 0.1 * noise * random(N_MICS, N_FREQS, N_FRAMES, seed=3)
    return images.sum(0), shares_of(images[:, 1])


def truth(noise: float = 1.0) -> tuple[torch.Tensor, CovarianceState]:
    """Transfer functions as of `scene`, and the covariances that they make."""
    h = random(N_TALKERS + 1, N_FREQS, N_MICS, seed=1)
    h = h / h[..., 1:2]
    total = h.unsqueeze(-1) * h.unsqueeze(-2).conj()
    total[-1] = noise * (total[-1] + 0.1 * torch.eye(N_MICS))
    weight = torch.full((N_TALKERS + 1, N_FREQS, 1, 1), 1000.0, dtype=torch.float64)
    return h[:-1], CovarianceState(total, weight)


@pytest.mark.parametrize("weights", [mvdr_weights, lcmv_weights])
def test_each_beam_is_distortionless_to_its_own_talker(weights):
    h, sums = truth()
    own = torch.einsum("kfm,kfm->kf", weights(sums, 1).conj(), h)
    assert (own - 1).abs().max() < 1e-3


def test_lcmv_has_a_null_on_each_other_talker_and_mvdr_less_noise():
    h, sums = truth(noise=10.0)
    leak, noise = [], []
    for weights in (lcmv_weights, mvdr_weights):
        w = weights(sums, 1)
        heard = torch.einsum("kfm,jfm->kjf", w.conj(), h).abs()
        leak.append(heard[~torch.eye(N_TALKERS, dtype=torch.bool)].max())
        noise.append(torch.einsum("kfm,fmn,kfn->", w.conj(), sums.total[-1], w).real)
    assert leak[0] < 1e-3 and leak[1] > 0.1
    assert noise[1] < noise[0]


@pytest.mark.parametrize("name", BEAMS)
def test_images_add_up_to_the_reference_mic(name):
    X, masks = scene()
    assert torch.allclose(BEAMS[name](X, masks, 1, None).sum(0), X[1])


@pytest.mark.parametrize("name", BEAMS)
def test_what_was_heard_before_takes_part(name):
    X, masks = scene()
    late = slice(-20, None)
    whole = BEAMS[name](X, masks, 1, None)[..., late]
    sums = covariance_sums(X, masks)
    found = BEAMS[name](X[..., late], masks[..., late], 1, sums)
    assert torch.allclose(found, whole)
    assert not torch.allclose(BEAMS[name](X[..., late], masks[..., late], 1, None), whole)


@pytest.mark.parametrize("name", BEAMS)
@pytest.mark.parametrize("broken", ["silence", "one mic", "one talker", "a copied mic"])
def test_no_input_breaks_it(name, broken):
    X, masks = scene()
    if broken == "silence":
        X = 0 * X
    elif broken == "one mic":
        X = X[1:2].expand(2, -1, -1).clone()
        X[0] = 0
    elif broken == "one talker":
        masks = torch.stack([masks[:-1].sum(0), masks[-1]])
    else:
        X = torch.cat([X, X[:1]])
    images = BEAMS[name](X, masks, 1, None)
    assert torch.isfinite(images).all()
    assert torch.allclose(images.sum(0), X[1])
