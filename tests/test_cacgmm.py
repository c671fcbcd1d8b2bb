"""The spatial mixture model: the published EM literally, classes kept, nothing breaks it."""

from __future__ import annotations

import math

import pytest
import torch

from multichannel.cacgmm import Prior, spatial_posteriors
from multichannel.compiled import can_compile
from separation.permutation import aligned, blind_posteriors

N_MICS, N_FREQS, N_FRAMES = 4, 5, 60
PRIORS: tuple[Prior, ...] = ("masks", "frequency", "time")


def mixture(n_talkers: int = 2, seed: int = 0, n_freqs: int = N_FREQS, n_frames: int = N_FRAMES):
    """Talkers of rank one who take turns (mics, freqs, frames), and who has which frame."""
    g = torch.Generator().manual_seed(seed)
    h = torch.randn(n_talkers, N_MICS, n_freqs, generator=g, dtype=torch.complex128)
    turns = torch.randint(n_talkers, (n_frames,), generator=g)
    level = torch.rand(n_freqs, n_frames, generator=g, dtype=torch.float64) + 0.1
    s = torch.randn(n_freqs, n_frames, generator=g, dtype=torch.complex128) * level
    noise = torch.randn(N_MICS, n_freqs, n_frames, generator=g, dtype=torch.complex128)
    X = h[turns].permute(1, 2, 0) * s + 0.05 * noise
    truth = torch.nn.functional.one_hot(turns, n_talkers).mT.double()
    return X, truth[:, None].expand(-1, n_freqs, -1).clone()


def literal_em(X, masks, n_iterations, prior, strength=1.0, loading=1e-3):
    """Ito et al. 2016 word for word: a loop over freqs, classes and frames."""
    n_mics, n_freqs, n_frames = X.shape
    n_classes = len(masks)
    posterior = masks / masks.sum(0)
    given = posterior.clone()
    B = torch.zeros(n_freqs, n_classes, n_mics, n_mics, dtype=X.dtype)
    form = torch.ones(n_classes, n_freqs, n_frames, dtype=torch.float64)
    for _ in range(n_iterations):
        shares = {"frequency": posterior.mean(-1, keepdim=True).expand_as(posterior),
                  "time": posterior.mean(-2, keepdim=True).expand_as(posterior),
                  "masks": given}[prior]  # fmt: skip
        new = torch.zeros_like(posterior)
        for f in range(n_freqs):
            for k in range(n_classes):
                B[f, k] = 0
                for t in range(n_frames):
                    z = X[:, f, t] / X[:, f, t].norm()
                    B[f, k] += posterior[k, f, t] / form[k, f, t] * torch.outer(z, z.conj())
                B[f, k] *= n_mics / B[f, k].diagonal().sum().real
                load = loading * B[f, k].diagonal()
                B[f, k] = (B[f, k] + torch.diag(load)) / (1 + loading)
                B[f, k] += loading * torch.eye(n_mics)
            for t in range(n_frames):
                z = X[:, f, t] / X[:, f, t].norm()
                for k in range(n_classes):
                    form[k, f, t] = (z.conj() @ torch.linalg.inv(B[f, k]) @ z).real
                    density = 1 / (torch.linalg.det(B[f, k]).real * form[k, f, t] ** n_mics)
                    new[k, f, t] = shares[k, f, t] * density**strength
        posterior = new / new.sum(0)
    return posterior


@pytest.mark.parametrize("prior", PRIORS)
def test_the_fast_em_is_the_literal_one(prior):
    X, truth = mixture(n_freqs=3, n_frames=12)
    masks = truth + 0.5
    expected = literal_em(X, masks, 3, prior, strength=0.7)
    found = spatial_posteriors(X, masks, 3, prior, strength=0.7)
    assert torch.allclose(found, expected, atol=1e-9)


def test_masks_that_know_little_become_posteriors_that_know_who_it_was():
    X, truth = mixture()
    g = torch.Generator().manual_seed(1)
    masks = truth * 0.2 + torch.rand(truth.shape, generator=g, dtype=torch.float64)
    right = lambda p: float((p.argmax(0) == truth.argmax(0)).double().mean())  # noqa: E731
    assert right(masks) < 0.8
    for prior in PRIORS:
        assert right(spatial_posteriors(X, masks, 10, prior)) > 0.97


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_neither_the_level_nor_the_order_of_the_mics_matters(scale):
    X, truth = mixture()
    expected = spatial_posteriors(X, truth + 0.5)
    assert torch.allclose(spatial_posteriors(scale * X, truth + 0.5), expected, atol=1e-9)
    assert torch.allclose(spatial_posteriors(X[[2, 0, 3, 1]], truth + 0.5), expected, atol=1e-9)


def test_blocks_of_freqs_make_no_difference(monkeypatch):
    X, truth = mixture()
    whole = spatial_posteriors(X, truth + 0.5)
    monkeypatch.setattr("multichannel.cacgmm._BLOCK_BYTES", 1)
    assert torch.allclose(spatial_posteriors(X, truth + 0.5), whole)


