"""Training through its real command lines: data set, cache, steps, weights that load again."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from multichannel import GTCRNConfig
from multichannel.cache import CachedClips
from multichannel.data import Clips, read_clip, records_of, shuffled_batches
from multichannel.gtcrn import GTCRN
from multichannel.losses import compressed_spectral, negative_si_snr
from multichannel.stft import STFT
from multichannel.train import follow, learning_rate, warm_start
from multichannel.weights import load_gtcrn, save_gtcrn
from simulate import SceneConfig, write_dataset

MULTI = GTCRNConfig(n_spectra=2, n_magnitudes=1, n_cues=2, compression=0.5, normalise=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six one-second mixtures of random arrays."""
    folder = tmp_path_factory.mktemp("mixtures")
    config = SceneConfig.load("train_enhance").model_copy(update={"duration_s": 1.0, "split": None})
    write_dataset(config, folder, count=6, seed=1)
    return folder


def _run(*words: object) -> str:
    command = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_networks_train_through_the_command_line(dataset, tmp_path):
    common = ("--steps", 2, "--every", 1, "--batch", 2, "--seconds", 1)
    mono = tmp_path / "mono"
    network = '{"normalise": true, "compression": 0.5}'
    out = _run(
        "multichannel.train", "--data", dataset, "--valid", dataset, "--out", mono,
        "--processes", 2, "--network", network, *common,
    )  # fmt: skip
    lines = [json.loads(line) for line in out.splitlines() if '"step"' in line]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(np.isfinite(line["valid_loss"]) for line in lines)
    weights = mono / "last.safetensors"
    assert load_gtcrn(weights).config == GTCRNConfig(normalise=True, compression=0.5)

    cache = tmp_path / "cache"
    _run("multichannel.cache", "--data", dataset, "--mono", weights, "--out", cache)
    multi = tmp_path / "multi"
    network = json.dumps(MULTI.__dict__)
    _run(
        "multichannel.train", "--data", cache, "--valid", cache, "--out", multi,
        "--processes", 1, "--network", network, "--init", weights, *common,
    )  # fmt: skip
    assert load_gtcrn(multi / "last.safetensors").config == MULTI


def test_a_cache_holds_what_the_front_end_gives(dataset, tmp_path):
    save_gtcrn(GTCRN(), tmp_path / "mono.safetensors")
    cache = tmp_path / "cache"
    _run(
        "multichannel.cache", "--data", dataset, "--mono", tmp_path / "mono.safetensors",
        "--out", cache, "--processes", 1,
    )  # fmt: skip
    batch = CachedClips(cache).batch(np.array([4]))
    mixture, early = read_clip(records_of(dataset)[4])
    scale = 0.1 / np.sqrt(np.mean(mixture[0] ** 2))
    reference = STFT()(torch.from_numpy(mixture[0] * scale))
    X = batch["spectra"][0]
    assert (X[1] - reference).norm() < 2e-3 * reference.norm()
    torch.testing.assert_close(X[2], X[1] - X[0])
    assert 0 <= batch["cues"].min() and batch["cues"].max() <= 1
    assert np.abs(batch["early"][0].numpy() - early * scale).max() < 1e-3


def test_a_small_network_fits_one_clip(dataset):
    torch.manual_seed(0)
    clips = Clips.of_first_mic(dataset, 16000)
    batch = clips.batch(np.array([0, 1]))
    net, stft = GTCRN(GTCRNConfig(normalise=True, compression=0.5)), STFT()
    optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(15):
        X = stft(batch["mixture"].unsqueeze(1))
        estimate = stft.inverse(net(X)[0] * X[:, 0], 16000)
        loss = compressed_spectral(estimate, batch["early"], stft)
        loss = loss + negative_si_snr(estimate, batch["early"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


def test_more_inputs_begin_as_the_network_with_fewer(tmp_path):
    torch.manual_seed(0)
    mono = GTCRN(GTCRNConfig(normalise=True, compression=0.5)).eval()
    save_gtcrn(mono, tmp_path / "mono.safetensors")
    multi = GTCRN(MULTI).eval()
    warm_start(multi, tmp_path / "mono.safetensors")
    X, cues = torch.randn(1, 3, 257, 8, dtype=torch.complex64), torch.rand(1, 2, 257, 8)
    with torch.no_grad():
        torch.testing.assert_close(multi(X, cues)[0], mono(X[:, :1])[0], rtol=0, atol=1e-5)


def test_every_clip_is_seen_once_an_epoch_by_one_process():
    parts = [shuffled_batches(24, 3, seed=7, rank=rank, world=2) for rank in range(2)]
    assert sorted(np.concatenate(parts, axis=None)) == list(range(24))
    again = shuffled_batches(24, 3, seed=7, rank=1, world=2)
    assert np.array_equal(again, parts[1])


def test_losses_are_least_at_the_reference():
    x = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    stft = STFT()
    assert compressed_spectral(x, x, stft) == 0
    assert negative_si_snr(2 * x, x) < -5 < negative_si_snr(x + x.roll(7, -1), x)
    silence = torch.zeros(2, 4000, requires_grad=True)
    loss = compressed_spectral(silence, x, stft) + negative_si_snr(silence, x)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(silence.grad).all()


def test_learning_rate_rises_then_falls():
    rates = [learning_rate(step, 100, 1.0, 10) for step in range(100)]
    assert rates.index(max(rates)) in (9, 10) and max(rates) == 1.0
    assert rates[0] == 0.1 and rates[-1] < 0.02


def test_averaged_weights_follow():
    a, b = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    torch.nn.init.constant_(b.weight, 3.0)
    b.num_batches_tracked += 5
    follow(a, b, 0.75)
    torch.testing.assert_close(a.weight.detach(), torch.full((2,), 1.5))
    assert a.num_batches_tracked == 5
