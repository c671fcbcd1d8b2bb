"""Front-end outputs of a data set, made once, so that training the second network never waits for
the first: ``python -m multichannel.cache --help``.

A cache is a folder of three arrays, one row a clip, at a mixture level of RMS 0.1:
``spectra.npy`` (beam, reference mic; real, imaginary) in float16, ``cues.npy`` (presence, gain) in
256 steps, ``early.npy``, the wanted waveform in float16. Frames come before freqs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
from numpy.lib.format import open_memmap
from torch import Tensor

from multichannel.data import read_clip, records_of
from multichannel.frontend import Beamed, FrontEndConfig, RecursiveBeam
from multichannel.gtcrn import GTCRN
from multichannel.lookahead import LookaheadBeam
from multichannel.memory import keep_freed_memory
from multichannel.stft import STFT
from multichannel.weights import load_gtcrn

_LEVEL = 0.1
_ARRAYS = ("spectra", "cues", "early")


class CachedClips:
    """Training clips read from a cache; only the rows asked for are loaded.

    Args:
        folder: made by `write_cache`.
    """

    def __init__(self, folder: Path) -> None:
        self.arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}

    def __len__(self) -> int:
        return len(self.arrays["early"])

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """``spectra (clips, 3, freqs, frames)``, ``cues (clips, 2, ...)``, ``early``."""
        rows = {name: torch.from_numpy(array[indices]) for name, array in self.arrays.items()}
        parts = rows["spectra"].float()
        X = torch.complex(parts[:, :, 0], parts[:, :, 1]).mT
        X = torch.cat([X, X[:, 1:] - X[:, :1]], dim=1)
        return {"spectra": X, "cues": rows["cues"].float().mT / 255, "early": rows["early"].float()}


@torch.no_grad()
def front_end_frames(net: GTCRN, stft: STFT, mixture: Tensor, causal: bool) -> Beamed:
    """All frames of a clip ``(mics, samples)`` after the front-end, seen from mic 0."""
    kind = RecursiveBeam if causal else LookaheadBeam
    beam = kind(net, stft, FrontEndConfig(), mixture.shape[0], reference_mic=0)
    n_samples = mixture.shape[-1]
    silence = torch.zeros(mixture.shape[0], 8 * stft.config.n_fft)
    ready = beam.step(torch.cat([mixture, silence], dim=-1)) + beam.flush()
    n_frames = stft.config.n_frames(n_samples)
    return Beamed(*(torch.cat(parts, -1)[..., :n_frames] for parts in zip(*ready, strict=True)))


def write_cache(rank: int, args: argparse.Namespace) -> None:
    """One process's share of the rows; the arrays are there already."""
    torch.set_num_threads(1)
    keep_freed_memory()
    records = records_of(args.data)[: args.limit]
    arrays = {name: np.load(args.out / f"{name}.npy", mmap_mode="r+") for name in _ARRAYS}
    net, stft = load_gtcrn(args.mono), STFT()
    for row in range(rank, len(records), args.processes):
        mixture, early = read_clip(records[row])
        scale = _LEVEL / max(float(np.sqrt(np.mean(np.square(mixture[0])))), 1e-6)
        causal = row % args.causal_every == args.causal_every - 1
        frames = front_end_frames(net, stft, torch.from_numpy(mixture * scale), causal)
        X = torch.view_as_real(torch.stack([frames.beam, frames.reference]).mT).movedim(-1, 1)
        arrays["spectra"][row] = X.numpy()
        arrays["cues"][row] = (frames.cues.mT * 255).round().numpy()
        arrays["early"][row] = early * scale
        if rank == 0 and row % 200 == 0:
            print(json.dumps({"row": row, "of": len(records)}), flush=True)


def create_arrays(folder: Path, n_clips: int, n_samples: int) -> None:
    config = STFT().config
    folder.mkdir(parents=True, exist_ok=True)
    size = (config.n_frames(n_samples), config.n_freqs)
    shapes = {"spectra": (2, 2, *size), "cues": (2, *size), "early": (n_samples,)}
    types = {"spectra": np.float16, "cues": np.uint8, "early": np.float16}
    for name, shape in shapes.items():
        open_memmap(folder / f"{name}.npy", "w+", types[name], (n_clips, *shape))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data set of `clearbeam simulate`")
    parser.add_argument("--mono", required=True, help="weights of the mask network")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cache")
    parser.add_argument("--limit", type=int, help="first clips only")
    parser.add_argument("--causal-every", type=int, default=3, help="every n-th clip is causal")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    records = records_of(args.data)[: args.limit]
    create_arrays(args.out, len(records), round(records[0]["seconds"] * records[0]["fs"]))
    mp.spawn(write_cache, (args,), nprocs=args.processes)


if __name__ == "__main__":
    main()
