"""Hours of streaming, a thousand files, a file of hours, and eight streams at once.

    python benchmarks/load.py [stream silence files hours streams] [--hours 8] [--files 1000]
        [--file-hours 4] [--streams 8] [--seconds 60] [--out rows.jsonl]

Every part prints its rows and adds them to the file as one JSON object a line, with how much
processor time the host took from this machine meanwhile. Parts that are named run, else all.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import torch
import typer

from multichannel import Enhancer

RATE, HOP = 16_000, 256
HOP_S = HOP / RATE
TALKERS = Path(__file__).parents[1] / "simulate" / "talkers"
Row = dict[str, Any]


def mixture(n_mics: int, seconds: float, seed: int = 0) -> np.ndarray:
    """A built-in talker, later at each mic, in noise: float32 ``(mics, samples)``."""
    speech, _ = soundfile.read(TALKERS / "slt1.flac", dtype="float32")
    n_samples = round(seconds * RATE)
    speech = np.resize(speech, n_samples)
    noise = np.random.default_rng(seed).standard_normal((n_mics, n_samples), np.float32)
    return np.stack([np.roll(speech, 2 * m) for m in range(n_mics)]) + 0.02 * noise


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def stolen_s() -> float:
    """Processor seconds that the host gave to others since it started, of all processors."""
    ticks = Path("/proc/stat").read_text().split("\n")[0].split()[8]
    return int(ticks) / os.sysconf("SC_CLK_TCK")


# ------------------------------------------------------------------------- one stream, many hours


def long_stream(hours: float, n_mics: int = 2) -> Row:
    """As fast as it goes; ten minutes of sound again and again, with its pauses."""
    stream = Enhancer.from_pretrained("default", device="cpu").stream(n_mics)
    x = torch.from_numpy(mixture(n_mics, 600))
    chunks = x.split(16 * HOP, -1)
    n_chunks = round(hours * 3600 * RATE / chunks[0].shape[-1])
    n_out, after_a_minute, most = 0, 0.0, 0.0
    start = time.process_time()
    for i in range(n_chunks):
        n_out += stream.step(chunks[i % (len(chunks) - 1)]).shape[-1]
        if i * chunks[0].shape[-1] >= 60 * RATE:
            memory = resident_mb()
            after_a_minute, most = after_a_minute or memory, max(most, memory)
    seconds = time.process_time() - start
    lag = stream.n_in - n_out
    n_out += stream.flush().shape[-1]
    return {
        "mics": n_mics,
        "hours": round(stream.n_in / RATE / 3600, 3),
        "rtf": round(seconds / (stream.n_in / RATE), 4),
        "memory_mb_after_a_minute": round(after_a_minute, 1),
        "growth_percent": round(100 * (most / after_a_minute - 1), 3),
        "lag_samples": lag,
        "samples_in_minus_out": stream.n_in - n_out,
    }


def silent_frames(minutes: float = 10, n_mics: int = 2) -> Row:
    """Milliseconds of a frame of speech, of silence after it, of noise that is hardly there, and of
    speech after the silence: medians, processor time."""
    stream = Enhancer.from_pretrained("default", device="cpu").stream(n_mics)
    speech = torch.from_numpy(mixture(n_mics, 20))
    n_silent = round(minutes * 60 * RATE)
    tiny = 1e-30 * torch.randn(n_mics, 20 * RATE, generator=torch.Generator().manual_seed(0))
    parts = {"speech": speech, "silence": torch.zeros(n_mics, 1).expand(-1, n_silent)}
    parts |= {"speech_again": speech, "noise_1e_30": tiny, "speech_at_last": speech}
    row: Row = {"mics": n_mics, "silence_minutes": minutes}
    for name, x in parts.items():
        times = []
        for chunk in x.split(HOP, -1):
            start = time.thread_time()
            y = stream.step(chunk)
            times.append(time.thread_time() - start)
            assert torch.isfinite(y).all()
        row[f"{name}_ms"] = round(1e3 * float(np.median(times[-1000:])), 4)
    return row


# ------------------------------------------------------------------------------------ many files


def clearbeam(*args: object) -> list[str]:
    return [sys.executable, "-m", "clearbeam", *map(str, args)]


def many_files(n_files: int, seconds: float = 1.0) -> Row:
    """A batch that is killed half way and resumed; every output must be there, of its length."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch) / "in", Path(scratch) / "out"
        folder.mkdir()
        x = mixture(2, seconds + 1).T
        for k in range(n_files):
            soundfile.write(folder / f"{k:04d}.wav", x[k % RATE :][: round(seconds * RATE)], RATE)
        command = clearbeam("enhance", *sorted(folder.iterdir()), "--out", f"{out}/", "--resume")
        start = time.monotonic()
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while first.poll() is None and len([*out.glob("[!.]*.wav")]) < n_files // 2:
            time.sleep(0.05)
        first.kill()
        first.wait()
        n_first = len([*out.glob("[!.]*.wav")])
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        names = {path.name for path in out.iterdir()}
        hidden = {name for name in names if name.startswith(".")}
        lengths = {soundfile.info(out / name).frames for name in names - hidden}
    expected = {f"{k:04d}.enhanced.wav" for k in range(n_files)}
    return {
        "files": n_files,
        "seconds_each": seconds,
        "done_when_killed": n_first,
        "missing": len(expected - names),
        "left_over": len(names - expected - hidden),
        "hidden_by_the_kill": len(hidden),
        "lengths_right": lengths == {round(seconds * RATE)},
        "wall_s": round(time.monotonic() - start, 1),
    }


