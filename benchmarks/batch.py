# ruff: noqa: E402
"""Many recordings through `clearbeam enhance`, by one process and by several.

    python benchmarks/batch.py [RECORDING ...] [--jobs 1 --jobs 2] [--count 12]

Without recordings, `count` mixtures of the scene `quickstart` are made. Time on the clock counts
from the command's start to its end; processor time is that of all processes, so it says what a
machine with nothing else to do would need. The files of all runs must have the same bytes. What
reading and writing take is measured beside: the same files, the first microphone of each as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

# A file beside this one has the name of a package, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

import hashlib
import os
import subprocess
import tempfile
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from clearbeam.audio import Recording, resample, write_audio
from simulate import SceneConfig, read_manifest, write_dataset

RATE = 16_000


def mixtures(folder: Path, count: int) -> list[Path]:
    """Simulated recordings of six microphones."""
    write_dataset(SceneConfig.load("quickstart"), folder, count, seed=0)
    return [Path(record["paths"]["mixture"]) for record in read_manifest(folder)]


def enhanced(inputs: list[Path], out: Path, jobs: int) -> tuple[float, float]:
    """Seconds on the clock and of the processors that the command takes."""
    command = [sys.executable, "-m", "clearbeam", "enhance", *map(str, inputs)]
    start, before = time.perf_counter(), os.times()
    subprocess.run(
        [*command, "--out", f"{out}/", "--jobs", str(jobs)], check=True, stdout=subprocess.DEVNULL
    )
    clock, after = time.perf_counter() - start, os.times()
    spent = after.children_user + after.children_system
    return clock, spent - before.children_user - before.children_system


def copied(inputs: list[Path], out: Path) -> float:
    """Seconds of the processor for reading and writing alone."""
    start = time.process_time()
    for number, path in enumerate(inputs):
        heard = Recording([path])
        blocks = resample(heard.blocks(), heard.sample_rate, RATE)
        back = resample((block[:1] for block in blocks), RATE, heard.sample_rate)
        first = (block[0] for block in back)
        write_audio(out / f"{number}.flac", first, heard.sample_rate, "PCM_16")
    return time.process_time() - start


def digest(folder: Path) -> str:
    """Of all files' names and bytes."""
    parts = (path.name.encode() + path.read_bytes() for path in sorted(folder.iterdir()))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def main(
    recordings: Annotated[list[Path] | None, typer.Argument()] = None,
    jobs: Annotated[list[int] | None, typer.Option()] = None,
    count: int = 12,
) -> None:
    """Measure and print the table."""
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = recordings or mixtures(folder / "mixtures", count)
        if not recordings:  # which all have one name
            inputs = [path.rename(folder / f"{k}.flac") for k, path in enumerate(inputs)]
        seconds = sum(Recording([path]).seconds or 0 for path in inputs)
        table = Table(title=f"{len(inputs)} recordings, {seconds:.0f} s of audio")
        for column in ("jobs", "clock (s)", "processor (s)", "times real time", "bytes"):
            table.add_column(column)
        digests = []
        for n in jobs or [1, 2]:
            clock, spent = enhanced(inputs, folder / f"out{n}", n)
            digests.append(digest(folder / f"out{n}"))
            same = "the same" if digests[-1] == digests[0] else "others"
            speed = f"{seconds / clock:.1f}"
            table.add_row(str(n), f"{clock:.1f}", f"{spent:.1f}", speed, same)
        console.print(table)
        plain = copied(inputs, folder / "copies")
        console.print(f"reading and writing alone: {plain:.2f} s of the processor")


if __name__ == "__main__":
    typer.run(main)
