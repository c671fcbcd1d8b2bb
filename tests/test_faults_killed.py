"""Killed without warning, or worked for by workers who are: the same command goes on.

`kill -9` of simulate, sweep, train and evaluate: test_cli_simulate_faults, test_sweep,
test_train_resume and test_evaluate. Workers of one machine: test_faults_workers.
"""

from __future__ import annotations

import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli import RATE, refused, run, succeeded, tree, voice, write
from faults import (
    SCENE,
    command,
    killed_when,
    needs,
    skip_where_done,
    started,
    wait_until,
    write_inputs,
)

from simulate import SceneConfig, write_dataset
from simulate.dataset import _make
from simulate.shards import complete
from simulate.workers import for_each

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills processes")


def frames(folder: Path) -> dict[str, int]:
    """The length of every sound file in a folder, each read to its end."""
    files = [p for p in folder.iterdir() if p.suffix in (".wav", ".flac") and p.name[0] != "."]
    return {path.name: len(soundfile.read(path)[0]) for path in files}


def batch(folder: Path, out: Path) -> list[object]:
    """The command line that enhances twenty recordings of 6 s in two workers."""
    long = write(folder / "long.wav", np.tile(voice(1), (4, 1)))
    files = [folder / f"{k}.wav" for k in range(20)]
    for file in files:
        file.symlink_to(long)
    return ["enhance", *files, "--model", "mono", "--out", f"{out}/", "--jobs", 2]


def test_a_killed_batch_has_whole_files_and_goes_on(tmp_path):
    out = tmp_path / "out"
    words = batch(tmp_path, out)
    killed_when(lambda: len(list(out.glob("[!.]*.wav"))) >= 2, *words)
    there = frames(out)
    assert 2 <= len(there) and set(there.values()) == {6 * RATE}
    kept = {name: (out / name).stat().st_mtime_ns for name in there}
    succeeded(*words[:-1], 1, "--resume")
    assert frames(out) == {f"{k}.enhanced.wav": 6 * RATE for k in range(20)}
    assert kept == {name: (out / name).stat().st_mtime_ns for name in there}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_batch_that_is_ended_from_outside_leaves_whole_files_and_no_words(tmp_path, number):
    """Nor do its workers leave anything, who find themselves alone."""
    out = tmp_path / "out"
    words = batch(tmp_path, out)
    process = started(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(list(out.glob("[!.]*.wav"))) >= 2, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=900)  # its workers share stderr, so until they end too
    if process.returncode == 0:
        pytest.skip("it was done before it could be ended")
    assert (process.returncode, said) == (-number, "")
    assert set(frames(out).values()) == {6 * RATE}
    assert len(frames(out)) == len(list(out.iterdir()))


@pytest.mark.parametrize("name", ["separate", "train"])
def test_a_folder_that_another_process_works_in_is_one_line(tmp_path, name):
    needs(name)
    words = command(name, write_inputs(tmp_path), tmp_path / "out")
    words[-3:-3] = ["steps=100000"] if name == "train" else []
    process = started(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    out = tmp_path / "out"
    begun = out / {"separate": ".partial/key", "train": "config.yaml"}[name]
    wait_until(begun.exists, process)
    process.send_signal(signal.SIGSTOP)
    held = begun.exists() and not (out / "segments.json").exists()
    result = run(*words)
    process.kill()
    process.wait()
    if not held:
        pytest.skip("it was done before it could be stopped")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "another process at work" in result.stderr


@pytest.mark.parametrize("name", ["simulate", "sweep", "evaluate", "separate"])
def test_ctrl_c_is_one_line_that_says_how_it_goes_on(tmp_path, monkeypatch, name):
    def press(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    needs(name)
    inputs = write_inputs(tmp_path)
    for place in ("simulate.dataset.complete", "clearbeam.evaluate.Ledger.find",
                  "clearbeam.separate.Job.run"):  # fmt: skip
        monkeypatch.setattr(place, press)
    result = run(*command(name, inputs, tmp_path / "out"))
    assert result.exit_code == 130
    assert result.stderr == "stopped; the same command goes on\n"


def test_ctrl_c_says_when_nothing_was_kept(tmp_path, monkeypatch):
    def press(*args: object) -> None:
        raise KeyboardInterrupt

    inputs = write_inputs(tmp_path)
    monkeypatch.setattr("clearbeam.evaluate.Ledger.find", press)
    result = run("evaluate", inputs / "data", "--system", "noisy", "--metrics", "si_sdr")
    assert (result.exit_code, result.stderr) == (130, "stopped; nothing is kept without --json\n")


def test_a_killed_meeting_goes_on_from_its_windows(tmp_path):
    meeting = write(tmp_path / "meeting.wav", np.tile(voice(2), (14, 1)))  # 21 s
    out = tmp_path / "out"
    words = ["separate", meeting, "--model", "spatial", "--talkers", 1, "--out", out,
             "--window", 4, "--hop", 3]  # fmt: skip
    done = lambda: len(list(out.glob(".partial/0*.npz")))  # noqa: E731
    killed_when(lambda: done() >= 2, *words, result=out / "segments.json")
    windows = {path: path.stat().st_mtime_ns for path in out.glob(".partial/0*.npz")}
    assert windows and [path.name for path in out.iterdir()] == [".partial"]
    killed_when(lambda: done() > len(windows), *words, result=out / "segments.json")
    assert windows == {path: path.stat().st_mtime_ns for path in windows}
    succeeded(*words)
    assert frames(out) == {"talker1.flac": 21 * RATE}
    assert {path.name for path in out.iterdir()} == {
        "talker1.flac", "segments.json", "segments.rttm",
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_killed_stream_leaves_no_file_and_the_next_one_nothing_else(tmp_path, suffix):
    out, pcm = tmp_path / f"live{suffix}", bytes(2 * 2 * 4 * RATE)  # more than a pipe holds
    words = ["stream", "--mics", 2, "--model", "mono", "--backend", "torch", "--out", out]
    nowhere = subprocess.DEVNULL
    process = started(*words, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, bufsize=0)
    wait_until(lambda: tree(tmp_path), process)
    assert process.stdin is not None
    process.stdin.write(pcm)  # comes back when most of it has been heard
    process.kill()
    skip_where_done(process)
    process.stdin.close()
    (left,) = tree(tmp_path)
    assert left.startswith(".live.") and ".partial" in left
    write(tmp_path / "in.wav", voice(2, seconds=0.1))
    succeeded("stream", "--in", tmp_path / "in.wav", *words[3:])
    assert tree(tmp_path) == {"in.wav", out.name}


def test_results_are_announced_when_all_of_them_are_there(tmp_path):
    """`segments.json` says that a meeting is done, so it comes last: no kill leaves it alone."""
    import clearbeam.talker_files as talkers

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
