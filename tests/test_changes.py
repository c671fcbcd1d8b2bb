"""Mics whose phases against the others change: found, told of once, and nothing else is."""

from __future__ import annotations

import warnings

import pytest
import torch

from multichannel.changes import ChangeFinder
from multichannel.mics import MicWarning
from multichannel.stft import STFT, STFTConfig

RATE, N = 16_000, 10 * 16_000
WINDOW = STFT(STFTConfig(2048, 512))


def room(seed: int, n_mics: int = 5, n: int = N) -> torch.Tensor:
    """A talker with pauses and a noise in a room whose echoes last 60 ms, ``(mics, samples)``."""
    g = torch.Generator().manual_seed(seed)
    echoes = torch.randn(2, n_mics, 1000, generator=g) * torch.exp(-torch.arange(1000) / 200)
    sources = torch.randn(2, 1, n, generator=g)
    sources[0] *= 3 * (torch.arange(n) // 4000 % 3 > 0)
    n_fft = n + 1000
    x = torch.fft.irfft(torch.fft.rfft(echoes, n_fft) * torch.fft.rfft(sources, n_fft), n_fft)
    return 0.01 * x.sum(0)[:, :n]


def lost(x: torch.Tensor, mic: int, at: int, n: int = 2) -> torch.Tensor:
    x = x.clone()
    x[mic, at:-n] = x[mic, at + n :].clone()
    return x


def swapped(x: torch.Tensor, a: int, b: int, at: int) -> torch.Tensor:
    x = x.clone()
    x[[a, b], at:] = x[[b, a], at:]
    return x


def found(x: torch.Tensor, block_s: float = 11.0) -> tuple[list[set[int]], list[str]]:
    """The mics that change in each block, and what was told."""
    finder, nobody = ChangeFinder(WINDOW.config, RATE), torch.zeros(len(x), dtype=torch.bool)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MicWarning)
        blocks = WINDOW(x).split(round(block_s * RATE / 512), -1)
        out = [finder.step(X, nobody) for X in blocks]
    return [set(one.nonzero().flatten().tolist()) for one in out], [str(w.message) for w in caught]


@pytest.mark.parametrize("n_samples", [1, 2, 7, 300])
@pytest.mark.parametrize("n_mics", [3, 5, 16])
def test_a_mic_that_loses_samples_is_found(n_samples, n_mics):
    assert found(lost(room(0, n_mics), 1, N // 2, n_samples))[0] == [{1}]


@pytest.mark.parametrize("n_mics", [4, 5, 16])
def test_two_mics_that_are_swapped_are_found(n_mics):
    assert found(swapped(room(0, n_mics), 0, 3, N // 3))[0] == [{0, 3}]


@pytest.mark.parametrize("loudness", [1e-7, 1.0, 1e6])
def test_how_loud_it_is_makes_no_difference(loudness):
    assert found(loudness * lost(room(0), 4, N // 2))[0] == [{4}]


@pytest.mark.parametrize("n_mics", [1, 2, 3, 5, 16])
def test_nothing_is_found_where_nothing_changes(n_mics):
    assert found(room(1, n_mics)) == ([set()], [])


def test_talkers_who_change_places_are_no_fault():
    x = torch.cat([room(1, n=N // 2), room(2, n=N // 2)], -1)
    assert found(x) == ([set()], [])


def test_mics_of_noise_and_the_same_mic_twice_are_no_fault():
    x = room(1)
    noise = torch.randn(x[:1].shape, generator=torch.Generator().manual_seed(0))
    assert found(torch.cat([x, x[:1], 0.01 * noise])) == ([set()], [])
    assert found(noise.expand(4, -1)) == ([set()], [])


def test_silence_and_sound_after_it_are_no_fault():
    x = room(1)
    x[:, : N // 2] = 0
    assert found(x) == ([set()], [])
    assert found(0 * x) == ([set()], [])


def test_less_than_two_seconds_tell_nothing():
    assert found(lost(room(0), 2, RATE)[:, : round(1.8 * RATE)]) == ([set()], [])


@pytest.mark.parametrize("at_s", [4.2, 4.9, 5.1, 5.8])
def test_a_change_next_to_the_border_of_two_blocks_is_found(at_s):
    blocks, told = found(lost(room(0), 2, round(at_s * RATE)), block_s=5.0)
    assert {2} in blocks and set.union(*blocks) == {2}
    assert told == ["mic 2 has lost samples or changed places; left out around that moment"]


def test_a_mic_is_told_of_once():
    x = lost(lost(room(0, n=2 * N), 2, N // 2), 2, 3 * N // 2)
    blocks, told = found(x, block_s=10.0)
    assert blocks[:2] == [{2}, {2}] and len(told) == 1


def test_mics_that_are_out_are_not_looked_at():
    x = lost(room(0), 1, N // 2)
    x[3, N // 4 :] = 0
    finder = ChangeFinder(WINDOW.config, RATE)
    out = torch.arange(5) == 3
    with pytest.warns(MicWarning, match="mic 1 "):
        assert finder.step(WINDOW(x), out).tolist() == [False, True, False, False, False]
