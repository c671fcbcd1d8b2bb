"""Killed without warning, or worked for by workers who are: the same command goes on.

`kill -9` of simulate, sweep, train and evaluate: test_cli_simulate_faults, test_sweep,
test_train_resume and test_evaluate.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli import RATE, refused, succeeded, voice, write

from simulate import SceneConfig, write_dataset
from simulate.dataset import _make
from simulate.shards import complete
from simulate.workers import for_each

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills processes")
SCENE = {"method": "fast", "duration_s": 0.5, "room": {"rt60_s": 0.2}, "references": ["early"]}


def kill_when(there: Path, pattern: str, enough: int, *args: object) -> None:
    """Run the command and, as soon as so many files are there, kill it and all its workers.

    Skips the test where the command was done by then, as on a machine that left this process no
    time.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "clearbeam", *map(str, args)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and len(list(there.glob(pattern))) < enough:
        time.sleep(0.01)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        pytest.skip("it was done before it could be killed")


def frames(folder: Path) -> dict[str, int]:
    """The length of every sound file in a folder, each read to its end."""
    files = [p for p in folder.iterdir() if p.suffix in (".wav", ".flac") and p.name[0] != "."]
    return {path.name: len(soundfile.read(path)[0]) for path in files}


def test_a_killed_batch_has_whole_files_and_goes_on(tmp_path):
    long = write(tmp_path / "long.wav", np.tile(voice(1), (4, 1)))
    files = [tmp_path / f"{k}.wav" for k in range(20)]
    for file in files:
        file.symlink_to(long)
    out = tmp_path / "out"
    words = ["enhance", *files, "--model", "mono", "--out", f"{out}/", "--jobs", 2]
    kill_when(out, "[!.]*.wav", 2, *words)
    there = frames(out)
    assert 2 <= len(there) and set(there.values()) == {6 * RATE}
    kept = {name: (out / name).stat().st_mtime_ns for name in there}
    succeeded(*words[:-1], 1, "--resume")
    assert frames(out) == {f"{k}.enhanced.wav": 6 * RATE for k in range(20)}
    assert kept == {name: (out / name).stat().st_mtime_ns for name in there}


def test_a_killed_meeting_goes_on_from_its_windows(tmp_path):
    meeting = write(tmp_path / "meeting.wav", np.tile(voice(2), (14, 1)))  # 21 s
    out = tmp_path / "out"
    words = ["separate", meeting, "--model", "spatial", "--talkers", 1, "--out", out,
             "--window", 4, "--hop", 3]  # fmt: skip
    kill_when(out, ".partial/0*.npz", 2, *words)
    windows = {path: path.stat().st_mtime_ns for path in out.glob(".partial/0*.npz")}
    assert windows and [path.name for path in out.iterdir()] == [".partial"]
    kill_when(out, ".partial/0*.npz", len(windows) + 1, *words)
    assert windows == {path: path.stat().st_mtime_ns for path in windows}
    succeeded(*words)
    assert frames(out) == {"talker1.flac": 21 * RATE}
    assert {path.name for path in out.iterdir()} == {
        "talker1.flac", "segments.json", "segments.rttm",
    }  # fmt: skip


def test_results_are_announced_when_all_of_them_are_there(tmp_path):
    """`segments.json` says that a meeting is done, so it comes last: no kill leaves it alone."""
    import clearbeam.talkers as talkers

    made, folder = tmp_path / "made", tmp_path / "out"
    made.mkdir()
    folder.mkdir()
    files = [made / "talker1.flac", made / "talker2.flac"]
    for file in (*files, made / "segments.rttm", made / "segments.json"):
        file.touch()
    order = []
    replace = Path.replace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", lambda p, to: order.append(to.name) or replace(p, to))
        talkers.publish(talkers.Talkers(files, [], None), folder)
    assert order[-1] == "segments.json" and len(order) == 4


def dying_once(mark: Path, config: SceneConfig, out: Path, seed: int, index: int) -> None:
    """Makes a mixture; the first worker who is asked for number 1 is killed while at it."""
    if index == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    _make(config, out, seed, index)


def die(item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=":0"
    ) as made:
        yield made


def test_a_dask_worker_that_is_killed_leaves_no_gap(tmp_path, cluster):
    config = SceneConfig.model_validate(SCENE)
    make = partial(dying_once, tmp_path / "killed")
    complete(make, config, tmp_path / "broken", 3, cluster=cluster.scheduler_address)
    write_dataset(config, tmp_path / "whole", 3)
    assert (tmp_path / "killed").exists()
    whole, broken = (
        {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        for out in (tmp_path / "whole", tmp_path / "broken")
    )
    assert broken == whole


def test_dask_workers_who_all_die_are_one_clear_line(cluster):
    with pytest.raises(ChildProcessError, match="the same command goes on from here"):
        list(for_each(die, [0], cluster=cluster.scheduler_address))


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("simulate.workers._CONNECT_S", 0.2)
    refused("127.0.0.1", "simulate", "quickstart", "--count", 1, "--out", tmp_path / "out",
            "--cluster", "tcp://127.0.0.1:9")  # fmt: skip
    assert not list((tmp_path / "out").glob("0*"))
