"""What is taken for a mic that fails, and what is not: found at once, reported once, taken back."""

from __future__ import annotations

import re
import warnings

import pytest
import torch

from multichannel import compiled_ops
from multichannel.mics import MicGuard, MicWarning

RATE, HOP = 16_000, 256
N = 6 * RATE
FROM, TO = 2 * RATE, 3 * RATE  # of a fault; both are borders of hops


def sound(n_mics: int = 4, seed: int = 0) -> torch.Tensor:
    """Bursts that all mics hear, pauses between them, and each mic's own noise."""
    g = torch.Generator().manual_seed(seed)
    bursts = torch.randn(N, generator=g) * (torch.arange(N) // 4000 % 3 > 0)
    gains = torch.linspace(0.3, 1, n_mics)[:, None]
    return 0.05 * gains * bursts + 1e-3 * torch.randn(n_mics, N, generator=g)


def spoilt(fault: str, mic: int = 2) -> torch.Tensor:
    x = sound()
    part = x[mic, FROM:TO]
    x[mic, FROM:TO] = {
        "dead": 0 * part,
        "stuck": 0 * part + 0.7,
        "clips": (100 * part).clamp(-1, 1),
        "clips one way": (100 * part).clamp(max=0.02),
        "NaN": torch.where(torch.arange(len(part)) % 3000 < 200, torch.nan, part),
        "infinite": part / 0,
        "40 dB louder": 100 * part,
        "40 dB quieter": 0.01 * part,
    }[fault]
    return x


def guarded(x: torch.Tensor, sizes=(N,)) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    guard = MicGuard(len(x), HOP)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MicWarning)
        parts = [guard.step(chunk) for chunk in x.split(sizes[0], -1)]
    y, out = (torch.cat(part, -1) for part in zip(*parts, strict=True))
    return y, out, [str(w.message) for w in caught]


