"""The clips of a dataset: a mixture, the truth about it, and the conditions it was made in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clearbeam.metrics import SAMPLE_RATE
from simulate import read_manifest
from simulate.sound_files import read_sound

REFERENCE_MIC = 0  # the SNR of a simulated mixture is set there


@dataclass(frozen=True)
class Clip:
    """One mixture with its truth.

    mixture: (mics, samples). images: (talkers, mics, samples), what the task wants of the talkers
    (the image with its first reflections only, or with all of the room), at every mic or at
    `reference_mic` alone. mics_m: (mics, 3) and talkers_m: (talkers, 3), in metres in the room;
    None where they are not known. Signals are float32 at 16 kHz.
    """

    name: str
    mixture: Tensor
    images: Tensor
    mics_m: Tensor | None = None
    talkers_m: Tensor | None = None
    reference_mic: int = REFERENCE_MIC

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.mixture.shape[-1] / SAMPLE_RATE

    @property
    def reference(self) -> Tensor:
        """What enhancement is to give back, (samples,): all talkers at the reference mic."""
        return self.references.sum(0)

    @property
    def references(self) -> Tensor:
        """What separation is to give back, (talkers, samples): each at the reference mic."""
        return self.images[:, self.reference_mic if self.images.shape[1] > 1 else 0]

    def of_talker(self, talker: int) -> Clip:
        """The same mixture with one talker's truth alone."""
        one = slice(talker, talker + 1)
        where = None if self.talkers_m is None else self.talkers_m[one]
        return replace(self, images=self.images[one], talkers_m=where)

    def head(self, seconds: float) -> Clip:
        """The clip's beginning, or all of it where it is shorter."""
        end = round(seconds * SAMPLE_RATE)
        return replace(self, mixture=self.mixture[..., :end], images=self.images[..., :end])

    def heard_by(self, mics: Sequence[int]) -> Clip:
        """The clip as `mics` alone heard it, the first of them the reference mic.

        Raises ValueError for a mic that the clip does not have.
        """
        n_mics = len(self.mixture)
        if max(mics) >= n_mics:
            raise ValueError(f"expected mics from 0 to {n_mics - 1}, found {max(mics)}")
        return replace(
            self,
            mixture=self.mixture[list(mics)],
            images=self.images[:, list(mics)] if self.images.shape[1] > 1 else self.images,
            mics_m=None if self.mics_m is None else self.mics_m[list(mics)],
            reference_mic=0,
        )


Positions = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ClipFiles:
    """Where a clip lies, and the conditions it was made in: numbers or names."""

    name: str
    mixture: Path
    images: tuple[Path, ...]
    mics_m: Positions | None
    talkers_m: Positions | None
    conditions: Mapping[str, float | str]

    def load(self) -> Clip:
        """Read the audio; raises ValueError, naming the file, when it cannot be what it should."""
        mixture = read_audio(self.mixture)
        images = torch.stack([read_audio(path) for path in self.images])
        if images.shape[-1] != mixture.shape[-1]:
            raise ValueError(
                f"expected {self.images[0]} as long as its mixture, found "
                f"{images.shape[-1]} and {mixture.shape[-1]} samples"
            )
        if images.shape[1] not in (1, len(mixture)):
            raise ValueError(
                f"expected {self.images[0]} with 1 channel or {len(mixture)} like its mixture, "
                f"found {images.shape[1]}"
            )
        mics = None if self.mics_m is None else torch.tensor(self.mics_m)
        talkers = None if self.talkers_m is None else torch.tensor(self.talkers_m)
        return Clip(self.name, mixture, images, mics, talkers)

    def stamp(self) -> str:
        """Text that changes when the clip's files do."""
        stats = [(str(path), path.stat()) for path in (self.mixture, *self.images)]
        files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        return repr((self.name, self.mics_m, self.talkers_m, files))


def list_clips(
    dataset: str | Path, limit: int | None = None, images: str = "early"
) -> list[ClipFiles]:
    """The clips of a dataset, or the first `limit` of them, in the manifest's order.

    Each record needs `id` and `paths` with `mixture` and `images`, "early" or "image" (a file a
    talker), or "seglst", who said what in a meeting; positions and conditions are used where it has
    them.
    Raises ValueError for a dataset that is none, is empty, or lacks those images or files.
    """
    clips = [_clip(record, images) for record in read_manifest(dataset)]
    if not clips:
        raise ValueError(f"expected mixtures in {dataset}, found an empty manifest")
    if limit is not None and limit < 1:
        raise ValueError(f"expected a limit of at least 1, found {limit}")
    clips = clips[:limit]
    twice = [name for name, n in Counter(clip.name for clip in clips).items() if n > 1]
    if twice:
        raise ValueError(f"expected each clip once in {dataset}, found twice: {twice[0]}")
    _check_files(path for clip in clips for path in (clip.mixture, *clip.images))
    return clips


def _clip(record: Mapping[str, Any], images: str) -> ClipFiles:
    name = str(record.get("id", "?"))
    try:
        mics, talkers = _positions(record)
        truth = record["paths"][images]
        return ClipFiles(
            name=str(record["id"]),
            mixture=Path(record["paths"]["mixture"]),
            images=tuple(map(Path, [truth] if isinstance(truth, str) else truth)),
            mics_m=mics,
            talkers_m=talkers,
            conditions=_conditions(record),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected a mixture with its truth, found {error!r} in {name}") from None


def _positions(record: Mapping[str, Any]) -> tuple[Positions | None, Positions | None]:
    """Of mics and talkers, both or neither: in a measured room talkers have no known distance."""
    talkers = record.get("talkers") or [{}]
    known = all("position_m" in t and t.get("distance_m", 0) is not None for t in talkers)
    if not (known and record.get("mics_m")):
        return None, None
    mics = tuple(tuple(map(float, position)) for position in record["mics_m"])
    return mics, tuple(tuple(map(float, talker["position_m"])) for talker in talkers)


def _conditions(record: Mapping[str, Any]) -> dict[str, float | str]:
    """What is known of how a mixture was made; recordings may lack any of it."""
    found: dict[str, float | str] = {
        key: float(record[key]) for key in ("snr_db", "rt60_s") if record.get(key) is not None
    }
    if record.get("mics_m"):
        found["mics"] = float(len(record["mics_m"]))
    if record.get("array"):
        found["array"] = str(record["array"]["name"])
    if record.get("talkers"):
        found["talkers"] = float(len(record["talkers"]))
    return found


def _check_files(paths: Iterable[Path]) -> None:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ValueError(f"expected an audio file, found nothing at {missing[0]}{more}")


def read_audio(path: Path) -> Tensor:
    """An audio file as (channels, samples)."""
    x, rate = read_sound(path)
    if rate != SAMPLE_RATE or not len(x):
        raise ValueError(
            f"expected sound at {SAMPLE_RATE} Hz in {path}, found {len(x)} samples at {rate} Hz"
        )
    return torch.from_numpy(np.ascontiguousarray(x.T))
