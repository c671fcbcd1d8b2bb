"""Classes of a live stream: the past alone, any array, and whoever is in one stays there."""

from __future__ import annotations

import pytest
import torch

from multichannel.stft import STFT
from separation.coarse import N_CLASSES
from separation.running import BLOCK, LIVE_LONG, RunningClasses, running_shares

SECOND = 16_000


def talkers(turns: list[int], n_mics: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Half a second for each turn: a recording ``(mics, samples)``, and who talks."""
    g = torch.Generator().manual_seed(seed)
    who = torch.tensor(turns).repeat_interleave(SECOND // 2)
    delays = torch.randint(0, 30, (max(turns) + 1, n_mics), generator=g)
    x = torch.zeros(n_mics, len(who))
    for talker in range(max(turns) + 1):
        s = torch.randn(len(who), generator=g) * (who == talker)
        x += torch.stack([s.roll(int(d)) for d in delays[talker]])
    return 0.1 * x + 1e-3 * torch.randn(x.shape, generator=g), who


@pytest.mark.parametrize("n_mics", [2, 4, 6])
def test_a_talker_has_his_classes_all_along(n_mics):
    """Frames where one of them talks look like other frames of his, seconds later, and like no
    frame of the other."""
    x, who = talkers([0, 1] * 10, n_mics)
    shares = running_shares(x, STFT(), STFT(LIVE_LONG)).mean(1)  # (classes, frames)
    who = who[:: LIVE_LONG.hop // 4][: shares.shape[-1]]
    shares = shares[:, : len(who)]
    late = torch.arange(len(who)) > 4 * 62  # the first seconds are for finding out
    early = ~late & (torch.arange(len(who)) > 2 * 62)
    for k in (0, 1):
        mine, his = (shares[:, late & (who == j)].mean(-1) for j in (k, 1 - k))
        before = shares[:, early & (who == k)].mean(-1)
        assert (mine - before).abs().sum() < 0.5 * (mine - his).abs().sum()


def test_what_comes_later_changes_nothing_before():
    x, _ = talkers([0, 1, 0, 1, 1, 0])
    X = STFT(LIVE_LONG)(x)
    blocks = X[..., : X.shape[-1] // BLOCK * BLOCK].split(BLOCK, -1)
    a, b = RunningClasses(), RunningClasses()
    for n, block in enumerate(blocks):
        found = a.step(block)
        assert torch.allclose(found.sum(0), torch.ones_like(found[0]), atol=1e-5)
        assert n > 2 or torch.equal(b.step(block), found)
    other = [b.step(10 * block.flip(-1)) for block in blocks[3:]]
    assert not torch.equal(other[-1], found)


def test_one_mic_and_silence_tell_nothing():
    stft, long = STFT(), STFT(LIVE_LONG)
    one = running_shares(torch.randn(1, SECOND), stft, long)
    assert torch.allclose(one, torch.full_like(one, 1 / N_CLASSES), atol=1e-3)
    silent = running_shares(torch.zeros(3, SECOND), stft, long)
    assert torch.allclose(silent.sum(0), torch.ones_like(silent[0]))
