"""What a shorter latency costs: live streams of the shipped networks, scored.

    python benchmarks/latency.py DATASET [--latency 32 --latency 20] [--limit 50]

DATASET is a data set of `clearbeam simulate` with early images. One thread, the compiled engine,
reference mic 0; once with all mics and once with the reference mic alone.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# A file beside this one has the name of a package, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import Tensor

from clearbeam.clips import list_clips
from clearbeam.console import progress
from clearbeam.metrics import pesq_wb, si_sdr, stoi
from clearbeam.scores import Score
from clearbeam.tables import Table
from multichannel import Enhancer

METRICS = {"SI-SDR (dB)": si_sdr, "PESQ-WB": pesq_wb, "STOI": stoi}


def live(enhancer: Enhancer, x: Tensor) -> Tensor:
    """What comes out of a stream of ``x (mics, samples)``."""
    stream = enhancer.stream(len(x), reference_mic=0, backend="native")
    return torch.cat([stream.step(x), stream.flush()])


def main(
    dataset: Path,
    latency: Annotated[list[float], typer.Option()] = [32, 20],  # noqa: B006
    limit: int = 50,
) -> None:
    """Score, and print a table of means and half the width of their 95% intervals."""
    torch.set_num_threads(1)
    enhancers = {ms: Enhancer.from_pretrained("default", "cpu", latency_ms=ms) for ms in latency}
    scores: dict[tuple[str, float], list[Score]] = {}
    with progress() as bar:
        for files in bar.track(list_clips(dataset, limit), description="streams"):
            clip = files.load()
            truth = clip.reference.numpy()
            for mics, x in (("all", clip.mixture), ("1", clip.mixture[:1])):
                for ms, enhancer in enhancers.items():
                    y = live(enhancer, x).numpy()
                    found = [
                        Score((clip.name,), (metric(y, truth),)) for metric in METRICS.values()
                    ]
                    before = scores.get((mics, ms), [Score()] * len(found))
                    scores[mics, ms] = [a + b for a, b in zip(before, found, strict=True)]
    rows = [[mics, f"{ms:g} ms", *map(told, row)] for (mics, ms), row in scores.items()]
    Console().print(Table(dataset.name, ["mics", "latency", *METRICS], rows).to_markdown())


def told(score: Score) -> str:
    low, high = score.interval()
    return f"{score.mean:.3f} ± {(high - low) / 2:.3f}"


if __name__ == "__main__":
    typer.run(main)
