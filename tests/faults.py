"""What is done to commands: real ones, killed as soon as something is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli import voice, write

from simulate import SceneConfig, write_dataset

COMMANDS = (
    "enhance", "separate", "meeting", "simulate", "sweep", "train", "evaluate", "stream",
)  # fmt: skip
SCENE = {"method": "fast", "duration_s": 0.5, "room": {"rt60_s": 0.2}, "references": ["early"]}
TRAIN = ("batch=2", "steps=3", "valid_every=2", "save_every=1", "log_every=1", "clips=1",
         "data.seconds=0.5", "compiled_layers=false")  # fmt: skip


def started(*args: object, **options: object) -> subprocess.Popen:
    """The command, at work in a session of its own."""
    words = [sys.executable, "-m", "clearbeam", *map(str, args)]
    return subprocess.Popen(words, start_new_session=True, **options)  # type: ignore[call-overload]


def wait_until(there: Callable[[], object], process: subprocess.Popen) -> None:
    """Return as soon as something is there, or the process has ended."""
    while process.poll() is None and not there():
        time.sleep(0.01)


def killed_when(there: Callable[[], object], *args: object, result: Path | None = None) -> None:
    """Run the command and kill it, and all its workers, when something is there.

    Skips the test where the command was done by then, or its result there, as on a machine that
    left this process no time.
    """
    nowhere = subprocess.DEVNULL
    process = started(*args, stdout=nowhere, stderr=nowhere)
    wait_until(there, process)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    skip_where_done(process, result)


def skip_where_done(process: subprocess.Popen, result: Path | None = None) -> None:
    """Skip the test where a process that was killed had ended by then, or had its result."""
    if process.wait() == 0 or (result is not None and result.exists()):
        pytest.skip("it was done before it could be killed")
    assert process.returncode == -signal.SIGKILL


def said_when_a_worker_is_killed(there: Callable[[], object], *args: object) -> list[str]:
    """Run the command, kill one of its workers when something is there: its lines on stderr.

    Skips where there are no workers any more, and where the system does not tell who they are.
    """
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs to know whose child a process is")
    process = started(*args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: there() and workers_of(process.pid), process)
    for worker in workers_of(process.pid)[:1]:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    _, words = process.communicate(timeout=900)  # it is long over, or never
    if process.returncode == 0:
        pytest.skip("it was done before a worker could be killed")
    assert process.returncode == 2, words
    return words.splitlines()


def workers_of(pid: int) -> list[int]:
    """The children of a process, but for the one that tidies up after them."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(n) for task in tasks for n in (task / "children").read_text().split()]
        told = {n: Path(f"/proc/{n}/cmdline").read_bytes() for n in children}
    except OSError:  # one ended meanwhile
        return []
    return [n for n, words in told.items() if b"clearbeam" in words or b"spawn_main" in words]


def write_inputs(folder: Path) -> Path:
    """What the commands work on: recordings, a scene, a sweep, a data set."""
    for k in range(4):
        write(folder / f"{k}.wav", np.tile(voice(2, seed=k), (2, 1)), subtype="FLOAT")
    write(folder / "short.wav", voice(1, seconds=1.0))
    write(folder / "meeting.wav", np.tile(voice(2), (14, 1)))  # 21 s
    (folder / "scene.yaml").write_text(yaml.safe_dump(SCENE))
    sweep = {"scene": "scene.yaml", "grid": {"snr_db": [0, 10]}, "systems": ["noisy"],
             "metrics": ["si_sdr"], "count": 2}  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    config = SceneConfig.model_validate(SCENE | {"array": {"names": ["laptop_2mic"]}})
    write_dataset(config, folder / "data", count=4)
    return folder


def command(name: str, inputs: Path, out: Path) -> list[object]:
    """The command line of a command that works into `out`."""
    data = inputs / "data"
    sources = [inputs / f"{k}.wav" for k in range(4)]
    return {
        "enhance": ["enhance", *sources, "--model", "mono", "--resume", "--out", f"{out}/"],
        "separate": ["separate", sources[0], "--model", "spatial", "--talkers", 1, "--out", out],
        "meeting": ["separate", inputs / "meeting.wav", "--model", "spatial", "--talkers", 1,
                    "--window", 4, "--hop", 3, "--out", out],
        "simulate": ["simulate", inputs / "scene.yaml", "--count", 6, "--out", out],
        "sweep": ["sweep", inputs / "sweep.yaml", "--out", out],
        "train": ["train", "mask", *TRAIN, f"data.train={data}", f"data.valid={data}",
                  f"data.cache={inputs / 'cache'}", "--out", out],
        "evaluate": ["evaluate", data, "--system", "noisy", "--metrics", "si_sdr",
                     "--json", out / "scores.json"],
        "stream": ["stream", "--in", inputs / "short.wav", "--model", "mono", "--backend", "torch",
                   "--out", out / "live.wav"],
    }[name]  # fmt: skip


def needs(name: str) -> None:
    if name == "train":
        pytest.importorskip("lightning")
    if name == "sweep":
        pytest.importorskip("pyarrow")
