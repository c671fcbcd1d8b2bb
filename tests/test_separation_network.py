"""The separation network: any array, any level, frame by frame or whole."""

from __future__ import annotations

import json

import pytest
import torch

from multichannel.stft import STFT, STFTConfig
from separation.coarse import N_CLASSES, coarse_shares
from separation.features import N_PAIRS, chosen_mics, pair_maps
from separation.network import SeparationConfig, SeparationNet
from separation.weights import load_separation, save_separation
from separation.wiener import LONG

N_FREQS = 257


def _net(causal: bool = False, seed: int = 0, guided: bool = False) -> SeparationNet:
    torch.manual_seed(seed)
    return SeparationNet(SeparationConfig(blocks=2, causal=causal, guided=guided)).eval()


def _spectra(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.complex64, generator=generator)


@pytest.fixture(params=[False, True], ids=["offline", "causal"])
def net(request):
    return _net(request.param)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1,), (2,), (8,), (3, 4), (2, 1, 5)])
def test_masks_share_a_bin_and_embeddings_have_unit_norm(net, shape):
    (masks, V), _ = net(_spectra(*shape, N_FREQS, 5))
    leading = shape[:-1]
    assert masks.shape == (*leading, 4, N_FREQS, 5) and V.shape == (*leading, N_FREQS, 5, 20)
    assert (masks.sum(-3) - 1).abs().max() < 1e-5 and masks.min() >= 0
    assert (V.norm(dim=-1) - 1).abs().max() < 1e-5


@torch.no_grad()
def test_chunks_give_what_the_whole_gives():
    net, X = _net(causal=True), _spectra(6, N_FREQS, 40)
    (masks, V), _ = net(X)
    state, parts = None, []
    for chunk in X.split([1, 7, 0, 20, 12], dim=-1):
        part, state = net(chunk, state)
        parts.append(part)
    assert (torch.cat([p.masks for p in parts], -1) - masks).abs().max() < 1e-4
    assert (torch.cat([p.V for p in parts], -2) - V).abs().max() < 1e-4


@torch.no_grad()
def test_the_causal_network_does_not_look_ahead_and_the_other_does():
    X = _spectra(4, N_FREQS, 20)
    later = X.clone()
    later[..., 12:] = 3 * _spectra(4, N_FREQS, 8, seed=1)
    for causal in (True, False):
        net = _net(causal)
        (masks, _), _ = net(X)
        (other, _), _ = net(later)
        change = (masks - other)[..., :12].abs().max()
        assert change < 1e-6 if causal else change > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("leading", [(), (2,)])
def test_masks_of_a_guided_network_share_a_bin_and_are_as_fine_as_its_classes(leading):
    net, X = _net(guided=True), _spectra(*leading, 3, N_FREQS, 6)
    shares = torch.rand(*leading, N_CLASSES, N_FREQS, 6).softmax(-3)
    (masks, _), _ = net(X, shares=shares)
    assert masks.shape == (*leading, 4, N_FREQS, 6)
    assert (masks.sum(-3) - 1).abs().max() < 1e-5 and masks.min() >= 0
    one_class = torch.zeros_like(shares)
    one_class[..., 1, :, ::2], one_class[..., 2, :, 1::2] = 1, 1  # neighbours of a band differ
    (masks, _), _ = net(X, shares=one_class)
    (smooth, _), _ = net(X, shares=torch.full_like(shares, 1 / N_CLASSES))
    jumps, smooth_jumps = (m[..., 200:, :].diff(dim=-1).abs().mean() for m in (masks, smooth))
    assert jumps > 2 * smooth_jumps


@pytest.mark.parametrize("guided", [True, False])
def test_shares_are_for_a_guided_network_and_no_other(guided):
    X = _spectra(2, N_FREQS, 4)
    wrong = None if guided else torch.rand(N_CLASSES, N_FREQS, 4)
    with pytest.raises(ValueError, match="shares of shape"):
        _net(guided=guided)(X, shares=wrong)


def test_coarse_shares_say_who_is_where_loudest_first():
    generator = torch.Generator().manual_seed(0)
    talkers = torch.randn(2, 16_000, generator=generator)
    talkers[0, :8000], talkers[1, 8000:] = 0, 0  # one after the other
    heard = [
        torch.stack([g * s, s.roll(lag)])
        for s, g, lag in zip(talkers, (1, 3), (3, -3), strict=True)
    ]
    x = sum(heard) + 1e-3 * torch.randn(2, 16_000, generator=generator)
    shares = coarse_shares(x, STFT(), STFT(LONG))
    assert shares.shape == (N_CLASSES, N_FREQS, STFTConfig().n_frames(16_000))
    assert (shares.sum(0) - 1).abs().max() < 1e-5
    power = (shares * STFT()(x)[0].abs().square()).sum((-1, -2))
    assert (power.diff() <= 0).all()
    first, second = shares[..., :26].mean((1, 2)), shares[..., 36:].mean((1, 2))
    assert 0.5 * (first - second).abs().sum() > 0.6  # other classes in the other half
    assert torch.equal(shares, coarse_shares(x, STFT(), STFT(LONG)))