@pytest.mark.parametrize(
    ("fault", "words", "within_s", "back_s"),
    [
        ("dead", "is dead", 0, 1.01),
        ("stuck", "clips|is dead", 0, 2.1),
        ("clips", "clips", 0.3, 2.1),
        ("clips one way", "clips", 0.3, 3.5),
        ("NaN", "holds NaN", 0, 2.1),
        ("infinite", "holds NaN or infinity", 0, 2.1),
        ("40 dB louder", "is suddenly .* louder", 0.3, 3.5),
        ("40 dB quieter", "is suddenly .* quieter", 0.6, 3.5),
    ],
)
def test_a_mic_that_fails_is_silent_reported_once_and_taken_back(fault, words, within_s, back_s):
    x = spoilt(fault)
    y, out, told = guarded(x)
    assert torch.isfinite(y).all() and y.shape == (4, N // HOP * HOP)
    when = out[2].nonzero().flatten() * HOP / RATE - FROM / RATE
    assert -HOP / RATE <= when[0] <= within_s and 0.9 < when[-1] < back_s
    assert not y[2].unflatten(-1, (-1, HOP))[out[2]].any()
    assert len(told) == 1 and re.match(f"mic 2 ({words})", told[0])
    others = [0, 1, 3]
    assert not out[others].any() and torch.equal(y[others], x[others, : y.shape[-1]])


def test_a_mic_turned_up_comes_back_as_loud_as_it_was():
    x = sound()
    x[2, FROM:] *= 100
    y, _, _ = guarded(x)
    ratio = y[2, FROM + 3 * RATE :].std() / sound()[2, FROM + 3 * RATE :].std()
    assert 0.5 < ratio < 2


HARMLESS = {
    "nothing": lambda x: x,
    "all louder by 40 dB": lambda x: torch.cat([x[:, :FROM], 100 * x[:, FROM:]], -1),
    "all quieter by 40 dB": lambda x: torch.cat([x[:, :FROM], 0.01 * x[:, FROM:]], -1),
    "silence": lambda x: 0 * x,
    "silence, then sound": lambda x: torch.cat([0 * x[:, :FROM], x[:, FROM:]], -1),
    "a tone": lambda x: x + 0.3 * torch.sin(torch.arange(N) * 0.05),
    "an offset": lambda x: x + torch.tensor([[0.0], [0.3], [-0.2], [0.1]]),
    "8 bits": lambda x: (128 * x).round() / 128 + 1e-4 * sound(seed=1),
    "gains 50 dB apart": lambda x: x * torch.tensor([[1.0], [0.003], [0.1], [1.0]]),
    "two swapped": lambda x: torch.cat([x[:, :FROM], x[[0, 2, 1, 3], FROM:]], -1),
    "two samples lost": lambda x: torch.cat([x[:, :FROM], x[:, FROM:].roll(-2, -1)], -1),
    "no sound but rounding": lambda x: (0.01 * x * 32768).round() / 32768,
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_is_no_fault_passes_untouched(kind):
    x = HARMLESS[kind](sound())
    y, _, told = guarded(x)
    assert told == [] and torch.equal(y, x[:, : y.shape[-1]])


@pytest.mark.parametrize("fault", ["dead", "clips", "NaN", "40 dB louder"])
@pytest.mark.parametrize("size", [100, 1000, 4096])
def test_chunks_change_nothing_and_a_state_goes_on(fault, size):
    x = spoilt(fault)
    whole, whole_out, _ = guarded(x)
    y, out, _ = guarded(x, (size,))
    assert torch.equal(y, whole) and torch.equal(out, whole_out)
    first, second = MicGuard(4, HOP), MicGuard(4, HOP)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MicWarning)
        before, _ = first.step(x[:, : FROM + 5000])
        second.load_state(first.state())
        after, _ = second.step(x[:, FROM + 5000 :])
    assert torch.equal(torch.cat([before, after], -1), whole)


def test_samples_stand_side_by_side_whatever_the_layout():
    x = sound()
    for size in (N, 1000):
        y, _ = MicGuard(4, HOP).step(x.T.contiguous().T[:, :size])
        assert y.stride(-1) == 1 and torch.equal(y, x[:, : size // HOP * HOP])


def test_of_two_mics_the_one_that_changed_is_left_out():
    x = sound(2)
    x[1, FROM:TO] *= 100
    _, out, told = guarded(x)
    assert len(told) == 1 and out[1].any() and not out[0].any()


def test_a_few_broken_samples_are_silence_and_the_mic_stays():
    x = sound()
    x[2, FROM : FROM + 9] = torch.nan
    y, out, told = guarded(x)
    assert len(told) == 1 and not out.any() and torch.equal(y, x.nan_to_num(0)[:, : y.shape[-1]])


def test_one_mic_is_never_left_out_but_its_broken_hops():
    x = spoilt("NaN")[2:3]
    y, out, _ = guarded(x)
    assert torch.isfinite(y).all() and not out.any()
    assert (y == 0).sum() <= HOP * torch.isnan(x).sum()


def test_with_all_mics_broken_in_turn_some_are_heard():
    x = sound()
    for mic in range(4):
        x[mic, FROM + 1000 * mic :][:100] = torch.nan
    y, _, told = guarded(x)
    assert len(told) == 4 and y.unflatten(-1, (-1, HOP)).any(-1).any(0).all()


@pytest.mark.skipif(not compiled_ops.ready(), reason="needs a C++ compiler")
@pytest.mark.parametrize(
    "fault", ["none", "dead", "clips", "clips one way", "NaN", "40 dB louder", "silence", "endless"]
)
@pytest.mark.parametrize("sizes", [N, 5 * HOP])
def test_compiled_or_not_the_guard_does_the_same(monkeypatch, fault, sizes):
    if fault in ("none", "silence", "endless"):
        x = sound()
        x[:, FROM:TO] = {"none": x[:, FROM:TO], "silence": 0.0, "endless": 1e17}[fault]
    else:
        x = spoilt(fault)
    guards, found = (MicGuard(4, HOP), MicGuard(4, HOP)), []
    for guard, ready in zip(guards, (True, False), strict=True):
        monkeypatch.setattr(compiled_ops, "ready", lambda ready=ready: ready)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MicWarning)
            parts = zip(*map(guard.step, x.split(sizes, -1)), strict=True)
            found.append([torch.cat(one, -1) for one in parts])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
    for name, value in guards[0].state().items():
        torch.testing.assert_close(value, guards[1].state()[name], rtol=1e-4, atol=1e-12)
