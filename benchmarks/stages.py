"""Where the enhancer loses: each stage as it is, and with the truth in the place of one before it.

    python benchmarks/stages.py DATASET [--limit 40]

DATASET is a data set of `clearbeam simulate` with early images. Offline, one thread, reference
mic 0. "True mask" puts the early image in the place of what the mask network found, "true estimate"
in the place of what the first network found; "true magnitude" gives every bin of the second beam
the magnitude of the early image where that is smaller, which no network after that beam can pass.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# A file beside this one has the name of a package, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor

from clearbeam.clips import list_clips
from clearbeam.console import progress
from clearbeam.metrics import pesq_wb, si_sdr, stoi
from clearbeam.tables import Table
from multichannel import Enhancer
from multichannel.frontend import Beamed, MaskNetwork, spread_mics
from multichannel.lookahead import Listener
from multichannel.passes import Cleaner, offline_passes


def passes_over(
    enhancer: Enhancer, x: Tensor, s: Tensor, mics: Tensor, names: tuple[str, ...]
) -> Iterator[tuple[str, Tensor]]:
    """Waveforms of the beam and the network's output of each pass after estimates ``s``."""
    first = names[0] != "first"  # the first that is left out
    nets = enhancer.cleaners()[: len(names) + first]
    stft, config = enhancer.stft, enhancer.config
    listener = Listener(stft, config)
    heard, rest = listener.step(x, stft(x)), listener.flush(x[:, None, :0])
    passes = offline_passes(nets, listener, config, mics, 0)
    for name, net, one in zip(names, nets[first:], passes[first:], strict=True):
        one.before = None
        parts = one.frames(heard, s) + one.last_frames(rest, s[..., :0])
        kept = [[part for part in beamed if part is not None] for beamed in parts]
        frames = Beamed(*(torch.cat(part, -1) for part in zip(*kept, strict=True)))
        yield f"{name} beam", stft.inverse(frames.beam)
        s = stft.inverse(Cleaner(net).step(frames))
        yield f"{name} pass", s[0]


def stages(enhancer: Enhancer, mixture: Tensor, early: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Name and waveform of every stage."""
    stft, n_samples = enhancer.stft, mixture.shape[-1]
    pad = 4 * enhancer.config.beam_n_fft  # pushes the last samples through all windows
    x, e = (torch.nn.functional.pad(one, (0, pad)) for one in (mixture, early[None]))
    yield "reference mic", mixture[0]
    network = MaskNetwork(enhancer.mono, spread_mics(len(x), enhancer.config.mask_mics))
    s = stft.inverse(network.step(stft(x)), x.shape[-1])
    yield "mask network", s[0, :n_samples]
    both = ("first", "second")
    for name, y in passes_over(enhancer, x, s, network.mics, (*both, "third")):
        if name == "second beam":
            B, E = stft(y[:n_samples]), stft(early)
            magnitude = torch.minimum(B.abs(), E.abs())
            yield "second beam, true magnitude", stft.inverse(torch.polar(magnitude, B.angle()))
        yield name, y[:n_samples]
    mic = torch.tensor([0])
    for name, y in passes_over(enhancer, x, e, mic, both):
        yield f"true mask, {name}", y[:n_samples]
    for name, y in passes_over(enhancer, x, e, mic, both[1:]):
        yield f"true estimate, {name}", y[:n_samples]


@torch.no_grad()
def main(
    dataset: Annotated[Path, typer.Argument(help="data set with early images")],
    limit: Annotated[int | None, typer.Option(help="first clips only")] = None,
    model: Annotated[str, typer.Option(help="shipped name or file of weights")] = "default",
) -> None:
    torch.set_num_threads(1)
    enhancer = Enhancer.from_pretrained(model, device="cpu")
    scores: dict[str, list[tuple[float, ...]]] = {}
    with progress() as bar:
        for files in bar.track(list_clips(dataset, limit), description="stages"):
            clip = files.load()
            early = clip.reference
            for name, y in stages(enhancer, clip.mixture, early):
                y, truth = y[: len(early)].numpy(), early[: len(y)].numpy()
                found = (si_sdr(y, truth), pesq_wb(y, truth), stoi(y, truth))
                scores.setdefault(name, []).append(found)
    rows = []
    for name, values in scores.items():
        mean = np.nanmean(values, axis=0)
        rows.append([name, f"{mean[0]:.2f}", f"{mean[1]:.3f}", f"{mean[2]:.3f}"])
    n_clips = len(scores["reference mic"])
    table = Table(
        f"{dataset.name}: {n_clips} clips", ["system", "SI-SDR dB", "PESQ-WB", "STOI"], rows
    )
    Console().print(table.to_rich())


if __name__ == "__main__":
    typer.run(main)
