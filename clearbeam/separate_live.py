"""The separation of a recording as if it were live: from the past alone, in one piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clearbeam.audio import Recording, resample
from clearbeam.talker_files import azimuths
from separation import Separator
from separation.count import loud_enough
from separation.live import LiveSeparator
from separation.voices import in_space
from separation.windows import Sound

if TYPE_CHECKING:
    from clearbeam.separate import Settings

_BLOCK = 1 << 18


def separate_live(
    separator: Separator,
    recording: Recording,
    settings: Settings,
    scratch: Path,
    on_seconds: Callable[[float], object],
) -> tuple[list[Iterator[Sound]], list[float] | None]:
    """The streams of those who talk, the loudest first, and where they are, if that can be told.

    Who talks is known at the end, so all streams of the network are kept in a file until then.

    Raises ValueError for a network that is not causal, more talkers than it knows, and a recording
    without a mic that is finite.
    """
    stream = separator.stream(recording.n_mics, reference_mic=settings.reference_mic)
    if (settings.n_talkers or 1) > stream.n_talkers:
        found = f"expected 1 to {stream.n_talkers} talkers, found {settings.n_talkers}"
        raise ValueError(f"{found}: so many streams has the network")
    rate, energy = separator.sample_rate, np.zeros(stream.n_talkers)
    with scratch.open("wb") as file:
        for block in resample(recording.blocks(), recording.sample_rate, rate):
            x = torch.from_numpy(block)
            if not torch.isfinite(x).any():
                raise ValueError("expected a mic with finite samples, found none")
            energy += _kept(file, stream.step(x))
            on_seconds(block.shape[1] / rate)
        energy += _kept(file, stream.flush())
    everyone = np.memmap(scratch, np.float32, "r").reshape(-1, stream.n_talkers)
    chosen = loud_enough(energy, settings.n_talkers)
    places = azimuths(_cross(stream, rate)[chosen], stream.long, rate, settings.array)
    return [_blocks(everyone[:, k]) for k in chosen], places


def _kept(file: BinaryIO, streams: Tensor) -> NDArray[np.float64]:
    """Write streams ``(talkers, n)``; their energies."""
    y = streams.cpu().numpy()
    file.write(y.T.tobytes())
    return np.sum(np.square(y, dtype=np.float64), axis=-1)


def _blocks(stream: Sound) -> Iterator[Sound]:
    for start in range(0, len(stream), _BLOCK):
        yield np.ascontiguousarray(stream[start : start + _BLOCK])


def _cross(stream: LiveSeparator, rate: int) -> NDArray[np.complex64]:
    """Covariances of each talker's mics with the reference mic ``(talkers, freqs, mics)``."""
    assert stream.sums is not None
    space = in_space(stream.long, rate)
    return stream.sums.total[:-1, space, :, stream.reference_mic].cpu().numpy()