def long_file(hours: float, n_mics: int = 2) -> Row:
    """One recording of hours through `clearbeam enhance`."""
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "long.wav", Path(scratch) / "clean.wav"
        x, n_samples = mixture(n_mics, 600).T, round(hours * 3600 * RATE)
        with soundfile.SoundFile(source, "w", RATE, n_mics, "PCM_16") as file:
            for at in range(0, n_samples, len(x)):
                file.write(x[: n_samples - at])
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(clearbeam("enhance", source, "--out", target), check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        n_out = soundfile.info(target).frames
    return {
        "mics": n_mics,
        "hours": hours,
        "samples_in_minus_out": n_samples - n_out,
        "peak_memory_mb": round(after.ru_maxrss / 1024, 1),
        "rtf": round(seconds / (hours * 3600), 4),
    }


# -------------------------------------------------------------------------------- streams at once


def paced(n_mics: int, seconds: float, ready: Any, results: Any) -> None:
    """One stream at the pace of its sound; how late each frame was done, in seconds."""
    torch.set_num_threads(1)
    stream = Enhancer.from_pretrained("default", device="cpu").stream(n_mics)
    x = torch.from_numpy(mixture(n_mics, 10))
    chunks = x.split(HOP, -1)
    for chunk in chunks[:20]:
        stream.step(chunk)
    ready.wait()  # for the others
    late, used, start = [], time.process_time(), time.monotonic()
    for i in range(round(seconds / HOP_S)):
        due = start + i * HOP_S
        time.sleep(max(0.0, due - time.monotonic()))
        stream.step(chunks[i % (len(chunks) - 1)])
        late.append(time.monotonic() - due)
    results.put((late, time.process_time() - used))


def streams_at_once(n_streams: int, seconds: float, n_mics: int = 6) -> Row:
    """Each at its own pace. A frame more than 16 ms late is done when the next has begun; more than
    48 ms late, and a device that keeps three frames runs dry."""
    context = multiprocessing.get_context("spawn")
    results, ready = context.Queue(), context.Barrier(n_streams)
    job = (n_mics, seconds, ready, results)
    streams = [context.Process(target=paced, args=job) for _ in range(n_streams)]
    for one in streams:
        one.start()
    found = [results.get() for _ in streams]
    for one in streams:
        one.join()
    late = np.array([times for times, _ in found])
    p50, p99 = np.percentile(1e3 * late, [50, 99])
    n_late = (late > HOP_S).sum(0)  # streams, of each frame
    together = (n_late[n_late > 0] > n_streams / 2).mean() if n_late.any() else 0.0
    return {
        "streams": n_streams,
        "mics": n_mics,
        "seconds": seconds,
        "cores": os.cpu_count(),
        "load_of_two_cores": round(sum(used for _, used in found) / seconds / 2, 3),
        "late_ms_p50": round(p50, 2),
        "late_ms_p99": round(p99, 2),
        "late_ms_max": round(1e3 * late.max(), 1),
        "later_than_a_frame_percent": round(100 * float((late > HOP_S).mean()), 3),
        "of_those_most_streams_at_once_percent": round(100 * float(together), 1),
        "later_than_three_percent": round(100 * float((late > 3 * HOP_S).mean()), 3),
    }


def main(
    parts: Annotated[list[str] | None, typer.Argument()] = None,
    hours: float = 8,
    files: int = 1000,
    file_hours: float = 4,
    streams: int = 8,
    seconds: float = 60,
    out: Path = Path("load.jsonl"),
) -> None:
    """Measure; see the top of the file."""
    torch.set_num_threads(1)
    jobs: dict[str, Callable[[], Row]] = {
        "stream": lambda: long_stream(hours),
        "silence": silent_frames,
        "files": lambda: many_files(files),
        "hours": lambda: long_file(file_hours),
        "streams": lambda: streams_at_once(streams, seconds),
    }
    unknown = set(parts or []) - set(jobs)
    if unknown or shutil.which("c++") is None:
        raise typer.BadParameter(f"expected {', '.join(jobs)} and a C++ compiler, found {unknown}")
    for name in parts or jobs:
        stolen, start = stolen_s(), time.monotonic()
        row = {"part": name, **jobs[name]()}
        row["wall_s"] = round(time.monotonic() - start, 1)
        row["stolen_s"] = round(stolen_s() - stolen, 1)
        typer.echo("\n".join(f"{key:28} {value}" for key, value in row.items()) + "\n")
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    typer.run(main)
