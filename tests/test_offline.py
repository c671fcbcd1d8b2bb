"""Compiled networks over many frames equal PyTorch's."""

from __future__ import annotations

import pytest
import torch

from multichannel import Enhancer, offline
from multichannel.compiled import can_compile
from multichannel.offline import CompiledNet, ready_net
from multichannel.weights import load_gtcrn

compiled = pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler")


def _inputs(*leading: int, n_frames: int, net) -> tuple[torch.Tensor, torch.Tensor | None]:
    config = net.config
    generator = torch.Generator().manual_seed(len(leading))
    n_inputs = config.n_spectra + config.n_magnitudes
    X = torch.randn(*leading, n_inputs, n_frames, 257, dtype=torch.complex64, generator=generator)
    cues = torch.rand(*leading, config.n_cues, 257, n_frames, generator=generator)
    return X.mT, cues if config.n_cues else None


@compiled
@pytest.mark.parametrize("name", ["mono", "default", "refine"])
@pytest.mark.parametrize("leading", [(), (2,), (2, 1)], ids=str)
@torch.no_grad()
def test_many_frames_equal_pytorch_piece_by_piece(name, leading):
    net = load_gtcrn(name)
    X, cues = _inputs(*leading, n_frames=40, net=net)
    whole, _ = net(X, cues)
    fast, state, masks = CompiledNet(net), None, []
    for piece in (slice(0, 7), slice(7, 7), slice(7, 40)):
        mask, state = fast(X[..., piece], None if cues is None else cues[..., piece], state)
        masks.append(mask)
    torch.testing.assert_close(torch.cat(masks, -1), whole, rtol=0, atol=1e-5)


@compiled
def test_two_recordings_do_not_hear_each_other():
    net = load_gtcrn("mono")
    X, _ = _inputs(2, n_frames=20, net=net)
    fast = CompiledNet(net)
    torch.testing.assert_close(fast(X)[0][1], fast(X[1])[0], rtol=0, atol=0)


def test_what_cannot_be_compiled_stays_pytorch(monkeypatch):
    net = load_gtcrn("mono")
    assert ready_net(net, "torch") is net
    assert ready_net(net.train()) is net and ready_net(net.eval().double()) is net
    with pytest.raises(ValueError, match="evaluation mode"):
        ready_net(net.train(), "native")
    with pytest.raises(ValueError, match="a backend of"):
        ready_net(net, "fast")
    monkeypatch.setattr(offline, "can_compile", lambda: False)
    net = load_gtcrn("mono")
    assert ready_net(net) is net


@compiled
@pytest.mark.parametrize("streaming", [False, True])
def test_both_backends_enhance_alike(streaming):
    enhancer = Enhancer.from_pretrained("default", device="cpu")
    x = 0.1 * torch.randn(3, 30_001, generator=torch.Generator().manual_seed(2))
    native = enhancer(x, streaming=streaming, backend="native")
    eager = enhancer(x, streaming=streaming, backend="torch")
    torch.testing.assert_close(native, eager, rtol=0, atol=1e-5)


def test_weights_that_changed_are_seen():
    enhancer = Enhancer(load_gtcrn("mono")).eval()
    x = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(2))
    before = enhancer(x)
    enhancer.mono.decoder.de_convs[-1].conv.weight.data.zero_()
    assert not torch.allclose(enhancer(x), before)
