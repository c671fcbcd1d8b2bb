"""Live separation: any chunks make the same streams, from the past alone; talkers keep theirs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from multichannel.stft import STFT
from multichannel.stream import MicWarning
from separation import SeparationConfig, SeparationNet, Separator, SeparatorConfig
from separation.live import LiveSeparator
from separation.network import Separation
from separation.running import BLOCK as BLOCK_FRAMES
from separation.running import LIVE_LONG
from separation.wiener import shares_of

N_MICS, N_SAMPLES = 3, 45_000
BLOCK = BLOCK_FRAMES * LIVE_LONG.hop


def network(causal: bool = True) -> SeparationNet:
    torch.manual_seed(0)
    small = SeparationConfig(width=8, outer=8, intra=4, inter=4, blocks=1, guided=True)
    return SeparationNet(replace(small, causal=causal)).eval()


def recording(n_mics: int = N_MICS, n_samples: int = N_SAMPLES, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(n_mics, n_samples, generator=g)


def separated(stream: LiveSeparator, chunks) -> torch.Tensor:
    return torch.cat([*(stream.step(chunk) for chunk in chunks), stream.flush()], -1)


@pytest.mark.parametrize("beam", ["wiener", "mvdr", "lcmv"])
@pytest.mark.parametrize("seed", range(4))
def test_chunking_does_not_change_the_streams(beam, seed):
    rng = np.random.default_rng(seed)
    separator = Separator(network(), config=SeparatorConfig(beam=beam))
    x = recording(1 + seed, int(rng.integers(1, N_SAMPLES)))
    whole = separated(separator.stream(len(x)), [x])
    assert whole.shape == (3, x.shape[-1])
    cuts = np.sort(rng.integers(0, x.shape[-1] + 1, 10 ** int(rng.integers(0, 3))))
    chunks = torch.tensor_split(x, cuts.tolist(), dim=-1)
    found = separated(separator.stream(len(x)), chunks)
    assert (found - whole).abs().max() < 1e-4 * whole.abs().max()


def test_a_stream_depends_on_the_past_alone_and_lags_by_its_latency():
    separator, x = Separator(network()), recording()
    stream = separator.stream(N_MICS)
    n_heard = 2 * BLOCK + 100
    first = stream.step(x[:, :n_heard])
    assert n_heard - first.shape[-1] <= stream.latency_samples
    other = torch.cat([x[:, :n_heard], 5 * recording(seed=1)], -1)
    found = separated(separator.stream(N_MICS), [other])
    assert torch.equal(found[:, : first.shape[-1]], first)


def test_after_a_reset_nothing_is_remembered():
    stream, x = Separator(network()).stream(N_MICS), recording()
    first = separated(stream, [x])
    stream.reset()
    assert torch.equal(separated(stream, [x]), first)


class Knowing(SeparationNet):
    """A causal network whose masks are the truth, somewhat blurred, of talkers in turns."""

    def __init__(self, images: torch.Tensor) -> None:
        small = SeparationConfig(width=2, outer=2, intra=1, inter=1, causal=True, guided=True)
        super().__init__(small)
        S = STFT()(torch.cat([images[:, 0], torch.zeros(1, images.shape[-1])]))
        self.truth = torch.cat([S, torch.zeros_like(S[:1])])  # a mask of nobody, and the noise's

    def forward(self, X, state=None, reference_mic=0, shares=None, embed=True):
        at = state or 0
        masks = 0.9 * shares_of(self.truth[..., at : at + X.shape[-1]]) + 0.025
        missing = X.shape[-1] - masks.shape[-1]
        masks = torch.nn.functional.pad(masks, (0, missing), value=0.25)
        return Separation(masks, torch.zeros(0)), at + X.shape[-1]


def sparse(s: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Talkers ``(talkers, samples)`` who are seldom in the same bin, as voices are."""
    S = STFT()(s)
    patches = torch.rand(len(s), 33, -(-S.shape[-1] // 4), generator=g) < 0.3
    gate = patches.repeat_interleave(8, 1).repeat_interleave(4, 2)
    return STFT().inverse(S * gate[:, : S.shape[1], : S.shape[2]], s.shape[-1])


def test_talkers_are_told_apart_and_keep_their_streams_through_silence():
    g = torch.Generator().manual_seed(3)
    talks = torch.arange(80_000) // 8_000  # half a second each: 0 1 both nobody 1 ...
    on = torch.stack([sum(talks == k for k in (0, 2, 6, 7)), sum(talks == k for k in (1, 2, 4, 7))])
    s = sparse(0.2 * torch.randn(2, 80_000, generator=g) * on, g)
    h = torch.randn(2, 4, 1, generator=g)
    images = s[:, None] * h
    x = images.sum(0) + 1e-4 * torch.randn(4, 80_000, generator=g)
    streams = separated(Separator(Knowing(images)).stream(4), [x])
    late = slice(56_000, 64_000)  # both talk
    for k in (0, 1):
        left = (streams[k] - images[k, 0])[late].square().mean()
        assert left < 0.25 * images[k, 0, late].square().mean()
        alone = slice(48_000, 56_000) if k == 0 else slice(32_000, 40_000)
        assert streams[1 - k, alone].square().mean() < 0.05 * images[k, 0, alone].square().mean()


def test_broken_samples_are_silence_and_told_once():
    separator, x = Separator(network()), recording()
    x[1, 5_000:5_010] = math.nan
    stream = separator.stream(N_MICS)
    with pytest.warns(MicWarning, match="mic 1 holds NaN") as caught:
        found = separated(stream, x.split(1_000, -1))
    assert len(caught) == 1 and torch.isfinite(found).all()
    assert torch.equal(found, separated(separator.stream(N_MICS), [x.nan_to_num(0)]))
    assert not separated(separator.stream(N_MICS), [0 * x.nan_to_num(0)]).any()


@pytest.mark.parametrize(
    ("causal", "n_mics", "options", "message"),
    [
        (False, 2, {}, "expected a causal, guided network for a live stream"),
        (True, 17, {}, "expected 1 to 16 mics, found 17"),
        (True, 2, {"reference_mic": 2}, "expected reference_mic from 0 to 1, found 2"),
    ],
)
def test_what_cannot_be_is_told(causal, n_mics, options, message):
    with pytest.raises(ValueError, match=message):
        Separator(network(causal)).stream(n_mics, **options)


def test_another_number_of_mics_is_refused():
    with pytest.raises(ValueError, match=r"expected x of shape \(3, samples\)"):
        Separator(network()).stream(N_MICS).step(torch.zeros(2, 10))
    with pytest.raises(ValueError, match="expected a beam of wiener, mvdr, lcmv, found 'other'"):
        SeparatorConfig(beam="other")
    with pytest.raises(ValueError, match="expected n_beams of at least 1, found 0"):
        SeparatorConfig(n_beams=0)