def broken(X: torch.Tensor) -> dict[str, torch.Tensor]:
    dead, nan = X.clone(), X.clone()
    dead[1], nan[2, :, 5:9] = 0, math.nan
    return {
        "a dead mic": dead,
        "a copied mic": torch.cat([X, X[:1]]),
        "silence": 0 * X,
        "some silence": X * (torch.arange(X.shape[-1]) > 20),
        "one frame": X[..., :1],
        "one mic": X[:1],
        "NaN": nan,
        "float32": X.to(torch.complex64),
    }


@pytest.mark.parametrize("kind", list(broken(mixture()[0])))
@pytest.mark.parametrize("prior", PRIORS)
def test_no_input_breaks_it(kind, prior):
    X, truth = mixture()
    X = broken(X)[kind]
    masks = truth[..., : X.shape[-1]] * 0.6 + 0.2
    masks[:, 0] = 0  # nobody in the lowest frequency
    found = spatial_posteriors(X, masks, 6, prior)
    assert torch.isfinite(found).all()
    assert torch.allclose(found.sum(0), torch.ones_like(found[0]))
    if kind in ("a dead mic", "a copied mic", "float32"):
        assert (found.argmax(0) == truth.argmax(0))[1:].double().mean() > 0.95


@pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler")
@pytest.mark.parametrize("kind", list(broken(mixture()[0])))
@pytest.mark.parametrize("prior", PRIORS)
def test_the_compiled_em_is_that_of_pytorch(kind, prior):
    """One of them works in single precision."""
    X, truth = mixture()
    X = broken(X)[kind].to(torch.complex128)
    masks = truth[..., : X.shape[-1]] * 0.6 + 0.2
    masks[:, :, 3:] *= torch.tensor([0.0, 1.0])[torch.arange(2), None, None]  # a class less
    n_iterations = 1 if prior == "time" else 4
    expected = spatial_posteriors(X, masks, n_iterations, prior, strength=0.7)
    frames_first = X.to(torch.complex64).mT.contiguous().mT  # as the STFT lays them out
    for single in (frames_first, frames_first.contiguous()):
        found = spatial_posteriors(single, masks.float(), n_iterations, prior, strength=0.7)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=0)


def test_what_nothing_is_known_of_is_left_to_the_mics():
    """Bins with masks of zero neither shape the classes nor are shaped by them."""
    X, truth = mixture()
    half = truth * (torch.arange(N_FRAMES) < N_FRAMES // 2)
    found = spatial_posteriors(X, half, 1, "frequency")
    assert (found.argmax(0) == truth.argmax(0)).double().mean() > 0.97
    first = spatial_posteriors(X[..., : N_FRAMES // 2], half[..., : N_FRAMES // 2], 1, "masks")
    again = spatial_posteriors(X, half, 1, "masks")[..., : N_FRAMES // 2]
    assert torch.allclose(again, first, atol=1e-9)


@pytest.mark.parametrize("kind", [torch.complex64, torch.complex128])
def test_silence_around_a_recording_changes_nothing(kind):
    """The compiled EM and PyTorch's, as sure of who talks as without it."""
    X, truth = mixture()
    X, masks = X.to(kind), (truth * 0.6 + 0.2).to(kind.to_real())
    expected = spatial_posteriors(X, masks, 3, "frequency")
    silence = X.new_zeros(*X.shape[:2], 100)
    unknown = masks.new_tensor([0.1, 0.9])[:, None, None].expand(2, N_FREQS, 100)
    found = spatial_posteriors(
        torch.cat([X, silence], -1), torch.cat([masks, unknown], -1), 3, "frequency"
    )
    torch.testing.assert_close(found[..., :N_FRAMES], expected, atol=1e-5, rtol=0)


def test_shapes_that_do_not_fit_are_told():
    X, truth = mixture()
    with pytest.raises(ValueError, match=r"expected X of shape .*, found \(4, 5, 60\) and"):
        spatial_posteriors(X, truth[:, :-1])


# ------------------------------------------------------------------------- without any network


def test_every_frequency_gets_the_order_of_the_others():
    _, truth = mixture(3, n_freqs=33, n_frames=200)
    g = torch.Generator().manual_seed(3)
    shuffled = torch.stack(
        [truth[torch.randperm(3, generator=g), f] for f in range(33)], 1
    ) + 0.3 * torch.rand(truth.shape, generator=g, dtype=torch.float64)
    order = aligned(shuffled).argmax(0)
    for f in range(33):
        assert (order[f] == order[0]).double().mean() > 0.95


def test_without_masks_the_talkers_are_found_blindly_and_the_same_every_time():
    X, truth = mixture(2, n_freqs=17, n_frames=150)
    found = blind_posteriors(X, 2, seed=1)
    assert torch.equal(found, blind_posteriors(X, 2, seed=1))
    right = (found.argmax(0) == truth.argmax(0)).double().mean()
    assert max(right, 1 - right) > 0.95


def test_blind_posteriors_of_silence_are_shares():
    X, _ = mixture()
    found = blind_posteriors(0 * X, 3)
    assert torch.allclose(found.sum(0), torch.ones_like(found[0]))
