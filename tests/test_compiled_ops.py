"""What the compiled library does for whole blocks equals what PyTorch does."""

from __future__ import annotations

import pytest
import torch

from multichannel import compiled_ops
from multichannel.beamform import apply_beamformer, mvdr_souden
from multichannel.compiled import can_compile
from multichannel.spatial import covariance_sums
from separation.wiener import wiener_images

pytestmark = pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler")


@pytest.fixture
def alike(monkeypatch):
    """Calls a function with the library and without it, and compares."""

    def compare(function, **close):
        assert compiled_ops.fits(torch.zeros(1))
        fast = function()
        with monkeypatch.context() as patch:
            patch.setattr(compiled_ops, "fits", lambda *tensors: False)
            torch.testing.assert_close(fast, function(), **close)

    return compare


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.complex64, generator=generator)


@pytest.mark.parametrize("frames_last", [True, False])
@pytest.mark.parametrize(
    ("n_mics", "n_freqs", "n_frames"), [(1, 1, 1), (2, 17, 15), (6, 33, 16), (7, 9, 300)]
)
def test_sums_and_beams_of_any_size_and_layout(alike, frames_last, n_mics, n_freqs, n_frames):
    shape = (n_freqs, n_frames) if frames_last else (n_frames, n_freqs)
    X = noise(n_mics, *shape)
    masks = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1))
    w = noise(n_freqs, n_mics, seed=2)
    X, masks = (X, masks) if frames_last else (X.mT, masks.mT)
    alike(lambda: covariance_sums(X, masks).total, rtol=1e-4, atol=1e-4)
    alike(lambda: apply_beamformer(w, X), rtol=1e-5, atol=1e-5)


def covariances(n_mics: int, *leading: int) -> torch.Tensor:
    """Of speech and noise, ``(2, ..., mics, mics)``, from fewer frames than mics in places."""
    X = noise(2, *leading, n_mics, 3 * n_mics)
    X[..., : leading[-1] // 3, :, 2:] = 0
    psd = X @ X.mH
    return (psd + psd.mH) / 2  # exactly


@pytest.mark.parametrize(("n_mics", "leading"), [(1, (5,)), (3, (2, 11)), (6, (257,)), (16, (9,))])
def test_weights_of_any_number_of_mics(alike, n_mics, leading):
    speech, noise_ = covariances(n_mics, *leading)
    loading = torch.logspace(-4, -1, leading[-1], dtype=torch.float64)
    for loads in (1e-3, loading):
        for mic in {0, n_mics - 1}:
            alike(lambda: mvdr_souden(speech, noise_, mic, loads), rtol=1e-4, atol=1e-4)  # noqa: B023


def test_weights_of_broken_mics(alike):
    speech, noise_ = covariances(4, 24)
    for psd in (speech, noise_):
        psd[0] = 0
        psd[1, 2], psd[1, :, 2] = 0, 0  # a dead mic
        psd[2, 0], psd[2, :, 0] = 0, 0  # the reference
        psd[3, 1, 1] = float("nan")
        psd[4, 2, 3] = psd[4, 3, 2] = float("inf")
        psd[5, 3], psd[5, :, 3] = psd[5, 1], psd[5, :, 1]  # a copy
        psd[6, 1], psd[6, :, 1] = psd[6, 0], psd[6, :, 0]  # of the reference
        psd[7] *= 1e-8
        psd[8] = float("nan")
        psd[9, 3] *= 1e-6
        psd[9, :, 3] *= 1e-6
    speech[10] = 0
    noise_[11] = 0
    for mic in range(4):
        alike(lambda: mvdr_souden(speech, noise_, mic, 1e-3), rtol=1e-4, atol=1e-4)  # noqa: B023


@pytest.mark.parametrize(("n_mics", "n_classes"), [(1, 2), (2, 3), (6, 4), (16, 8)])
@pytest.mark.parametrize("frames_last", [True, False])
def test_wiener_filters_of_any_size_and_layout(alike, frames_last, n_mics, n_classes):
    X = noise(n_mics, 5, 37)
    X[:, 0, 3:20], X[-1, 1] = 0, 0  # silence, a dead mic
    X[0, 2, 4] = float("nan")
    masks = noise(n_classes, 5, 37, seed=1).abs()
    masks[0, 3] = 0  # nowhere in a frequency
    masks = masks / masks.sum(0)
    if not frames_last:
        X, masks = X.mT.contiguous().mT, masks.mT.contiguous().mT
    alike(lambda: wiener_images(X, masks, n_mics - 1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("units", [16, 32, 64])
@pytest.mark.parametrize("bidirectional", [True, False])
@torch.no_grad()
def test_recurrences_and_what_they_remember(units, bidirectional):
    torch.manual_seed(0)
    rnn = torch.nn.GRU(9, units, batch_first=True, bidirectional=bidirectional)
    x = torch.randn(5, 11, 9)
    assert compiled_ops.recurs(rnn, x)
    hidden = torch.randn(1 + bidirectional, 5, units)
    before = hidden.clone()
    for state in (None, hidden):
        torch.testing.assert_close(compiled_ops.gru(rnn, x, state), rnn(x, state))
    assert torch.equal(hidden, before)


def test_recurrences_of_other_sizes_and_in_training_are_left_to_pytorch():
    x = torch.zeros(1, 2, 9)
    assert not compiled_ops.recurs(torch.nn.GRU(9, 16, batch_first=True), x)
    with torch.no_grad():
        assert not compiled_ops.recurs(torch.nn.GRU(9, 20, batch_first=True), x)
        assert not compiled_ops.recurs(torch.nn.GRU(9, 16, batch_first=True).double(), x.double())


def test_what_the_library_does_not_know_is_left_to_pytorch():
    psd = covariances(3, 4)[0]
    with pytest.raises(ValueError, match="reference_mic from 0 to 2, found 3"):
        mvdr_souden(psd, psd, 3)
    with pytest.raises(ValueError, match="expected psd"):
        mvdr_souden(psd[..., :2], psd[..., :2])
    large = covariances(17, 2)[0]
    assert not compiled_ops.solves(large, large, 0)
    assert not compiled_ops.solves(psd, psd[0], 0)
