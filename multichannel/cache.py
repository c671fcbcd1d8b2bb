"""What the second network sees of a clip, kept, so that training it never waits for the first.

A cache is a folder of three arrays, one row a clip, at a mixture level of RMS 0.1:
``spectra.npy`` (beam, reference mic and, of a second beam, the estimate it aims at; real,
imaginary) in float16, ``cues.npy`` (presence, gain) in
256 steps, ``early.npy``, the wanted waveform in float16. Frames come before freqs. Where clips
differ in length, ``lengths.npy`` has their samples, and rows end in zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap

from multichannel.data import Clip
from multichannel.passes import front_end_frames
from multichannel.stft import STFTConfig
from multichannel.weights import load_gtcrn

_ARRAYS = ("spectra", "cues", "early")


def is_cache(folder: Path) -> bool:
    """Whether a folder holds front-end outputs."""
    return (folder / "spectra.npy").is_file()


class CachedClips:
    """Clips after the front-end, read from a cache; only the rows asked for are loaded.

    Args:
        folder: made by `create_cache` and `write_row`.
        limit: first clips only.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self.arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        n_clips, n_samples = self.arrays["early"].shape
        lengths = folder / "lengths.npy"
        known = np.load(lengths) if lengths.is_file() else np.full(n_clips, n_samples)
        self.lengths = known[:limit]
        self.config = STFTConfig()
        self.n_spectra = self.arrays["spectra"].shape[1]

    def clip(self, index: int) -> Clip:
        """``spectra (2 or 3, freqs, frames)``, ``cues (2, ...)``, ``early (samples,)``."""
        n_samples = int(self.lengths[index])
        n_frames = self.config.n_frames(n_samples)
        parts = torch.from_numpy(np.array(self.arrays["spectra"][index, :, :, :n_frames])).float()
        cues = torch.from_numpy(np.array(self.arrays["cues"][index, :, :n_frames])).float() / 255
        return {
            "spectra": torch.complex(parts[:, 0], parts[:, 1]).mT.numpy(),
            "cues": cues.mT.numpy(),
            "early": self.arrays["early"][index][:n_samples].astype(np.float32),
        }


class FrontEnd:
    """Clips after the front-end, from their waveforms.

    Args:
        mono: weights of the mask network, by name or path.
        before: weights of the networks of the passes before, if any.
        causal_every: every n-th clip has the recursive beam, the others the look-ahead one; 0 is
            none.
        config: of the networks' transform.
    """

    def __init__(
        self,
        mono: str | Path,
        before: Sequence[str | Path] = (),
        causal_every: int = 3,
        config: STFTConfig | None = None,
    ) -> None:
        self.mono, self.before = load_gtcrn(mono), [load_gtcrn(net) for net in before]
        self.causal_every, self.config = causal_every, config

    def __call__(self, clip: Clip, index: int) -> Clip:
        """What `CachedClips` would give of clip number `index`."""
        causal = bool(self.causal_every) and index % self.causal_every == self.causal_every - 1
        mixture = torch.from_numpy(clip["mixture"])
        frames = front_end_frames(self.mono, self.before, mixture, causal, self.config)
        estimate = [] if frames.estimate is None else [frames.estimate]
        spectra = torch.stack([frames.beam, frames.reference, *estimate])
        return {"spectra": spectra.numpy(), "cues": frames.cues.numpy(), "early": clip["early"]}


def create_cache(folder: Path, lengths: np.ndarray, n_spectra: int = 2) -> None:
    """Arrays with a row for each clip of ``lengths (clips,)`` samples; `folder` exists."""
    config = STFTConfig()
    longest = int(lengths.max())
    size = (config.n_frames(longest), config.n_freqs)
    shapes = {"spectra": (n_spectra, 2, *size), "cues": (2, *size), "early": (longest,)}
    types = {"spectra": np.float16, "cues": np.uint8, "early": np.float16}
    for name, shape in shapes.items():
        open_memmap(folder / f"{name}.npy", "w+", types[name], (len(lengths), *shape))
    np.save(folder / "lengths.npy", lengths.astype(np.int64))


def write_row(folder: Path, row: int, clip: Clip) -> None:
    """Put a clip that went through a `FrontEnd` into a cache; several processes may."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in _ARRAYS}
    n_frames, n_samples = clip["spectra"].shape[-1], clip["early"].shape[-1]
    X = clip["spectra"].swapaxes(-1, -2)
    arrays["spectra"][row, :, :, :n_frames] = np.stack([X.real, X.imag], axis=1)
    arrays["cues"][row, :, :n_frames] = np.round(clip["cues"].swapaxes(-1, -2) * 255)
    arrays["early"][row, :n_samples] = clip["early"]
