"""Training clips: read once from data sets of `simulate`, kept as 16-bit samples in memory.

The only module of this package that looks at `simulate`, and only at its manifests.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from simulate import read_manifest

_FULL_SCALE = 32767


def records_of(dataset: Path) -> list[dict]:
    """Records of a data set of `simulate`, with absolute paths."""
    return list(read_manifest(dataset))


def read_clip(record: dict, n_samples: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mixture ``(mics, samples)`` and early image at microphone 0 ``(samples,)`` of a record."""
    mixture, _ = soundfile.read(record["paths"]["mixture"], dtype="float32", always_2d=True)
    early = sum(
        soundfile.read(path, dtype="float32", always_2d=True)[0][:, 0]
        for path in record["paths"]["early"]
    )
    return mixture.T[:, :n_samples], early[:n_samples]


class Clips:
    """Equally long clips of several named signals, each clip at full scale in 16 bits.

    Args:
        signals: ``{name: (clips, samples)}`` int16; the samples of a clip share one scale.
    """

    def __init__(self, signals: dict[str, np.ndarray]) -> None:
        self.signals = signals

    def __len__(self) -> int:
        return len(next(iter(self.signals.values())))

    @classmethod
    def of_first_mic(cls, dataset: Path, n_samples: int) -> Clips:
        """Mixture and early image at microphone 0 of every record of a data set."""
        return cls.gather(
            dict(zip(("mixture", "early"), _first_mic(record, n_samples), strict=True))
            for record in records_of(dataset)
        )

    @classmethod
    def gather(cls, clips: Iterable[dict[str, np.ndarray]]) -> Clips:
        """From float clips; each is scaled so that the loudest of its signals is full scale."""
        packed = [_to_int16(clip) for clip in clips]
        return cls({name: np.stack([clip[name] for clip in packed]) for name in packed[0]})

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Signals ``{name: (clips, samples)}`` in float32, every mixture at RMS 0.1."""
        batch = {
            name: torch.from_numpy(clips[indices].astype(np.float32))
            for name, clips in self.signals.items()
        }
        level = batch["mixture"].square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
        return {name: 0.1 * x / level for name, x in batch.items()}


def _to_int16(clip: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    peak = max(float(np.abs(x).max()) for x in clip.values())
    scale = _FULL_SCALE / max(peak, 1e-9)
    return {name: np.round(x * scale).astype(np.int16) for name, x in clip.items()}


def _first_mic(record: dict, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    mixture, early = read_clip(record, n_samples)
    padding = n_samples - mixture.shape[-1]
    return np.pad(mixture[0], (0, padding)), np.pad(early, (0, padding))


def shuffled_batches(n_clips: int, batch_size: int, seed: int, rank: int, world: int) -> np.ndarray:
    """One epoch's batches for one of ``world`` processes: ``(batches, batch_size)`` indices."""
    order = np.random.default_rng(seed).permutation(n_clips)
    n_batches = n_clips // (batch_size * world)
    return order[: n_batches * batch_size * world].reshape(n_batches, world, batch_size)[:, rank]
