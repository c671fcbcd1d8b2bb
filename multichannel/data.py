"""Training clips by number, from data sets of `simulate`, and batches of them.

The only module of this package that looks at `simulate`, and only at its data sets.

A clip is a dict of arrays whose last axis is time: ``mixture (mics, samples)`` and ``early
(samples,)``, the wanted talker at mic 0, float32 at 16 kHz; or what other sources give.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from multichannel.stft import STFTConfig
from simulate import read_manifest
from simulate.disk import allocate
from simulate.sound_files import read_sound

LEVEL = 0.1  # RMS of mic 0 of every clip before augmentation
_INAUDIBLE = 1e-3  # a talker 60 dB below the mixture
_FULL_SCALE = 32767
_STFT = STFTConfig()
# (..., freqs, frames), but frames are apart in memory
_FRAMES_AND_FREQS = ("spectra", "cues", "shares")

Clip = dict[str, np.ndarray]


class Source(Protocol):
    """Where clips come from."""

    @property
    def lengths(self) -> np.ndarray | None:
        """Number of samples of each clip ``(clips,)``; None where clips are endless."""

    def clip(self, index: int) -> Clip:
        """The clip of that number, always the same one."""


def records_of(dataset: Path) -> list[dict]:
    """Records of a data set of `simulate`, with absolute paths.

    Raises:
        ValueError: there is none, or a record lacks what training wants to know.
    """
    records = list(read_manifest(dataset))
    for record in records:
        try:
            known = samples_of(record) > 0 and len(record["array"]["positions_m"]) > 0
        except (KeyError, TypeError, ValueError, OverflowError):
            known = False
        if not known or "mixture" not in record["paths"]:
            raise ValueError(
                f"expected mixtures with fs, seconds and array in {dataset}, "
                f"found {record.get('id')} without"
            )
    return records


def samples_of(record: dict) -> int:
    """Length of a mixture."""
    return round(record["seconds"] * record["fs"])


def read_clip(record: dict) -> Clip:
    """Mixture and early image at mic 0, all talkers together, of a record."""
    mixture, _ = read_sound(record["paths"]["mixture"])
    if not record["paths"].get("early"):
        raise ValueError(f"expected early images in the data set, found none in {record['id']}")
    early = sum(read_sound(path)[0][:, 0] for path in record["paths"]["early"])
    return {"mixture": np.ascontiguousarray(mixture.T), "early": np.asarray(early)}


def levelled(clip: Clip) -> Clip:
    """The clip with mic 0 at an RMS of `LEVEL`; silence stays silence.

    A talker whom nobody can hear (`_INAUDIBLE`) is silence too: there is nothing to look for.
    """
    rms, early = _rms(clip["mixture"][0]), clip["early"]
    scale = np.float32(LEVEL / max(rms, 1e-6))
    heard = np.float32(_rms(early) > _INAUDIBLE * rms)
    return {name: x * scale for name, x in {**clip, "early": early * heard}.items()}


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


class Recorded:
    """Clips read from the files of a data set, all microphones.

    Args:
        dataset: folder of `clearbeam simulate`.
        limit: first clips only.
    """

    def __init__(self, dataset: Path, limit: int | None = None) -> None:
        self.records = records_of(dataset)[:limit]
        self.lengths = np.array([samples_of(record) for record in self.records])

    def clip(self, index: int) -> Clip:
        return levelled(read_clip(self.records[index]))


class PackedClips:
    """Clips of a folder that `pack` made; only the samples asked for are read.

    Args:
        folder: holds ``mixture.npy`` and ``early.npy`` (16-bit samples of all clips, one after the
            other) and ``index.npy (clips, 4)``: first sample of the mixture, mics, samples, first
            sample of the early image.
    """

    def __init__(self, folder: Path) -> None:
        self.index = np.load(folder / "index.npy")
        self.lengths = self.index[:, 2]
        self.mixture = np.load(folder / "mixture.npy", mmap_mode="r")
        self.early = np.load(folder / "early.npy", mmap_mode="r")

    def clip(self, index: int) -> Clip:
        start, n_mics, n_samples, early = (int(v) for v in self.index[index])
        mixture = self.mixture[start : start + n_mics * n_samples].reshape(n_mics, n_samples)
        clip = {"mixture": mixture, "early": self.early[early : early + n_samples]}
        return levelled({name: x.astype(np.float32) for name, x in clip.items()})


def pack(records: Sequence[dict], folder: Path, n_mics: int | None = None) -> None:
    """Write the clips of `records` to `folder`, each at full scale in 16 bits.

    Args:
        records: of a data set.
        folder: exists.
        n_mics: first mics only; None keeps all.

    Raises:
        OSError: the disk has no room for them.
    """
    n_samples = np.array([samples_of(record) for record in records])
    mics = np.array([len(record["array"]["positions_m"]) for record in records])
    mics = mics if n_mics is None else np.minimum(mics, n_mics)
    starts = np.concatenate([[0], np.cumsum(mics * n_samples)])
    earlies = np.concatenate([[0], np.cumsum(n_samples)])
    index = np.stack([starts[:-1], mics, n_samples, earlies[:-1]], axis=1).astype(np.int64)
    mixture = open_memmap(folder / "mixture.npy", "w+", np.int16, (int(starts[-1]),))
    early = open_memmap(folder / "early.npy", "w+", np.int16, (int(earlies[-1]),))
    for name in ("mixture.npy", "early.npy"):
        allocate(folder / name)
    for row, record in enumerate(records):
        clip = read_clip(record)
        clip["mixture"] = clip["mixture"][: mics[row]]
        scale = _FULL_SCALE / max(max(float(np.abs(x).max()) for x in clip.values()), 1e-9)
        mixture[starts[row] : starts[row + 1]] = np.round(clip["mixture"] * scale).ravel()
        early[earlies[row] : earlies[row + 1]] = np.round(clip["early"] * scale)
    np.save(folder / "index.npy", index)


def crop(clip: Clip, n_samples: int, rng: np.random.Generator | None = None) -> Clip:
    """At most `n_samples` of a clip, from a random frame on, or from the start without `rng`."""
    surplus = clip["early"].shape[-1] - n_samples
    if surplus <= 0:
        return clip
    first = 0 if rng is None else int(rng.integers(surplus // _STFT.hop + 1))
    cut = {}
    for name, x in clip.items():
        if name in _FRAMES_AND_FREQS:
            cut[name] = x[..., first : first + _STFT.n_frames(n_samples)]
        else:
            cut[name] = x[..., first * _STFT.hop : first * _STFT.hop + n_samples]
    return cut


def batch_of(clips: Sequence[Clip]) -> dict[str, Tensor]:
    """Clips side by side, ``{name: (clips, ...)}``; smaller ones end in zeros, on any axis.

    Zeros cost nothing: there the mask has nothing to act on and nothing is wanted.
    """
    batch = {}
    for name in clips[0]:
        arrays = [clip[name] for clip in clips]
        if name in _FRAMES_AND_FREQS:
            batch[name] = torch.from_numpy(_stack([x.swapaxes(-1, -2) for x in arrays])).mT
        else:
            batch[name] = torch.from_numpy(_stack(arrays))
    return batch


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    shape = np.max([x.shape for x in arrays], axis=0)
    if all(x.shape == tuple(shape) for x in arrays):
        return np.stack(arrays)
    stacked = np.zeros((len(arrays), *shape), arrays[0].dtype)
    for row, x in enumerate(arrays):
        stacked[row][tuple(map(slice, x.shape))] = x
    return stacked


class Order:
    """Which clips belong to which step: a function of the seed and the step alone.

    Clips are drawn without repetition until all were seen. Those of a step are of like length where
    lengths differ: shuffled clips are sorted by length within pools of fifty batches, and the
    batches shuffled again.

    Args:
        lengths: samples of each clip; None numbers clips on without an end.
        batch: clips a step.
        seed: another seed, another order.

    Raises:
        ValueError: there are fewer clips than a batch takes.
    """

    POOL = 50

    def __init__(self, lengths: np.ndarray | None, batch: int, seed: int) -> None:
        if lengths is not None and len(lengths) < batch:
            raise ValueError(f"expected at least {batch} clips for a batch, found {len(lengths)}")
        self.lengths, self.batch, self.seed = lengths, batch, seed
        self._epoch: tuple[int, np.ndarray] | None = None

    def of(self, step: int) -> np.ndarray:
        """Numbers of the clips of a step, ``(batch,)``."""
        if self.lengths is None:
            return np.arange(step * self.batch, (step + 1) * self.batch)
        epoch, row = divmod(step, len(self.lengths) // self.batch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self._batches(epoch)
        return self._epoch[1][row]

    def _batches(self, epoch: int) -> np.ndarray:
        assert self.lengths is not None
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.lengths))
        if np.ptp(self.lengths):
            size = self.POOL * self.batch
            pools = [order[first : first + size] for first in range(0, len(order), size)]
            sort = [pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools]
            order = np.concatenate(sort)
        batches = order[: len(order) // self.batch * self.batch].reshape(-1, self.batch)
        return batches[rng.permutation(len(batches))]