def test_coarse_shares_of_one_mic_are_equal():
    shares = coarse_shares(torch.randn(1, 4000), STFT(), STFT(LONG))
    assert (shares == 1 / N_CLASSES).all()


def test_a_state_is_refused_where_there_is_none():
    X = _spectra(2, N_FREQS, 4)
    _, state = _net(causal=True)(X)
    with pytest.raises(ValueError, match="no state"):
        _net(causal=False)(X, state)


@torch.no_grad()
@pytest.mark.parametrize("gain", [1e-4, 1e4])
def test_the_level_of_a_recording_does_not_matter(net, gain):
    X = _spectra(4, N_FREQS, 12)
    (masks, V), _ = net(X)
    (quiet, W), _ = net(gain * X)
    assert (masks - quiet).abs().max() < 1e-3 and (V - W).abs().max() < 1e-2


@torch.no_grad()
def test_silence_is_finite(net):
    for X in (torch.zeros(3, N_FREQS, 6, dtype=torch.complex64), _spectra(3, N_FREQS, 0)):
        (masks, V), _ = net(X)
        assert torch.isfinite(masks).all() and torch.isfinite(V).all()
    dead = _spectra(3, N_FREQS, 6)
    dead[1] = 0
    assert torch.isfinite(net(dead)[0].masks).all()


@torch.no_grad()
def test_a_dead_mic_is_a_mic_that_is_not_there(net):
    X = _spectra(2, N_FREQS, 6)
    padded = torch.cat([X, torch.zeros(2, N_FREQS, 6)])
    assert (net(X)[0].masks - net(padded)[0].masks).abs().max() < 1e-6


@torch.no_grad()
def test_another_reference_mic_turns_the_array(net):
    X = _spectra(4, N_FREQS, 6)
    turned, _ = net(X.roll(-2, 0))
    assert torch.equal(net(X, reference_mic=2)[0].masks, turned.masks)
    with pytest.raises(ValueError, match=r"in 0\.\.3, found 4"):
        net(X, reference_mic=4)


@pytest.mark.parametrize("shape", [(4, 129, 6), (N_FREQS, 6)])
def test_another_form_is_refused(net, shape):
    with pytest.raises(ValueError, match="expected complex X"):
        net(_spectra(*shape))
    with pytest.raises(ValueError, match="expected complex X"):
        net(torch.zeros(2, N_FREQS, 6))


def test_a_size_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="blocks of at least 1"):
        SeparationConfig(blocks=0)


@pytest.mark.parametrize("n_mics", range(1, 17))
def test_listened_to_mics_are_spread_over_the_array(n_mics):
    mics = chosen_mics(n_mics, n_mics // 2)
    assert mics[0] == n_mics // 2 and len(set(mics)) == len(mics) == min(n_mics, 1 + N_PAIRS)
    gaps = torch.tensor([*mics[1:], mics[0] + n_mics]).sub(torch.tensor(mics)).remainder(n_mics)
    assert n_mics <= 4 or gaps[:-1].max() <= -(-n_mics // 2)


def test_pairs_give_the_angle_of_their_phase_difference():
    X = _spectra(1, 3, 6, 9)
    cosines, sines = pair_maps(X).chunk(2, dim=1)
    for pair in (0, 1):
        angle = (X[:, 1 + pair] * X[:, 0].conj()).angle()
        assert (cosines[:, pair] - angle.cos()).abs().max() < 1e-5
        assert (sines[:, pair] - angle.sin()).abs().max() < 1e-5
    assert cosines[:, 2].abs().max() == 0 and sines[:, 2].abs().max() == 0
    louder = X * torch.tensor([1, 5, 0.2])[:, None, None]
    assert (pair_maps(louder) - pair_maps(X)).abs().max() < 1e-5


def test_a_band_has_the_angle_of_its_louder_bin():
    X = torch.ones(1, 2, 1, 2, dtype=torch.complex64)
    X[0, 1, 0] = torch.tensor([10j, 0.1])  # the louder bin lies at 90 degrees
    maps = pair_maps(X, lambda x: x.sum(-1, keepdim=True))
    assert maps[0, N_PAIRS, 0, 0] > 0.98 and abs(maps[0, 0, 0, 0]) < 0.02


def test_weights_are_kept_and_found_again(tmp_path):
    net, path = _net(causal=True), tmp_path / "net.safetensors"
    save_separation(net, path, training={"step": 3})
    again = load_separation(path)
    assert again.config == net.config and not again.training
    assert json.loads(path.with_suffix(".json").read_text())["training"] == {"step": 3}
    X = _spectra(2, N_FREQS, 4)
    assert torch.equal(again(X)[0].masks, net(X)[0].masks)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("net.json", "{", "model config"),
        ("net.json", '{"network": {"widht": 3}}', "model config"),
        ("net.json", '{"network": {"width": 16}}', "weights of a SeparationNet"),
        ("net.safetensors", "torn", "safetensors file"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, name, text, match):
    save_separation(_net(), tmp_path / "net.safetensors")
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=match):
        load_separation(tmp_path / "net.safetensors")
