"""The compiled frame step of a GTCRN equals PyTorch's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from multichannel import compiled
from multichannel.compiled import CompiledGTCRN, can_compile
from multichannel.gtcrn import GTCRN, GTCRNConfig
from multichannel.weights import load_gtcrn

pytestmark = pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler")
REFINE = GTCRNConfig(3, 1, 2, compression=0.5, normalise=True)


def _random_net(config: GTCRNConfig) -> GTCRN:
    """With statistics, slopes and norms that do something."""
    torch.manual_seed(0)
    net = GTCRN(config)
    for name, value in [*net.named_buffers(), *net.named_parameters()]:
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.ndim and ("bn" in name or "ln" in name):
            value.data.add_(0.3 * torch.randn_like(value))
    return net.eval()


def _assert_equal(net: GTCRN, scale: float = 1.0, n_frames: int = 30) -> None:
    config = net.config
    generator = torch.Generator().manual_seed(1)
    n_inputs = config.n_spectra + config.n_magnitudes
    X = scale * torch.randn(n_inputs, 257, n_frames, dtype=torch.complex64, generator=generator)
    cues = torch.rand(config.n_cues, 257, n_frames, generator=generator) if config.n_cues else None
    with torch.no_grad():
        expected = net(X, cues)[0]
    step = CompiledGTCRN(net).step
    frames = [step(X[..., t], None if cues is None else cues[..., t]) for t in range(n_frames)]
    torch.testing.assert_close(torch.stack(frames, -1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["mono", "default"])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3])
def test_shipped_networks_give_the_same_mask(name, scale):
    _assert_equal(load_gtcrn(name), scale)


@pytest.mark.parametrize(
    "config",
    [
        REFINE,
        GTCRNConfig(),
        GTCRNConfig(compression=0.3, normalise=True),
        GTCRNConfig(width=8),
        GTCRNConfig(width=24, inner=20),
        GTCRNConfig(inner=5),
    ],
    ids=str,
)
def test_any_network_gives_the_same_mask(config):
    _assert_equal(_random_net(config))


def test_wrong_inputs_are_refused():
    net = CompiledGTCRN(load_gtcrn("default"))
    with pytest.raises(ValueError, match="2 cues"):
        net.step(torch.zeros(3, 257, dtype=torch.complex64))
    with pytest.raises(ValueError, match="3, 257"):
        net.step(torch.zeros(2, 257, dtype=torch.complex64), torch.zeros(2, 257))


def test_without_a_compiler_the_reason_is_told(monkeypatch):
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="C\\+\\+ compiler"):
        compiled.library.__wrapped__()


def test_a_compiler_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError, match=r"to build live\.cpp"):
        compiled._build("false", Path("live.cpp"), tmp_path / "live.so")
    assert list(tmp_path.iterdir()) == []
