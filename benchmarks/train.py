"""Training speed: a plain PyTorch loop over the published GTCRN, ours, and ours on two processes.

    python benchmarks/train.py [--steps 12] [--rounds 3] [--batch 8] [--seconds 4]

The first table is one process on one thread. The systems take turns step by step, and each number
is the median of its steps in processor time, so that what else the machine does counts little.
`plain` is the paper's network layer by layer, torch.stft and Adam; `ours, by hand` the layers and
losses of clearbeam in a bare loop; `ours` is what `clearbeam train` runs, Lightning included.

The second table runs the real command on one process and on two, in turns: audio-seconds a second
by the clock, which needs a processor for each that nobody else uses, and by processor time.

With a CUDA device there is a table of it too, by the clock.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# benchmarks/simulate.py has the name of a package, and this folder stands first where Python looks.
HERE = Path(__file__).resolve().parent
sys.path = [str(HERE.parent), *(place for place in sys.path if Path(place).resolve() != HERE)]

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import lightning.pytorch as pl
import numpy as np
import soundfile
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks._published_gtcrn import PublishedGTCRN
from clearbeam.training.config import TrainConfig
from clearbeam.training.module import Training
from clearbeam.training.run import make_trainer, prepare_cpu, quiet
from clearbeam.training.tasks import make_task

FS = 16_000
LOSSES = {"compressed_spectral": 1.0, "si_snr": 1.0}
Step = Callable[[dict[str, torch.Tensor]], Any]


class PlainLoop:
    """What the published code does in a step: its network, its loss, Adam."""

    def __init__(self, device: torch.device) -> None:
        self.net = PublishedGTCRN().to(device).train()
        self.optimiser = torch.optim.Adam(self.net.parameters(), 1e-3)
        self.window = torch.hann_window(512, device=device).sqrt()

    def __call__(self, batch: dict[str, torch.Tensor]) -> None:
        X = self.stft(batch["mixture"][:, 0])
        loss = self.loss(self.net(X), self.stft(batch["early"]))
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 3.0)
        self.optimiser.step()

    def stft(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stft(x, 512, 256, window=self.window, return_complex=True)

    def loss(self, S: torch.Tensor, R: torch.Tensor) -> torch.Tensor:
        s_mag, r_mag = (torch.sqrt(X.real**2 + X.imag**2 + 1e-12) for X in (S, R))
        real = (S.real / s_mag**0.7 - R.real / r_mag**0.7).pow(2).mean()
        imag = (S.imag / s_mag**0.7 - R.imag / r_mag**0.7).pow(2).mean()
        magnitude = (s_mag**0.3 - r_mag**0.3).pow(2).mean()
        s, r = (torch.istft(X, 512, 256, window=self.window) for X in (S, R))
        r = (s * r).sum(-1, keepdim=True) * r / (r.pow(2).sum(-1, keepdim=True) + 1e-8)
        noise = (s - r).pow(2).sum(-1) + 1e-8
        si_snr = -torch.log10(r.pow(2).sum(-1) / noise + 1e-8).mean()
        return 30 * (real + imag) + 70 * magnitude + si_snr


class ByHand:
    """Our layers and losses in a bare loop."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        task = make_task(config)
        self.module = Training(config, task)
        self.module.net.to(device)
        self.task = task.to(device)

    def __call__(self, batch: dict[str, torch.Tensor]) -> None:
        loss, _ = self.module.losses(self.module.net, batch)
        self.module.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.learned, 3.0)
        self.module.optimiser.step()


class InTurns(pl.Callback):
    """Times the steps of a trainer, and after each of them a step of every rival."""

    def __init__(self, rivals: dict[str, Step], clock: Callable[[], float]) -> None:
        self.rivals, self.clock = rivals, clock
        self.times: dict[str, list[float]] = {name: [] for name in ("ours", *rivals)}

    def on_train_start(self, *_: Any) -> None:
        self.since = self.clock()

    def on_train_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, i: int) -> None:
        self.times["ours"].append(self.clock() - self.since)
        for name, rival in self.rivals.items():
            started = self.clock()
            rival(batch)
            self.times[name].append(self.clock() - started)
        self.since = self.clock()


def noise_batch(batch: int, seconds: float) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    early = 0.1 * torch.randn(batch, round(seconds * FS), generator=generator)
    noise = 0.1 * torch.randn(early.shape, generator=generator)
    return {"mixture": (early + noise)[:, None], "early": early}


