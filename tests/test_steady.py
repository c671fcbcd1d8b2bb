"""A recording turned down as a whole: turned up inside, given back as loud as it was."""

from __future__ import annotations

import pytest
import torch

from multichannel.steady import SteadyLevel

RATE, HOP = 16_000, 256
JUMP = 3 * RATE // HOP * HOP


def sound(seconds: float = 6, n_mics: int = 2) -> torch.Tensor:
    """Bursts in noise: a level that changes by 20 dB, of whole hops."""
    g = torch.Generator().manual_seed(0)
    n = round(seconds * RATE) // HOP * HOP
    bursts = 0.1 * (torch.arange(n) // 6000 % 2)
    return (0.01 + bursts) * torch.randn(n_mics, n, generator=g)


def turned(x: torch.Tensor, db: float, at: int = JUMP) -> torch.Tensor:
    return torch.cat([x[:, :at], 10 ** (db / 20) * x[:, at:]], -1)


def test_sound_that_is_not_turned_down_is_not_touched():
    x, level = sound(), SteadyLevel(HOP)
    assert level.raised(x) is x
    assert level.lowered(x[0]).data_ptr() == x.data_ptr()


@pytest.mark.parametrize("db", [-30, -40])
def test_a_second_later_it_is_about_as_loud_as_before(db):
    x = sound()
    ratio = SteadyLevel(HOP).raised(turned(x, db)) / x
    after = 20 * ratio[:, JUMP + RATE :].abs().log10()
    assert torch.equal(ratio[:, :JUMP], torch.ones(2, JUMP))
    assert after.abs().max() < 6


@pytest.mark.parametrize("db", [-6, 20, 40])
def test_a_little_quieter_or_louder_is_left(db):
    x = turned(sound(), db)
    assert SteadyLevel(HOP).raised(x) is x


def test_silence_and_what_comes_after_it_are_left():
    x = sound()
    x[:, RATE : 4 * RATE] = 0
    x[:, RATE : 2 * RATE] = 1e-6
    assert SteadyLevel(HOP).raised(x) is x


@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize("delay", [0, 100, 3000])
def test_what_comes_out_is_as_loud_as_what_came_in(size, delay):
    """Whatever the chunks, and however long they are on the way."""
    x = turned(sound(), -40)
    level, waiting, out = SteadyLevel(HOP), torch.zeros(2, 0), []
    for chunk in x.split(size * HOP, -1):
        waiting = torch.cat([waiting, level.raised(chunk)], -1)
        n = max(waiting.shape[-1] - delay, 0)
        out.append(level.lowered(waiting[:, :n]))
        waiting = waiting[:, n:]
    y = torch.cat([*out, level.lowered(waiting)], -1)
    torch.testing.assert_close(y, x, rtol=1e-4, atol=0)
    assert len(level.gains_db) == 1  # nothing is kept of what came out


def test_the_gain_goes_back_to_one():
    x = turned(sound(120, 1), -40)
    y = SteadyLevel(HOP).raised(x)
    assert not torch.equal(y[:, 10 * RATE : 20 * RATE], x[:, 10 * RATE : 20 * RATE])
    assert torch.equal(y[:, -30 * RATE :], x[:, -30 * RATE :])


def test_it_goes_on_from_its_state():
    x = turned(sound(), -40)
    whole, first, second = SteadyLevel(HOP), SteadyLevel(HOP), SteadyLevel(HOP)
    middle = JUMP + 40 * HOP
    expected = whole.lowered(whole.raised(x)[:, :-700])
    got = [first.lowered(first.raised(x[:, :middle])[:, :-700])]
    second.load_state(first.state())
    raised = torch.cat([x[:, middle - 700 : middle], second.raised(x[:, middle:])], -1)
    raised[:, :700] = whole_between(x, middle - 700, middle)
    got.append(second.lowered(raised[:, :-700]))
    torch.testing.assert_close(torch.cat(got, -1), expected)


def whole_between(x: torch.Tensor, start: int, end: int) -> torch.Tensor:
    return SteadyLevel(HOP).raised(x)[:, start:end]
