"""An array with a mic that fails in mid-recording, against the same array without that mic.

A rendered mixture of six mics; the measure is the SI-SDR towards the talker's early image, from a
second after the fault on, and offline that of the whole recording. `LOSS_DB` is what a fault may
cost beside never having had the mic; live, one that comes back has to be learned again.
"""

from __future__ import annotations

import warnings
from functools import cache

import pytest
import torch

from multichannel import Enhancer, MicWarning
from multichannel.compiled import can_compile
from simulate import SceneConfig, render, sample_scene

pytestmark = pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler: takes minutes")
RATE = 16_000
FROM, TO, END = round(2.5 * RATE), 4 * RATE, 8 * RATE
BAD, OTHER = 3, 4  # the mask network listens to the bad one
WITHOUT = [mic for mic in range(6) if mic != BAD]
LOSS_DB = {"live": 1.5, "offline": 1.0}


@cache
def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """The mixture ``(mics, samples)`` and the talker at mic 0 ``(samples,)``."""
    config = SceneConfig.load("quickstart").model_dump() | {"duration_s": 8.0}
    mixture = render(sample_scene(SceneConfig.model_validate(config), seed=0, index=0))
    return torch.from_numpy(mixture.mixture).float(), torch.from_numpy(mixture.early[0, 0])


def with_part(change, start: int = FROM, end: int = END) -> torch.Tensor:
    """The mixture with ``change`` made of the bad mic from ``start`` to ``end``."""
    x = scene()[0].clone()
    x[BAD, start:end] = change(x[BAD, start:end])
    return x


def clipped(v: torch.Tensor) -> torch.Tensor:
    return (1000 * v).clamp(-1, 1)


FAULTS = {
    "dies": lambda: with_part(lambda v: 0 * v),
    "dies and comes back": lambda: with_part(lambda v: 0 * v, FROM, TO),
    "is stuck": lambda: with_part(lambda v: 0 * v + 0.9),
    "is broken": lambda: with_part(lambda v: v * torch.nan),
    "is broken for a moment": lambda: with_part(lambda v: v / 0, FROM, FROM + 800),
    "clips": lambda: with_part(clipped),
    "clips and comes back": lambda: with_part(clipped, FROM, TO),
    "is turned up": lambda: with_part(lambda v: 100 * v),
    "is turned down": lambda: with_part(lambda v: 0.01 * v),
}


def si_sdr_db(estimate: torch.Tensor, start: int = 0) -> float:
    s_hat, s = estimate[start:].double(), scene()[1][start:]
    image = (s_hat @ s) / (s @ s) * s
    return float(10 * torch.log10(image.square().sum() / (s_hat - image).square().sum()))


@cache
def enhancer() -> Enhancer:
    return Enhancer.from_pretrained("default", device="cpu")


def live(x: torch.Tensor) -> torch.Tensor:
    stream = enhancer().stream(len(x), reference_mic=0)
    return torch.cat([*map(stream.step, x.split(RATE // 10, -1)), stream.flush()])


def offline(x: torch.Tensor) -> torch.Tensor:
    return enhancer()(x, reference_mic=0)


WAYS = {"live": live, "offline": offline}


@cache
def without(way: str) -> torch.Tensor:
    return WAYS[way](scene()[0][WITHOUT])


def made(way: str, x: torch.Tensor) -> tuple[torch.Tensor, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MicWarning)
        y = WAYS[way](x)
    assert torch.isfinite(y).all() and y.shape == x.shape[-1:]
    assert y.abs().max() < 1.5 * scene()[0].abs().max()
    return y, [str(w.message)[:6] for w in caught]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_mic_that_fails_costs_little_more_than_not_to_have_it(way, fault):
    y, told = made(way, FAULTS[fault]())
    assert told == [f"mic {BAD} "]
    for since in (FROM + RATE, 0) if way == "offline" else (FROM + RATE,):
        assert si_sdr_db(y, since) > si_sdr_db(without(way), since) - LOSS_DB[way]


def swapped() -> torch.Tensor:
    x = scene()[0].clone()
    x[[BAD, OTHER], FROM:] = x[[OTHER, BAD], FROM:]
    return x


CHANGES = {
    "loses two samples": (lambda: with_part(lambda v: v.roll(-2)), {BAD}),
    "is swapped with another": (swapped, {BAD, OTHER}),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", WAYS)
def test_a_mic_that_is_not_what_it_was_costs_little_more_than_not_to_have_it(way, change):
    """Offline it is found and left out; live what was known of it is soon forgotten."""
    x, bad = CHANGES[change]
    y, told = made(way, x())
    assert set(told) == ({f"mic {mic} " for mic in bad} if way == "offline" else set())
    assert si_sdr_db(y, FROM + RATE) > si_sdr_db(without(way), FROM + RATE) - LOSS_DB[way]
    if way == "offline":
        assert si_sdr_db(y) > si_sdr_db(without(way)) - LOSS_DB[way]


@pytest.mark.parametrize("way", WAYS)
def test_all_mics_turned_down_by_40_db_cost_little_after_a_second_and_a_half(way):
    x, start = scene()[0].clone(), FROM + 3 * RATE // 2
    whole = WAYS[way](x)
    x[:, FROM:] *= 0.01
    y, told = made(way, x)
    assert not told
    assert y[start:].abs().max() < 0.015 * scene()[0].abs().max()
    assert si_sdr_db(y, start) > si_sdr_db(whole, start) - 2
