"""Training clips: read once from data sets of `simulate`, kept as 16-bit samples in memory.

The only module of this package that looks at `simulate`, and only at its manifests.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from simulate import read_manifest

_FULL_SCALE = 32767


def read_clip(record: dict, n_samples: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mixture ``(mics, samples)`` and early speech image at microphone 0 ``(samples,)`` of a record."""
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
        pairs = [_first_mic(record, n_samples) for record in read_manifest(dataset)]
        return cls.pack({"mixture": [m for m, _ in pairs], "early": [e for _, e in pairs]})

    @classmethod
    def pack(cls, signals: dict[str, list[np.ndarray]]) -> Clips:
        """From lists of float clips; each clip is scaled so that its loudest signal is full scale."""
        peaks = [max(float(np.abs(x).max()) for x in clip) for clip in zip(*signals.values(), strict=True)]
        packed = {
            name: np.stack(
                [
                    np.round(x / max(peak, 1e-9) * _FULL_SCALE).astype(np.int16)
                    for x, peak in zip(clips, peaks, strict=True)
                ]
            )
            for name, clips in signals.items()
        }
        return cls(packed)

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Signals ``{name: (len(indices), samples)}`` in float32, every clip's mixture at RMS 0.1."""
        batch = {
            name: torch.from_numpy(clips[indices].astype(np.float32))
            for name, clips in self.signals.items()
        }
        level = batch["mixture"].square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
        return {name: 0.1 * x / level for name, x in batch.items()}


def _first_mic(record: dict, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    mixture, early = read_clip(record, n_samples)
    padding = n_samples - mixture.shape[-1]
    return np.pad(mixture[0], (0, padding)), np.pad(early, (0, padding))


def shuffled_batches(n_clips: int, batch_size: int, seed: int, rank: int, world: int) -> np.ndarray:
    """One epoch's batches for one of ``world`` processes: ``(batches, batch_size)`` indices."""
    order = np.random.default_rng(seed).permutation(n_clips)
    n_batches = n_clips // (batch_size * world)
    return order[: n_batches * batch_size * world].reshape(n_batches, world, batch_size)[:, rank]
