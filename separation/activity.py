"""When each of several streams talks: its level against its own floor, and against what the others
leave in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from separation.windows import Sound

FRAME_S = 0.02
_SMOOTHED_S = 0.1
_ABOVE_FLOOR_DB, _FLOOR_PERCENT = 8.0, 20
# Below how loud a stream is when it talks: where talking may begin, at most and at least.
_BELOW_SPEECH_DB = (16.0, 12.0)
# What others leave in a stream is so far below them, at least and at most; this much above it
# somebody talks.
_LEAK_DB, _ABOVE_LEAK_DB = (-15.0, -6.0), 4.0
_NOTHING_DB = 60.0  # below speech is no sound at all
_FEW = 50  # frames in which a talker is the loudest: fewer do not tell what he leaves
_HYSTERESIS_DB = 6.0
_SHORTEST_S, _LONGEST_PAUSE_S, _EDGE_S = 0.4, 0.6, 0.4
_SILENCE_DB = -90.0


@dataclass
class Levels:
    """Collects the levels of a stream that passes by, a frame of 20 ms at a time."""

    sample_rate: int
    _powers: list[NDArray[np.float64]] = field(default_factory=list)
    _rest: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def of(self, blocks: Iterable[Sound]) -> Iterator[Sound]:
        """Yield the blocks ``(n,)`` unchanged, having looked at them."""
        size = round(FRAME_S * self.sample_rate)
        for block in blocks:
            x = np.concatenate([self._rest, block.astype(float)])
            full = len(x) // size * size
            self._powers.append(np.mean(x[:full].reshape(-1, size) ** 2, axis=1))
            self._rest = x[full:]
            yield block

    def db(self) -> NDArray[np.float32]:
        """Levels ``(frames,)`` of full scale."""
        power = np.concatenate([*self._powers, np.zeros(0)])
        return (10 * np.log10(power + 1e-20)).astype(np.float32)


def spoken(level_db: NDArray[np.floating]) -> list[list[tuple[float, float]]]:
    """Stretches ``(start_s, end_s)`` in which each stream talks, in order.

    Args:
        level_db: of streams ``(talkers, frames)``, frames of `FRAME_S`.
    """
    n_smoothed = round(_SMOOTHED_S / FRAME_S)
    power = uniform_filter1d(10 ** (np.asarray(level_db, float) / 10), n_smoothed, axis=-1)
    level = 10 * np.log10(np.maximum(power, 1e-20))
    thresholds = np.array([_thresholds(one) for one in level])
    begin, stay = thresholds.T[..., None]
    if len(level) > 1:
        left = _left_db(level)
        begin = np.maximum(begin, left + _ABOVE_LEAK_DB)
        stay = np.maximum(stay, left + _ABOVE_LEAK_DB / 2)
    above = zip(level > stay, level > begin, strict=True)
    return [_stretches(on, sure) for on, sure in above]


def _left_db(level_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the others leave in each stream ``(talkers, frames)``, at most.

    While one is the loudest most others are silent, so the median of their levels below his is what
    he leaves in their streams, where they have any sound at all.
    """
    left = np.full_like(level_db, -np.inf)
    loudest = level_db.argmax(0)
    for j, his in enumerate(level_db):
        talks = (loudest == j) & (his > _thresholds(his)[0])
        for k, other in enumerate(level_db):
            if k != j:
                below = (other - his)[talks & (other > his - _NOTHING_DB)]
                leak = np.median(below) if len(below) >= _FEW else _LEAK_DB[1]
                left[k] = np.maximum(left[k], his + np.clip(leak, *_LEAK_DB))
    return left


def _thresholds(level_db: NDArray[np.float64]) -> tuple[float, float]:
    """Levels from which on a stream begins to talk, and goes on.

    Above its floor, and not far below its own speech: the level that half of its energy exceeds,
    however rarely it talks.
    """
    power = np.sort(10 ** (level_db / 10))
    speech = 10 * np.log10(power[np.searchsorted(power.cumsum(), power.sum() / 2)])
    if speech < _SILENCE_DB:
        return np.inf, np.inf
    floor = np.percentile(level_db[level_db > speech - _NOTHING_DB], _FLOOR_PERCENT)
    lowest, highest = (speech - below for below in _BELOW_SPEECH_DB)
    begin = float(np.clip(floor + _ABOVE_FLOOR_DB, lowest, highest))
    return begin, max(begin - _HYSTERESIS_DB, min(floor + _ABOVE_FLOOR_DB / 2, begin))


def _stretches(on: NDArray[np.bool_], sure: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Runs of `on` that are `sure` somewhere, without short ones and short pauses."""
    runs = [(a, b) for a, b in _runs(on) if sure[a:b].any()]
    joined: list[tuple[int, int]] = []
    for a, b in runs:
        if joined and (a - joined[-1][1]) * FRAME_S < _LONGEST_PAUSE_S:
            joined[-1] = (joined[-1][0], b)
        else:
            joined.append((a, b))
    end_s = len(on) * FRAME_S
    long = [(a, b) for a, b in joined if (b - a) * FRAME_S >= _SHORTEST_S]
    return [
        (round(max(0.0, a * FRAME_S - _EDGE_S), 3), round(min(end_s, b * FRAME_S + _EDGE_S), 3))
        for a, b in long
    ]


def _runs(on: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    return list(zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True))
