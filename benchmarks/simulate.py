"""One scene by a plain pyroomacoustics script and by ours, and how two processes help.

    python benchmarks/simulate.py [--rounds 3] [--mixtures 8]

A 5 x 4 x 3 m room, 6 microphones on a circle, 3 talkers of 4 s. The systems take turns, and each
row is the median of its rounds in processor time of one thread, so only ratios within a run count.
The last table is the wall clock of a data set made by one process and by two.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# This file has the name of the package that it measures, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

import tempfile
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from scipy.signal import fftconvolve

from simulate import SceneConfig, load_array, write_dataset
from simulate.rooms import room_impulse_responses

FS = 16000
ROOM_M = np.array([5.0, 4.0, 3.0])
TALKERS_M = np.array([[1.0, 1.0, 1.6], [4.0, 1.2, 1.5], [2.2, 3.3, 1.7]])
ARRAY_M = np.array([2.6, 1.9, 1.0])

System = Callable[[float, np.ndarray, np.ndarray], np.ndarray]


def plain(rt60_s: float, mics_m: np.ndarray, dry: np.ndarray) -> np.ndarray:
    """What the library's own tutorial does: images at the microphones (talkers, mics, samples)."""
    import pyroomacoustics as pra

    absorption, order = pra.inverse_sabine(rt60_s, ROOM_M)
    room = pra.ShoeBox(ROOM_M, fs=FS, materials=pra.Material(absorption), max_order=order)
    for position, signal in zip(TALKERS_M, dry, strict=True):
        room.add_source(position, signal=signal)
    room.add_microphone_array(mics_m.T)
    images = room.simulate(return_premix=True)
    return images[..., : dry.shape[-1]]


def ours(method: str) -> System:
    def run(rt60_s: float, mics_m: np.ndarray, dry: np.ndarray) -> np.ndarray:
        rir = room_impulse_responses(ROOM_M, rt60_s, TALKERS_M, mics_m, method=method, fs=FS)
        return fftconvolve(dry[:, None], rir, axes=-1)[..., : dry.shape[-1]]

    return run


def main(rounds: int = 3, mixtures: int = 8) -> None:
    """Measure and print the tables."""
    console = Console()
    systems: dict[str, System] = {
        "plain pyroomacoustics": plain,
        "ours, exact": ours("exact"),
        "ours, fast": ours("fast"),
    }
    one_thread()
    mics_m = load_array("circular_6mic").as_array() + ARRAY_M
    dry = np.random.default_rng(0).standard_normal((len(TALKERS_M), 4 * FS))
    for rt60_s in (0.3, 0.6):
        times = measure(systems, rt60_s, mics_m, dry, rounds)
        slowest = median(times["plain pyroomacoustics"])
        table = Table(title=f"RT60 {rt60_s:g} s: 6 microphones x 3 talkers, rooms and convolution")
        for column in ("system", "median s", "times as fast"):
            table.add_column(column, justify="left" if column == "system" else "right")
        for name, seconds in times.items():
            table.add_row(name, f"{median(seconds):.3f}", f"{slowest / median(seconds):.1f}")
        console.print(table)
    console.print(over_processes(mixtures))


def one_thread() -> None:
    import pyroomacoustics as pra

    pra.constants.set("num_threads", 1)


def measure(
    systems: dict[str, System],
    rt60_s: float,
    mics_m: np.ndarray,
    dry: np.ndarray,
    rounds: int,
) -> dict[str, list[float]]:
    """Seconds of processor time of every system in every round."""
    times: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, system in systems.items():
            start = time.process_time()
            system(rt60_s, mics_m, dry)
            times[name].append(time.process_time() - start)
    return times


def over_processes(mixtures: int) -> Table:
    """Wall clock of an exact data set, its first mixture (and every import) left out."""
    config = SceneConfig.model_validate(
        {
            "room": {"length_m": 5, "width_m": 4, "height_m": 3, "rt60_s": 0.4},
            "talkers": {"count": 3},
            "method": "exact",
        }
    )
    table = Table(title=f"{mixtures} mixtures of a data set, wall clock after the first one")
    for column in ("processes", "s a mixture", "times as fast"):
        table.add_column(column, justify="right")
    one = 0.0
    for jobs in (1, 2):
        seconds = seconds_a_mixture(config, mixtures, jobs)
        one = one or seconds
        table.add_row(str(jobs), f"{seconds:.2f}", f"{one / seconds:.2f}")
    return table


def seconds_a_mixture(config: SceneConfig, mixtures: int, jobs: int) -> float:
    """From the time when every process has begun to work; interpreters start only once."""
    clock: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(
            config,
            Path(folder) / "data",
            mixtures + jobs,
            jobs=jobs,
            progress=lambda done, _: clock.append((done, time.perf_counter())),
        )
    begun = dict(clock)[jobs]
    return (clock[-1][1] - begun) / mixtures


if __name__ == "__main__":
    # Worker processes import this file again, and must not begin a benchmark of their own.
    sys.exit(typer.run(main))
