"""Mics that fail while talkers are separated live: finite streams, no louder than the mics."""

from __future__ import annotations

import warnings

import pytest
import torch

from multichannel import MicWarning
from separation import SeparationConfig, SeparationNet, Separator

FROM = 16_000


def separator() -> Separator:
    torch.manual_seed(0)
    size = SeparationConfig(width=8, outer=8, intra=4, inter=4, blocks=1, causal=True, guided=True)
    return Separator(SeparationNet(size).eval())


def spoilt(fault: str) -> torch.Tensor:
    x = 0.1 * torch.randn(3, 3 * FROM, generator=torch.Generator().manual_seed(0))
    part = x[1, FROM:].clone()
    x[1, FROM:] = {
        "dead": 0 * part,
        "NaN": part * torch.nan,
        "clips": (100 * part).clamp(-1, 1),
        "louder": 100 * part,
        "quieter": 0.01 * part,
        "two samples lost": part.roll(-2),
    }[fault]
    return x


@pytest.mark.parametrize("fault", ["dead", "NaN", "clips", "louder", "quieter", "two samples lost"])
@pytest.mark.parametrize("reference_mic", [0, 1])
def test_streams_stay_finite_and_no_louder_than_the_reference_mic(fault, reference_mic):
    x = spoilt(fault)
    stream = separator().stream(3, reference_mic=reference_mic)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MicWarning)
        streams = torch.cat([*map(stream.step, x.split(4000, -1)), stream.flush()], -1)
    assert streams.shape[-1] == x.shape[-1] and torch.isfinite(streams).all()
    assert streams.abs().max() < 1.5 * x.nan_to_num(0).abs().max(-1).values[reference_mic]
