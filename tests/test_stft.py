"""The STFT core: perfect reconstruction, streaming, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multichannel import compiled
from multichannel.compiled import can_compile
from multichannel.griffin_lim import griffin_lim
from multichannel.stft import STFT, STFTConfig

CONFIGS = [
    STFTConfig(),
    STFTConfig(2048, 512),
    STFTConfig(512, 160, "hamming"),
    STFTConfig(400, 100, "hamming"),
    STFTConfig(512, 128, "hann"),
    STFTConfig(320, 160, "sqrt_hann"),
    STFTConfig(64, 64, "boxcar"),
    STFTConfig(512, 256, synthesis=320),
    STFTConfig(512, 160, synthesis=320),
]


def _noise(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=dtype)


def _relative_error(estimate: torch.Tensor, truth: torch.Tensor) -> float:
    return float((estimate - truth).norm() / truth.norm())


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("n_samples", [1, 2, 99, 511, 512, 4001])
def test_reconstruction_is_perfect_to_the_first_and_last_sample(config, n_samples):
    stft, x = STFT(config), _noise(2, 3, n_samples)
    y = stft.inverse(stft(x), n_samples)
    assert y.shape == x.shape and y.dtype == x.dtype
    assert _relative_error(y, x) <= 1e-6
    edge = min(n_samples, 16)
    assert _relative_error(y[..., :edge], x[..., :edge]) <= 1e-6
    assert _relative_error(y[..., -edge:], x[..., -edge:]) <= 1e-6


def test_double_precision_stays_double():
    stft, x = STFT(), _noise(5000, dtype=torch.float64)
    X = stft(x)
    assert X.dtype == torch.complex128
    assert _relative_error(stft.inverse(X, 5000), x) < 1e-14


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_frames_equal_a_literal_numpy_transform(config):
    x = _noise(3000, dtype=torch.float64)
    stft = STFT(config)
    padded = np.concatenate([np.zeros(config.n_fft - config.hop), x.numpy(), np.zeros(4096)])
    window = stft.analysis_window.numpy()
    literal = [
        np.fft.rfft(padded[t * config.hop : t * config.hop + config.n_fft] * window)
        for t in range(config.n_frames(3000))
    ]
    np.testing.assert_allclose(stft(x).numpy(), np.stack(literal, axis=1), atol=1e-12)


def test_half_overlapped_square_root_hann_needs_no_dual_window():
    stft = STFT()
    torch.testing.assert_close(stft.synthesis_window, stft.analysis_window)


@settings(max_examples=30, deadline=None)
@given(
    chunks=st.lists(st.integers(1, 700), min_size=1, max_size=8),
    which=st.integers(0, len(CONFIGS) - 1),
)
def test_any_chunking_gives_the_frames_and_samples_of_the_whole(chunks, which):
    stft, x = STFT(CONFIGS[which]), _noise(2, sum(chunks))
    state, istate, spectra, samples = None, None, [], []
    for chunk in x.split(chunks, dim=-1):
        X, state = stft.step(chunk, state)
        y, istate = stft.inverse_step(X, istate)
        spectra.append(X)
        samples.append(y)
    whole = stft(x)
    streamed = torch.cat(spectra, dim=-1)
    torch.testing.assert_close(streamed, whole[..., : streamed.shape[-1]])
    y = torch.cat(samples, dim=-1)[..., stft.delay :]
    torch.testing.assert_close(y, x[..., : y.shape[-1]], atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_signal_through_both_transforms():
    stft, x = STFT(STFTConfig(16, 8)), _noise(2, 37, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: stft.inverse(stft(x), 37), x)
    assert torch.autograd.gradcheck(lambda x: stft(x).abs().square(), x)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (STFTConfig(512, 512), "overlap-add"),
        (STFTConfig(512, 513), "hop"),
        (STFTConfig(512, 0), "hop"),
        (STFTConfig(511, 256), "even"),
        (STFTConfig(512, 256, "hanning"), "window"),
    ],
)
def test_sizes_that_do_not_overlap_add_are_refused_with_the_reason(config, reason):
    with pytest.raises(ValueError, match=reason):
        STFT(config)


def test_wrong_shapes_and_types_are_refused():
    stft = STFT()
    with pytest.raises(ValueError, match="samples >= 1"):
        stft(torch.zeros(6, 0))
    with pytest.raises(ValueError, match="real floating"):
        stft(torch.zeros(4, dtype=torch.int16))
    with pytest.raises(ValueError, match="257"):
        stft.inverse(torch.zeros(100, 4, dtype=torch.complex64))
    with pytest.raises(ValueError, match="at most 1024"):
        stft.inverse(torch.zeros(257, 4, dtype=torch.complex64), 1025)


def test_griffin_lim_finds_a_signal_with_the_wanted_magnitude():
    stft = STFT(STFTConfig(512, 128))
    t = torch.arange(8000) / 16000
    x = torch.sin(2 * torch.pi * (300 * t + 800 * t**2)) * (1 + 0.5 * torch.sin(40 * t))
    wanted = stft(x).abs()
    y = griffin_lim(wanted, stft, 8000, n_iterations=100)
    assert _relative_error(stft(y).abs(), wanted) < 0.1
    plain = griffin_lim(wanted, stft, 8000, n_iterations=100, momentum=0.0)
    assert _relative_error(stft(y).abs(), wanted) < _relative_error(stft(plain).abs(), wanted)


@pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler")
@pytest.mark.parametrize(
    "config",
    [
        STFTConfig(),
        STFTConfig(2048, 512),
        STFTConfig(512, 160, "hamming"),
        STFTConfig(synthesis=320),
    ],
    ids=str,
)
@pytest.mark.parametrize("n_samples", [1, 300, 5000])
def test_compiled_transforms_equal_pytorch(monkeypatch, config, n_samples):
    stft, x = STFT(config), _noise(2, 3, n_samples)
    tail, lead = x[..., 100:], x[..., :100]
    spectra, signals = [], []
    for works in (True, False):
        monkeypatch.setattr(compiled, "can_compile", lambda works=works: works)
        X = stft(x)
        spectra += [X, torch.cat([stft.step(tail, stft.step(lead)[1])[0], X], -1)]
        signals += [stft.inverse(X), stft.inverse_step(X, stft.inverse_step(X)[1])[0]]
    for fast, slow in zip(spectra[:2] + signals[:2], spectra[2:] + signals[2:], strict=True):
        assert fast.shape == slow.shape
        assert not fast.numel() or _relative_error(fast, slow) <= 1e-6


@pytest.mark.cuda
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_cuda_equals_cpu(config):
    stft, x = STFT(config), _noise(3, 4001)
    X = stft.to("cuda")(x.cuda())
    assert _relative_error(X.cpu(), STFT(config)(x)) <= 1e-5
    assert _relative_error(stft.inverse(X, 4001).cpu(), x) <= 1e-6
