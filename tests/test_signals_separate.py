"""Mics that fail while talkers are separated live: finite streams, no louder than the mics."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch

from clearbeam.metrics import si_sdr
from multichannel import MicWarning
from separation import SeparationConfig, SeparationNet, Separator
from separation.running import heard_mics
from simulate import Mixture, SceneConfig, render, sample_scene

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


def mixture(array: str, seed: int = 3, seconds: float = 3.0) -> Mixture:
    """Two built-in talkers."""
    config = SceneConfig.load("eval_separate_2talkers").model_dump(mode="json")
    config |= {"speech": "builtin", "noise": "builtin", "duration_s": seconds}
    config["array"]["names"] = [array]
    return render(sample_scene(SceneConfig.model_validate(config), seed=seed, index=0))


def talkers(array: str) -> torch.Tensor:
    return torch.from_numpy(mixture(array).mixture).float()


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    return talkers("linear_4mic")


BAD, UNCLASSED = 2, 4


@pytest.mark.parametrize("fault", ["dies", "is broken", "clips", "is turned up", "a burst"])
def test_a_mic_that_fails_in_a_clip_is_left_out_of_all_of_it(clip, fault):
    """What comes out is what the other mics give, and the mic is told of once."""
    x, n = clip.clone(), clip.shape[-1] // 3
    part = x[BAD, n : 2 * n].clone()
    x[BAD, n : 2 * n] = {
        "dies": 0 * part,
        "is broken": part * torch.nan,
        "clips": (1000 * part).clamp(-1, 1),
        "is turned up": 100 * part,
        "a burst": part + 1e20 * (torch.arange(n) % 3 == 0),
    }[fault]
    without = clip.clone()
    without[BAD] = 0
    separate = Separator()
    with pytest.warns(MicWarning, match=f"mic {BAD} ") as told:
        y = separate(x, 2)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MicWarning)
        torch.testing.assert_close(y, separate(without, 2), rtol=0, atol=1e-4)


@pytest.mark.parametrize("change", ["loses samples", "is swapped"])
def test_a_mic_that_changes_in_a_clip_is_left_out_of_all_of_it(clip, change):
    x, half = torch.cat([clip, clip], -1), clip.shape[-1]
    without = x.clone()
    if change == "loses samples":
        x[BAD, half:-2], bad = x[BAD, half + 2 :].clone(), [BAD]
    else:
        bad = [BAD, BAD - 1]
        x[bad, half:] = x[bad[::-1], half:]
    without[bad] = 0
    separate = Separator()
    with pytest.warns(MicWarning, match=f"mic {BAD} has lost samples or changed places"):
        y = separate(x, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MicWarning)
        torch.testing.assert_close(y, separate(without, 2), rtol=0, atol=1e-4)


def test_all_mics_turned_down_leave_streams_as_before_but_quieter():
    """From a second and a half after it on."""
    clip = talkers("circular_6mic").repeat(1, 2)
    quiet, half, start = clip.clone(), clip.shape[-1] // 2, clip.shape[-1] // 2 + 3 * FROM // 2
    quiet[:, half:] *= 0.01
    separate = Separator.from_pretrained("separate", device="cpu")
    expected, found = (separate(x, 2)[:, start:] for x in (clip, quiet))
    assert (100 * found - expected).square().sum() < 0.1 * expected.square().sum()


def test_live_all_mics_turned_down_cost_little():
    """Two mixtures, as one alone may come out better or worse for any small change."""
    separate = Separator.from_pretrained("separate-causal", device="cpu")
    scores = {"as it was": 0.0, "turned down": 0.0}
    for seed in (0, 1):
        one = mixture("circular_6mic", seed, 4.0)
        x = torch.from_numpy(one.mixture).float().repeat(1, 2)
        images = torch.from_numpy(one.image[:, 0]).float().repeat(1, 2)
        half, start = x.shape[-1] // 2, x.shape[-1] // 2 + 3 * FROM // 2
        quiet = torch.cat([x[:, :half], 0.01 * x[:, half:]], -1)
        for name, heard in zip(scores, (x, quiet), strict=True):
            stream = separate.stream(len(x))
            y = torch.cat([stream.step(heard), stream.flush()], -1)
            scores[name] += best_si_sdr(y[:, start:], images[:, start:]) / 2
    assert scores["turned down"] > scores["as it was"] - 2


def best_si_sdr(streams: torch.Tensor, images: torch.Tensor) -> float:
    """Mean over the talkers, each with the stream that suits best."""
    pairs = [[float(si_sdr(y, s)) for y in streams] for s in images]
    orders = itertools.permutations(range(len(streams)), len(images))
    return max(sum(row[k] for row, k in zip(pairs, o, strict=True)) for o in orders) / len(images)


def test_where_all_mics_fail_the_best_of_them_are_kept(clip):
    x, n = clip.clone(), clip.shape[-1] // 4
    for mic in range(4):
        x[mic, mic * n // 2 : (mic + 1) * n] = torch.nan
    with pytest.warns(MicWarning):
        y = Separator()(x, 2)
    assert torch.isfinite(y).all() and y.abs().max() > 0.01


@pytest.mark.parametrize("fault", ["dead", "NaN", "clips"])
def test_live_a_mic_that_fails_is_as_if_it_had_never_been(fault):
    """A second after it failed, and until it comes back: one that the classes are not found by, as
    they could come out otherwise."""
    clip, start, end = talkers("circular_6mic"), 3 * FROM, 7 * FROM
    assert UNCLASSED not in heard_mics(len(clip), 0)
    x = torch.cat([clip, clip, clip], -1)
    without, part = x.clone(), x[UNCLASSED, start:end].clone()
    without[UNCLASSED] = 0
    faults = {"dead": 0 * part, "NaN": part * torch.nan, "clips": (1000 * part).clamp(-1, 1)}
    x[UNCLASSED, start:end] = faults[fault]
    separate = Separator.from_pretrained("separate-causal", device="cpu")
    streams = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MicWarning)
        for heard in (x, without):
            stream = separate.stream(len(x))
            y = torch.cat([stream.step(heard), stream.flush()], -1)
            streams.append(y[:, start + FROM : end])
    wrong = (streams[0] - streams[1]).square().sum()
    assert wrong < 0.03 * streams[1].square().sum()


@pytest.mark.parametrize("bad", [2, UNCLASSED])
def test_live_a_mic_that_loses_samples_is_reported_and_soon_no_loss(bad):
    """Not found, it costs a third of the streams in those seconds."""
    x = talkers("circular_6mic").repeat(1, 3)
    at, start, end = 3 * FROM, 3 * FROM + 3 * FROM // 2, 3 * FROM + 3 * FROM
    spoilt = x.clone()
    spoilt[bad, at:-2] = x[bad, at + 2 :]
    separate = Separator.from_pretrained("separate-causal", device="cpu")
    first, second = separate.stream(len(x)), separate.stream(len(x))
    expected = torch.cat([first.step(x), first.flush()], -1)[:, start:end]
    with pytest.warns(MicWarning, match=f"mic {bad} has lost samples or changed places") as told:
        y = torch.cat([second.step(spoilt), second.flush()], -1)[:, start:end]
    assert len(told) == 1
    assert (y - expected).square().sum() < 0.05 * expected.square().sum()
