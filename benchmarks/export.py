# ruff: noqa: E402
"""Exported files: bytes, scores and milliseconds a frame in ONNX Runtime, one thread.

    python benchmarks/export.py [DATASET] [--model default] [--mics 6] [--clips 8]

The files run frame by frame on the first clips of DATASET (without one, of mixtures of the scene
`quickstart`); ranges of static int8 come from 2 s each of the two clips after them.
"""

from __future__ import annotations

import sys
from pathlib import Path

# A file beside this one has the name of a package, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

import tempfile
import time
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from clearbeam.clips import list_clips
from clearbeam.export import check
from clearbeam.export.export import Job, export
from clearbeam.export.onnx_file import OnnxStep
from clearbeam.metrics import pesq_wb, si_sdr
from multichannel import STFT
from simulate import SceneConfig, write_dataset

RATE = 16_000


def enhanced(file: OnnxStep, x: torch.Tensor, times: list[float]) -> torch.Tensor:
    """The talker in ``x (mics, samples)``, and how long each frame took."""

    def timed(*inputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        start = time.thread_time()
        output = file(*inputs)
        times.append(time.thread_time() - start)
        return output

    return STFT().inverse(check.by_file(timed, [STFT()(x)]), x.shape[-1])


def main(
    dataset: Annotated[Path | None, typer.Argument()] = None,
    model: str = "default",
    mics: int = 6,
    clips: Annotated[int, typer.Option(help="How many are scored.")] = 8,
) -> None:
    """Measure and print the table."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        if dataset is None:
            write_dataset(SceneConfig.load("quickstart"), dataset := Path(made), clips + 2, seed=0)
        found = [clip.load() for clip in list_clips(dataset, clips + 2)]
    heard = [clip.mixture[:mics, : 2 * RATE].float() for clip in found[clips:]]
    table = Table(title=f"{model}, {mics} microphones, {clips} clips, one thread")
    for column in ("file", "bytes", "SI-SDR (dB)", "PESQ-WB", "ms a frame", "SNR to the model"):
        table.add_column(column)
    kinds = {"onnx": None, "int8-weights": None, "int8": None, "int8, static": heard}
    with tempfile.TemporaryDirectory() as folder:
        for name, ranges in kinds.items():
            path = Path(folder) / "file.onnx"
            done = export(Job(model, name.partition(",")[0], "pipeline", mics), path, ranges)
            scores, times = [], []
            for clip in found[:clips]:
                y = enhanced(OnnxStep(path.read_bytes()), clip.mixture[:mics].float(), times)
                reference = clip.reference.numpy()
                scores.append((si_sdr(y.numpy(), reference), pesq_wb(y.numpy(), reference)))
            means = np.mean(scores, axis=0)
            row = (f"{means[0]:.2f}", f"{means[1]:.3f}", f"{1e3 * np.median(times):.2f}")
            table.add_row(name, str(done.n_bytes), *row, f"{done.agreement.snr_db:.1f} dB")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
