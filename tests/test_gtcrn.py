"""GTCRN: equal to the published network, causal, one model for offline and streaming."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from multichannel.gtcrn import GTCRN, GTCRNConfig

MULTI = GTCRNConfig(n_spectra=2, n_magnitudes=1, n_cues=2, compression=0.5, normalise=True)
CONFIGS = [GTCRNConfig(), GTCRNConfig(compression=0.5, normalise=True), MULTI]


def _net(config: GTCRNConfig = MULTI) -> GTCRN:
    torch.manual_seed(1)
    net = GTCRN(config)
    for name, value in net.named_buffers():  # statistics that do something
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return net.eval()


def _inputs(config: GTCRNConfig, *leading: int, n_frames: int = 20, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    n_inputs = config.n_spectra + config.n_magnitudes
    X = torch.randn(*leading, n_inputs, 257, n_frames, generator=generator, dtype=torch.complex64)
    cues = torch.rand(*leading, config.n_cues, 257, n_frames, generator=generator)
    return X, cues if config.n_cues else None


@pytest.mark.parametrize("name", ["dns3", "vctk"])
def test_published_weights_give_the_published_output(shared, name):
    golden = load_file(shared / "golden" / "gtcrn_io.safetensors")
    net = GTCRN()
    net.load_state_dict(load_file(shared / "golden" / f"gtcrn_{name}.safetensors"), strict=True)
    X = torch.view_as_complex(golden["spectrum"].contiguous())
    with torch.no_grad():
        mask, _ = net.eval()(X.unsqueeze(0))
    error = (torch.view_as_real(mask * X) - golden[f"enhanced_{name}"]).abs().max()
    assert error <= 1e-5


def test_bands_are_those_of_the_published_weights(shared):
    published = load_file(shared / "golden" / "gtcrn_dns3.safetensors")
    torch.testing.assert_close(GTCRN().erb.erb_fc.weight.data, published["erb.erb_fc.weight"])
    torch.testing.assert_close(GTCRN().erb.ierb_fc.weight.data, published["erb.ierb_fc.weight"])


def test_size_is_the_published_one_and_240_parameters_a_further_map():
    def learned(config: GTCRNConfig) -> int:
        return sum(p.numel() for p in GTCRN(config).parameters() if p.requires_grad)

    assert learned(GTCRNConfig()) == 23_669
    assert learned(MULTI) == 23_669 + 240 * (MULTI.n_maps - 3)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_future_does_not_change_the_past(config):
    net = _net(config)
    X, cues = _inputs(config)
    other, other_cues = _inputs(config, seed=5)
    changed = torch.cat([X[..., :12], other[..., 12:]], -1)
    changed_cues = None if cues is None else torch.cat([cues[..., :12], other_cues[..., 12:]], -1)
    with torch.no_grad():
        a, b = net(X, cues)[0], net(changed, changed_cues)[0]
    torch.testing.assert_close(a[..., :12], b[..., :12], rtol=0, atol=1e-6)
    assert (a - b)[..., 12:].abs().max() > 1e-3


@settings(max_examples=15, deadline=None)
@given(chunks=st.lists(st.integers(0, 9), min_size=1, max_size=6), which=st.integers(0, 2))
def test_chunking_does_not_change_the_mask(chunks, which):
    config = CONFIGS[which]
    n_frames = sum(chunks) or 1
    chunks = chunks if sum(chunks) else [1]
    net = _net(config)
    X, cues = _inputs(config, 2, n_frames=n_frames)
    state, masks, at = None, [], 0
    with torch.no_grad():
        for n in chunks:
            part = slice(at, at + n)
            mask, state = net(X[..., part], None if cues is None else cues[..., part], state)
            masks.append(mask)
            at += n
        torch.testing.assert_close(torch.cat(masks, -1), net(X, cues)[0], rtol=0, atol=1e-5)


def test_leading_axes_are_free():
    net = _net()
    X, cues = _inputs(MULTI, 2, 3, n_frames=4)
    with torch.no_grad():
        whole = net(X, cues)[0]
        assert whole.shape == (2, 3, 257, 4)
        torch.testing.assert_close(net(X[1, 2], cues[1, 2])[0], whole[1, 2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_mask_does_not_depend_on_the_recording_level(scale):
    net = _net()
    X, cues = _inputs(MULTI)
    with torch.no_grad():
        torch.testing.assert_close(net(X * scale, cues)[0], net(X, cues)[0], rtol=0, atol=1e-4)


def test_silence_gives_a_finite_mask():
    net = _net()
    X, cues = _inputs(MULTI)
    with torch.no_grad():
        assert torch.isfinite(net(X * 0, cues * 0)[0].abs()).all()


def test_wrong_inputs_are_refused():
    net = _net()
    X, cues = _inputs(MULTI)
    with pytest.raises(ValueError, match="3, 257"):
        net(X[:2], cues)
    with pytest.raises(ValueError, match="cues"):
        net(X, None)
    with pytest.raises(ValueError, match="cues"):
        net(X, cues[:1])
