"""Mics that fail while talkers are separated live: finite streams, no louder than the mics."""

from __future__ import annotations

import warnings

import pytest
import torch

from multichannel import MicWarning
from separation import SeparationConfig, SeparationNet, Separator
from separation.running import heard_mics
from simulate import SceneConfig, render, sample_scene

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


def talkers(array: str) -> torch.Tensor:
    """A built-in mixture of two talkers, three seconds."""
    config = SceneConfig.load("eval_separate_2talkers").model_dump(mode="json")
    config |= {"speech": "builtin", "noise": "builtin", "duration_s": 3.0}
    config["array"]["names"] = [array]
    mixture = render(sample_scene(SceneConfig.model_validate(config), seed=3, index=0))
    return torch.from_numpy(mixture.mixture).float()


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


@pytest.mark.parametrize("way", ["offline", "live"])
def test_all_mics_turned_down_leave_streams_as_before_but_quieter(way):
    """From a second and a half after it on."""
    clip = talkers("circular_6mic").repeat(1, 2)
    quiet, half, start = clip.clone(), clip.shape[-1] // 2, clip.shape[-1] // 2 + 3 * FROM // 2
    quiet[:, half:] *= 0.01
    name = "separate" if way == "offline" else "separate-causal"
    separate = Separator.from_pretrained(name, device="cpu")
    if way == "offline":
        streams = [separate(x, 2) for x in (clip, quiet)]
    else:
        lives = [separate.stream(len(clip)) for _ in range(2)]
        pairs = zip(lives, (clip, quiet), strict=True)
        streams = [torch.cat([one.step(x), one.flush()], -1) for one, x in pairs]
    expected, found = (one[:, start:] for one in streams)
    assert (100 * found - expected).square().sum() < 0.1 * expected.square().sum()


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
