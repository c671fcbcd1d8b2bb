"""The clips of a dataset: a mixture, the truth about it, and the conditions it was made in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from clearbeam.metrics import SAMPLE_RATE
from simulate import read_manifest

REFERENCE_MIC = 0  # the SNR of a simulated mixture is set there


@dataclass(frozen=True)
class Clip:
    """One mixture with its truth.

    mixture: (mics, samples). early: (talkers, mics, samples), the images with their first
    reflections only: what enhancement is to give back, at `reference_mic`. mics_m: (mics, 3) and
    talkers_m: (talkers, 3), in metres in the room. Signals are float32 at 16 kHz.
    """

    name: str
    mixture: Tensor
    early: Tensor
    mics_m: Tensor
    talkers_m: Tensor
    reference_mic: int = REFERENCE_MIC

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.mixture.shape[-1] / SAMPLE_RATE

    def head(self, seconds: float) -> Clip:
        """The clip's beginning, or all of it where it is shorter."""
        end = round(seconds * SAMPLE_RATE)
        return replace(self, mixture=self.mixture[..., :end], early=self.early[..., :end])


@dataclass(frozen=True)
class ClipFiles:
    """Where a clip lies, and the conditions it was made in: numbers or names."""

    name: str
    mixture: Path
    early: tuple[Path, ...]
    mics_m: tuple[tuple[float, ...], ...]
    talkers_m: tuple[tuple[float, ...], ...]
    conditions: Mapping[str, float | str]

    def load(self) -> Clip:
        """Read the audio; raises ValueError, naming the file, when it cannot be what it should."""
        mixture = _read(self.mixture)
        early = torch.stack([_read(path) for path in self.early])
        if early.shape[-1] != mixture.shape[-1]:
            raise ValueError(
                f"expected {self.early[0]} as long as its mixture, found "
                f"{early.shape[-1]} and {mixture.shape[-1]} samples"
            )
        mics, talkers = torch.tensor(self.mics_m), torch.tensor(self.talkers_m)
        return Clip(self.name, mixture, early, mics, talkers)

    def stamp(self) -> str:
        """Text that changes when the clip's files do."""
        stats = [(str(path), path.stat()) for path in (self.mixture, *self.early)]
        files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        return repr((self.name, self.mics_m, self.talkers_m, files))


def list_clips(dataset: str | Path, limit: int | None = None) -> list[ClipFiles]:
    """The clips of a simulated dataset, or the first `limit` of them, in the manifest's order.

    Raises ValueError for a dataset that is none, is empty, or lacks early images or files.
    """
    clips = [_clip(record) for record in read_manifest(dataset)]
    if not clips:
        raise ValueError(f"expected mixtures in {dataset}, found an empty manifest")
    if limit is not None and limit < 1:
        raise ValueError(f"expected a limit of at least 1, found {limit}")
    clips = clips[:limit]
    twice = [name for name, n in Counter(clip.name for clip in clips).items() if n > 1]
    if twice:
        raise ValueError(f"expected each clip once in {dataset}, found twice: {twice[0]}")
    _check_files(path for clip in clips for path in (clip.mixture, *clip.early))
    return clips


def _clip(record: Mapping[str, Any]) -> ClipFiles:
    name = str(record.get("id", "?"))
    try:
        paths, talkers = record["paths"], record["talkers"]
        mics = tuple(tuple(position) for position in record["mics_m"])
        return ClipFiles(
            name=name,
            mixture=Path(paths["mixture"]),
            early=tuple(Path(path) for path in paths["early"]),
            mics_m=mics,
            talkers_m=tuple(tuple(talker["position_m"]) for talker in talkers),
            conditions={
                "snr_db": float(record["snr_db"]),
                "rt60_s": float(record["rt60_s"]),
                "mics": float(len(mics)),
                "array": str(record["array"]["name"]),
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected a simulated mixture, found {error!r} in clip {name}") from None


def _check_files(paths: Iterable[Path]) -> None:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ValueError(f"expected an audio file, found nothing at {missing[0]}{more}")


def _read(path: Path) -> Tensor:
    """An audio file as (channels, samples)."""
    try:
        x, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ValueError(f"expected an audio file, found {path}: {error}") from None
    if rate != SAMPLE_RATE or not len(x):
        raise ValueError(
            f"expected sound at {SAMPLE_RATE} Hz in {path}, found {len(x)} samples at {rate} Hz"
        )
    return torch.from_numpy(np.ascontiguousarray(x.T))
