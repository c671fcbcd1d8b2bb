"""What trainers do to networks: start, average, prune, widen; and the rival of the benchmark."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("lightning")

from benchmarks._published_gtcrn import PublishedGTCRN
from clearbeam.training.config import load_recipe
from clearbeam.training.enhancement import warm_start
from clearbeam.training.module import follow, learning_rate
from clearbeam.training.prune import TopK, without_inner_feats
from multichannel.gtcrn import GTCRN, GTCRNConfig
from multichannel.weights import load_gtcrn, save_gtcrn

MULTI = GTCRNConfig(n_spectra=2, n_magnitudes=1, n_cues=2, compression=0.5, normalise=True)


def _spectra(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def test_more_inputs_begin_as_the_network_with_fewer():
    torch.manual_seed(0)
    mono = GTCRN(GTCRNConfig(normalise=True, compression=0.5)).eval()
    multi = GTCRN(MULTI).eval()
    warm_start(multi, mono)
    X, cues = _spectra(1, 3, 257, 8), torch.rand(1, 2, 257, 8)
    with torch.no_grad():
        torch.testing.assert_close(multi(X, cues)[0], mono(X[:, :1])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [GTCRNConfig(width=24), GTCRNConfig(inner=8), MULTI])
def test_weights_of_another_size_are_no_start(config):
    with pytest.raises(ValueError, match="init: expected a network of width 16"):
        warm_start(GTCRN(), GTCRN(config))


def test_feats_that_do_nothing_are_pruned_without_a_trace():
    torch.manual_seed(0)
    net = GTCRN(MULTI).eval()
    for name, module in net.named_modules():
        if name.endswith("point_conv2"):  # every third feat is not looked at
            axis = 0 if "decoder" in name else 1
            module.weight.data.index_fill_(axis, torch.arange(0, 16, 3), 0)
    small = without_inner_feats(net, amount=6 / 16).eval()
    assert small.config.inner == 10
    X, cues = _spectra(1, 3, 257, 8), torch.rand(1, 2, 257, 8)
    with torch.no_grad():
        torch.testing.assert_close(small(X, cues)[0], net(X, cues)[0], rtol=0, atol=1e-5)
    sizes = [sum(p.numel() for p in one.parameters() if p.requires_grad) for one in (small, net)]
    assert sizes[0] < 0.95 * sizes[1]


def test_top_k_keeps_the_largest_weights_and_what_is_zero_stays_zero():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    follower = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    top = TopK(net, 0.5, ramp=20)
    shares = []
    for step in range(30):
        top.apply(step, follower)
        weights = torch.cat([layer.weight.flatten() for layer in net])
        shares.append(float((weights == 0).float().mean()))
        with torch.no_grad():
            for layer in net:
                layer.weight.add_(0.01)  # an optimiser that moves everything
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 0.5
    kept = weights[weights != 0].abs()
    assert kept.min() > 0 and len(kept) == 64
    for ours, theirs in zip(net, follower, strict=True):
        pruned = ours.weight == 0.01  # moved after the last `apply`
        assert (theirs.weight[pruned] == 0).all()


@pytest.mark.parametrize("width", [8, 32])
def test_wider_and_narrower_networks_stream_and_are_saved(tmp_path, width):
    torch.manual_seed(0)
    net = GTCRN(GTCRNConfig(width=width, inner=width // 2)).eval()
    X = _spectra(1, 257, 12)
    with torch.no_grad():
        whole, _ = net(X)
        first, state = net(X[..., :5])
        rest, _ = net(X[..., 5:], state=state)
    torch.testing.assert_close(torch.cat([first, rest], -1), whole, rtol=0, atol=1e-5)
    save_gtcrn(net, tmp_path / "net.safetensors")
    assert load_gtcrn(tmp_path / "net.safetensors").config == net.config


def test_impossible_widths_are_refused():
    for config in ({"width": 6}, {"width": 0}, {"inner": 0}):
        with pytest.raises(ValueError, match="expected"):
            GTCRNConfig(**config)


def test_learning_rate_rises_then_falls():
    config = load_recipe("mask", ["steps=100", "optimiser={lr: 1.0, warmup: 10}"])
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates.index(max(rates)) in (9, 10) and max(rates) == 1.0
    assert rates[0] == 0.1 and rates[-1] < 0.02


def test_averaged_weights_follow():
    a, b = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    torch.nn.init.constant_(b.weight, 3.0)
    b.num_batches_tracked += 5
    follow(a, b, 0.75)
    torch.testing.assert_close(a.weight.detach(), torch.full((2,), 1.5))
    assert a.num_batches_tracked == 5


def test_the_rival_of_the_benchmark_is_the_same_network():
    torch.manual_seed(0)
    ours, rival = GTCRN(), PublishedGTCRN()
    rival.load_state_dict(ours.state_dict())
    X = _spectra(2, 257, 20)
    torch.testing.assert_close(rival(X), ours(X[:, None])[0] * X, rtol=0, atol=1e-5)
