"""Clips with what the spatial mixture model makes of all their microphones, kept.

A cache is a folder of arrays, one row a clip: ``mixture.npy`` and ``early.npy`` in float16,
``shares.npy (clips, classes, frames, freqs)`` in 256 steps, ``lengths.npy`` in samples. Clips that
are shorter, or have fewer microphones, end in zeros, as one that is silent.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from clearbeam.training.config import TrainConfig
from clearbeam.training.sources import completed, digest, file_digest
from clearbeam.training.talkers import Remixed
from multichannel.data import Clip
from multichannel.stft import STFT
from separation.coarse import N_CLASSES, coarse_shares, loudest_shares
from separation.features import N_PAIRS, chosen_mics
from separation.running import LIVE_LONG, running_shares
from separation.separate import Separator, SeparatorConfig
from separation.weights import find_separation, load_separation
from separation.wiener import LONG

_ARRAYS = ("mixture", "early", "shares")


class Guided:
    """Clips ``mixture``, ``early`` of a source, with ``shares (classes, freqs, frames)``.

    Args:
        source: of clips with all their microphones.
        causal: the shares are those of a live stream, which in every other clip has heard the clip
            before.
        before: network of the separator's first pass, what came of which every third clip is shown.

    Raises:
        ValueError: `before` is no network of separation.
    """

    def __init__(
        self, source: Remixed, causal: bool = False, before: str | Path | None = None
    ) -> None:
        self.source, self.lengths, self.causal = source, source.lengths, causal
        self.stft, self.long = STFT(), STFT(LIVE_LONG if causal else LONG)
        self.before, self.first = before, None
        if before is not None:
            once = SeparatorConfig(n_passes=1, n_beams=1)
            self.first = Separator(load_separation(before), config=once).eval()

    def clip(self, index: int) -> Clip:
        clip = self.source.clip(index)
        x = torch.from_numpy(clip["mixture"])
        shares = self._shares(x, index)
        return {**clip, "mixture": clip["mixture"][chosen_mics(len(x))], "shares": shares.numpy()}

    def _shares(self, x: Tensor, index: int) -> Tensor:
        if self.first is not None and index % 3 == 2 and len(x) > 1:
            streams = self.first(x, self.source.n_talkers)
            return loudest_shares(self.stft(torch.cat([streams, x[:1] - streams.sum(0)])))
        if not self.causal:
            return coarse_shares(x, self.stft, self.long, seed=index)
        before = x[:, x.shape[-1] % self.stft.config.hop :][:, : x.shape[-1] * (index % 2)]
        shares = running_shares(torch.cat([before, x], -1), self.stft, self.long, seed=index)
        return shares[..., before.shape[-1] // self.stft.config.hop :]


class KeptGuided:
    """Such clips read from a cache; only the rows asked for are loaded.

    Args:
        folder: made by `create_guided` and `write_guided`.
    """

    def __init__(self, folder: Path) -> None:
        self.arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        self.lengths = np.load(folder / "lengths.npy")
        self.config = STFT().config

    def clip(self, index: int) -> Clip:
        n_samples = int(self.lengths[index])
        n_frames = self.config.n_frames(n_samples)
        mixture, early = (
            self.arrays[name][index, :, :n_samples].astype(np.float32)
            for name in ("mixture", "early")
        )
        shares = self.arrays["shares"][index, :, :n_frames].astype(np.float32) / 255
        return {"mixture": mixture, "early": early, "shares": shares.swapaxes(-1, -2)}


def is_guided(folder: Path) -> bool:
    """Whether a folder holds such clips."""
    return (folder / "shares.npy").is_file()


def kept_guided(guided: Guided, name: str, cache: Path, config: TrainConfig) -> KeptGuided:
    """All clips of a source, whose parts are known by `name`; a broken cache is completed."""
    source, lengths = guided.source, guided.lengths
    assert lengths is not None
    facts = [name, source.n_talkers, source.seed, len(lengths), *["causal"] * guided.causal]
    if guided.before is not None:
        facts.append(file_digest(find_separation(guided.before)))
    create = partial(create_guided, lengths=lengths, n_talkers=source.n_talkers)
    folder = cache / f"guided-{digest(facts)}"
    work = partial(_write_row, guided)
    return KeptGuided(completed(folder, len(lengths), create, work, config))


def create_guided(folder: Path, lengths: np.ndarray, n_talkers: int) -> None:
    """Arrays with a row for each clip of ``lengths (clips,)`` samples; `folder` exists."""
    config, longest = STFT().config, int(lengths.max())
    frames_and_freqs = (config.n_frames(longest), config.n_freqs)
    shapes = {
        "mixture": (np.float16, (1 + N_PAIRS, longest)),
        "early": (np.float16, (n_talkers, longest)),
        "shares": (np.uint8, (N_CLASSES, *frames_and_freqs)),
    }
    for name, (kind, shape) in shapes.items():
        open_memmap(folder / f"{name}.npy", "w+", kind, (len(lengths), *shape))
    np.save(folder / "lengths.npy", lengths.astype(np.int64))


def write_guided(folder: Path, row: int, clip: Clip) -> None:
    """Put a clip of `Guided` into a cache; several processes may."""
    clip = {**clip, "shares": np.round(clip["shares"].swapaxes(-1, -2) * 255)}
    for name in _ARRAYS:
        array = np.load(folder / f"{name}.npy", mmap_mode="r+")
        array[row][tuple(map(slice, clip[name].shape))] = clip[name]


def _write_row(source: Guided, folder: Path, row: int) -> int:
    torch.set_num_threads(1)
    write_guided(folder, row, source.clip(row))
    return row
