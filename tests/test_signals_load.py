"""Hours of streaming in small: memory, lag and what a long silence leaves behind."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from cli import voice

from multichannel import Enhancer
from multichannel.compiled import can_compile

pytestmark = pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler: takes minutes")
RATE, HOP = 16_000, 256


@pytest.fixture(scope="module")
def enhancer() -> Enhancer:
    return Enhancer.from_pretrained("default", device="cpu")


def sound(seconds: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    n = seconds * RATE
    bursts = torch.randn(n, generator=g) * (torch.arange(n) // 4000 % 3 > 0)
    return 0.05 * bursts + 0.005 * torch.randn(2, n, generator=g)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_minutes_of_a_stream_take_no_more_memory_and_lag_no_more(enhancer):
    stream, x = enhancer.stream(2), sound(10)
    before = 0
    for i in range(12):
        for chunk in x.split(4000, -1):
            stream.step(chunk)
            assert stream.n_in - stream.n_out < stream.latency_samples
        before = resident_bytes() if i == 2 else before
    assert resident_bytes() < 1.01 * before
    rest = stream.flush()
    assert stream.n_out + rest.shape[-1] == stream.n_in


@pytest.mark.parametrize("nothing", [0.0, 1e-30])
def test_after_a_long_silence_a_stream_is_as_good_as_before(enhancer, nothing):
    """Long enough for all that is remembered to fade: 30 s are eight times the slowest memory."""
    x = torch.from_numpy(voice(2, seconds=3)).float().T[:, : 187 * HOP]  # whole hops
    silence = nothing * torch.randn(2, 30 * RATE, generator=torch.Generator().manual_seed(0))
    stream = enhancer.stream(2)
    before = stream.step(x)[-2 * RATE :]
    quiet = stream.step(silence)
    after = stream.step(x)[-2 * RATE :]
    assert torch.isfinite(quiet).all() and quiet[2 * RATE :].abs().max() < 1e-3
    assert 0.5 < after.norm() / before.norm() < 2
    assert torch.nn.functional.cosine_similarity(before, after, 0) > 0.9
