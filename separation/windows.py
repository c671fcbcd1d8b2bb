"""A recording of any length in windows that overlap, and what comes out of them joined again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]


class Window(NamedTuple):
    """``x (mics, n)``: the samples of a recording from number ``start`` on; perhaps all of it."""

    start: int
    x: Sound
    whole: bool


def windows(blocks: Iterable[Sound], n_window: int, n_hop: int, n_whole: int) -> Iterator[Window]:
    """Yield the windows over a recording, in order; no more than one of them is held.

    The last one ends with the recording, so all are of one length, and it may overlap more.

    Args:
        blocks: of samples ``(mics, n)``.
        n_window, n_hop: samples of a window, and from one to the next.
        n_whole: a recording of up to so many samples is one window.

    Raises:
        ValueError: the windows would not overlap, or a recording in one piece be shorter than one.
    """
    if not 0 < n_hop < n_window <= n_whole:
        raise ValueError(
            f"expected a hop below the window, and it at most {n_whole} samples, "
            f"found {n_hop} and {n_window}"
        )
    start, held = 0, None
    for block in blocks:
        held = block if held is None else np.concatenate([held, block], axis=1)
        while (start or held.shape[1] > n_whole) and held.shape[1] > n_window + n_hop:
            yield Window(start, held[:, :n_window], False)
            start, held = start + n_hop, held[:, n_hop:]
    if held is None:
        return
    if start == 0 and held.shape[1] <= n_whole:
        yield Window(0, held, True)
        return
    yield Window(start, held[:, :n_window], False)
    rest = held.shape[1] - n_window
    if rest > 0:
        yield Window(start + rest, held[:, rest:], False)


def joined(pieces: Iterable[tuple[int, Sound]], n_fade: int) -> Iterator[Sound]:
    """Yield the sound ``(..., n)`` that pieces ``(start, (..., n))`` make together, in blocks.

    Neighbours fade into each other in the middle of what they share, where both have heard most of
    what is around.

    Args:
        pieces: in order, each overlapping the one before.
        n_fade: longest fade, in samples.
    """
    at, held = 0, None
    for start, y in pieces:
        if held is None:
            at, held = start, y
            continue
        shared = at + held.shape[-1] - start
        n = min(n_fade, shared)
        first = start + (shared - n) // 2  # of the fade
        up = np.sin(np.pi / 2 * (np.arange(n) + 0.5) / n).astype(np.float32) ** 2
        yield held[..., : first - at]
        old, new = held[..., first - at :][..., :n], y[..., first - start :]
        held = np.concatenate([old * (1 - up) + new[..., :n] * up, new[..., n:]], axis=-1)
        at = first
    if held is not None:
        yield held
