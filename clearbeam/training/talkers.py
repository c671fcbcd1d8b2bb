"""Training clips with every talker apart, mixed anew each time one is asked for.

A clip of a data set holds the images of its talkers and the rest, at all microphones. As long as
nobody moves, the same room and array give many other mixtures: other levels, other moments of each
talker beside those of the others, one talker fewer, another reference, fewer microphones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.lib.format import open_memmap

from multichannel.data import LEVEL, Clip, samples_of
from separation.features import N_PAIRS, chosen_mics
from simulate.disk import allocate
from simulate.sound_files import read_sound

_MIX = 9  # first number of a generator's seed: how a clip is mixed
_FULL_SCALE = 32767
_INAUDIBLE = 1e-3  # a talker 60 dB below the mixture
_TALKER_DB, _NOISE_DB = 4.0, 6.0  # levels change by up to so much
_FEWER = 0.1  # how often a talker is left out where there are several
_ROLLED = 0.7  # how often talkers are moved in time


class Apart(Protocol):
    """Clips whose parts are apart."""

    @property
    def lengths(self) -> np.ndarray | None:
        """Number of samples of each clip; None where clips are endless."""

    def parts(self, index: int) -> np.ndarray:
        """``(talkers + 1, mics, samples)``: the talkers' images and, last, the rest."""


class PackedTalkers:
    """Parts of the clips of a folder that `pack_talkers` made.

    Args:
        folder: holds ``parts.npy`` (16-bit samples of all clips, one after the other) and
            ``index.npy (clips, 4)``: first sample, parts, mics, samples of each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = np.load(folder / "index.npy")
        self.lengths = self.index[:, 3]
        self.all = np.load(folder / "parts.npy", mmap_mode="r")

    def __reduce__(self) -> tuple:  # another process opens the files again
        return PackedTalkers, (self.folder,)

    def parts(self, index: int) -> np.ndarray:
        start, *shape = (int(v) for v in self.index[index])
        return self.all[start : start + int(np.prod(shape))].reshape(shape)


class DrawnTalkers:
    """Parts of the endless mixtures of a scene.

    Args:
        scene: what to draw from.
        seed: of the mixtures.
    """

    lengths: np.ndarray | None = None

    def __init__(self, scene: object, seed: int) -> None:
        self.scene, self.seed = scene, seed

    def parts(self, index: int) -> np.ndarray:
        from simulate.dataset import draw_mixture

        mixture, _ = draw_mixture(self.scene, self.seed, index)  # type: ignore[arg-type]
        return np.concatenate([mixture.image, mixture.noise[None]])


def pack_talkers(records: Sequence[dict], folder: Path) -> None:
    """Write the parts of the clips of `records` to `folder`, each clip at full scale in 16 bits.

    Raises ValueError where the data set does not hold the images of all talkers at all microphones.
    """
    shapes = []
    for record in records:
        n_talkers, n_mics = len(record["talkers"]), len(record["array"]["positions_m"])
        shapes.append((n_talkers + 1, n_mics, samples_of(record)))
    sizes = np.prod(shapes, axis=1, dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    parts = open_memmap(folder / "parts.npy", "w+", np.int16, (int(starts[-1]),))
    allocate(folder / "parts.npy")
    for row, record in enumerate(records):
        clip = _read(record, shapes[row])
        scale = _FULL_SCALE / max(float(np.abs(clip).max()), 1e-9)
        parts[starts[row] : starts[row + 1]] = np.round(clip * scale).ravel()
    np.save(folder / "index.npy", np.column_stack([starts[:-1], shapes]))


def _read(record: dict, shape: tuple[int, int, int]) -> np.ndarray:
    files = [*(record["paths"].get("image") or []), record["paths"]["mixture"]]
    clip = [read_sound(path)[0].T for path in files]
    found = [x.shape for x in clip]
    if found != [shape[1:]] * shape[0]:
        raise ValueError(
            f"expected an image of each talker at all {shape[1]} microphones in {record['id']} "
            f"(references: [image], reference_mics: all), found {len(found) - 1} of "
            f"{found[0][0]} microphones"
        )
    parts = np.stack(clip)
    parts[-1] -= parts[:-1].sum(0)
    return parts


class Remixed:
    """Clips ``mixture (mics, samples)``, ``early (n_talkers, samples)`` of parts.

    The latter are what is wanted: the talkers as the reference microphone, mic 0, hears them with
    all of the room, and silence for those who are missing. There are at most so many microphones as
    a network listens to.

    Args:
        source: of parts.
        n_talkers: images of a clip; further talkers are part of the rest.
        seed: of chance; None mixes each clip as it was recorded.
        times: how often each clip of the source is in this one, each time mixed anew.
        all_mics: keep those that the network does not listen to, and mix with more of them.
    """

    def __init__(
        self,
        source: Apart,
        n_talkers: int,
        seed: int | None = None,
        times: int = 1,
        all_mics: bool = False,
    ) -> None:
        self.source, self.n_talkers, self.seed, self.all_mics = source, n_talkers, seed, all_mics
        self.lengths = None if source.lengths is None else np.tile(source.lengths, times)

    def clip(self, index: int) -> Clip:
        lengths = self.source.lengths
        parts = self.source.parts(index if lengths is None else index % len(lengths))
        if self.seed is None:
            mics = range(parts.shape[1]) if self.all_mics else chosen_mics(parts.shape[1])
            parts = parts[:, mics].astype(np.float32)
        else:
            rng = np.random.default_rng([_MIX, self.seed, index])
            parts = mixed_anew(parts, rng, parts.shape[1] if self.all_mics else 1 + N_PAIRS)
        return _clip(parts, self.n_talkers)


def mixed_anew(parts: np.ndarray, rng: np.random.Generator, n_mics: int) -> np.ndarray:
    """Parts of another mixture in the same room, at up to so many of the microphones, rather many
    than few."""
    order = rng.permutation(parts.shape[1])
    parts = parts[:, order[: rng.integers(1, 1 + n_mics, 2).max()]].astype(np.float32)
    n_talkers, n_samples = len(parts) - 1, parts.shape[-1]
    gains_db = rng.uniform(-1, 1, len(parts)) * np.append(np.full(n_talkers, _TALKER_DB), _NOISE_DB)
    parts *= np.float32(10 ** (gains_db / 20))[:, None, None]
    if n_talkers > 1 and rng.random() < _FEWER:
        parts[rng.integers(n_talkers)] = 0
    if rng.random() < _ROLLED:
        for talker in range(n_talkers):
            parts[talker] = np.roll(parts[talker], int(rng.integers(n_samples)), axis=-1)
    return parts


def _clip(parts: np.ndarray, n_talkers: int) -> Clip:
    """A clip whose mic 0 has an RMS of `LEVEL`; whoever is inaudible is silent."""
    mixture, heard = parts.sum(0), parts[:-1, 0]
    rms = [float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (mixture[0], *heard)]
    images = np.zeros((n_talkers, parts.shape[-1]), np.float32)
    audible = [k for k in range(len(heard)) if rms[1 + k] > _INAUDIBLE * rms[0]][:n_talkers]
    images[: len(audible)] = heard[audible]
    scale = np.float32(LEVEL / max(rms[0], 1e-6))
    return {"mixture": mixture * scale, "early": images * scale}