def config_of(batch: int, steps: int, device: str) -> TrainConfig:
    network = {"normalise": True, "compression": 0.5}
    data = {"train": "none", "valid": "none"}
    return TrainConfig(
        name="benchmark", task="mask", network=network, data=data, losses=LOSSES,
        batch=batch, steps=steps, device=device,
    )  # fmt: skip


def side_by_side(batch: int, seconds: float, steps: int, kind: str) -> dict[str, float]:
    """Audio-seconds a second of each system: the median of its steps, two for warming up aside."""
    device = torch.device(kind)
    config = config_of(batch, steps + 2, kind)
    if kind == "cpu":
        prepare_cpu(config)

    def clock() -> float:
        if kind == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    rivals = {"plain": PlainLoop(device), "ours, by hand": ByHand(config, device)}
    turns = InTurns(rivals, clock)
    batches = [noise_batch(batch, seconds)] * config.steps
    with quiet():
        trainer = make_trainer(config, device, 0, [turns])
        loader = torch.utils.data.DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
        trainer.fit(Training(config, make_task(config)), loader)
    audio_s = batch * seconds
    return {name: audio_s / median(times[2:]) for name, times in turns.times.items()}


def write_clips(folder: Path, count: int, seconds: float) -> None:
    """A data set of noise, as `clearbeam simulate` lays one out."""
    rng = np.random.default_rng(0)
    with (folder / "manifest.jsonl").open("w") as manifest:
        for k in range(count):
            names = (f"mixture{k}.flac", f"early{k}.flac")
            for name in names:
                x = 0.1 * rng.standard_normal((round(seconds * FS), 1))
                soundfile.write(folder / name, x, FS)
            paths = {"mixture": names[0], "early": [names[1]]}
            array = {"positions_m": [[0, 0, 0]]}
            record = {"id": str(k), "paths": paths, "fs": FS, "seconds": seconds, "array": array}
            manifest.write(json.dumps(record) + "\n")


def run_command(data: Path, out: Path, processes: int, batch: int, steps: int) -> tuple[float, ...]:
    """Median speeds that the command logs: by the clock, and by processor time a process."""
    words = ["train", "mask", f"data.train={data}", f"data.valid={data}", f"steps={steps}"]
    words += [f"batch={batch * processes}", f"processes={processes}", "clips=0", "device=cpu"]
    words += ["log_every=1", "--out", str(out)]
    command = [sys.executable, "-m", "clearbeam", *words]
    subprocess.run(command, check=True, capture_output=True)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps_seen = [line for line in lines if "loss" in line][2:]
    return tuple(median(line[key] for line in steps_seen) for key in
                 ("audio_s_per_s", "audio_s_per_cpu_s"))  # fmt: skip


def main(steps: int = 12, rounds: int = 3, batch: int = 8, seconds: float = 4.0) -> None:
    torch.set_num_threads(1)
    console = Console(width=120)
    for kind in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        speeds = side_by_side(batch, seconds, steps, kind)
        unit = "processor time of one thread" if kind == "cpu" else "wall clock"
        table = Table(title=f"{kind}: {batch} x {seconds:g} s, audio-seconds a second of {unit}")
        for column in ("system", "speed", "times plain"):
            table.add_column(column, justify="left" if column == "system" else "right")
        for name in ("plain", "ours, by hand", "ours"):
            table.add_row(name, f"{speeds[name]:.1f}", f"{speeds[name] / speeds['plain']:.2f}")
        console.print(table)

    found: dict[int, list[tuple[float, ...]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        write_clips(data, 2 * batch, seconds)
        for turn in range(rounds):
            for processes, speeds_found in found.items():
                out = Path(folder) / f"run{turn}-{processes}"
                speeds_found.append(run_command(data, out, processes, batch, steps))
    table = Table(title="clearbeam train, one thread a process: audio-seconds a second, medians")
    for column in ("processes", "wall clock", "times one", "processor time", "times one"):
        table.add_column(column, justify="right")
    medians = {
        n: [median(column) for column in zip(*rows, strict=True)] for n, rows in found.items()
    }
    for n, (wall, cpu) in medians.items():
        ratios = wall / medians[1][0], cpu / medians[1][1]
        table.add_row(str(n), f"{wall:.1f}", f"{ratios[0]:.2f}", f"{cpu:.1f}", f"{ratios[1]:.2f}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
