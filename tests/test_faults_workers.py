"""A worker is killed, as for memory: the command ends with one line, and the next one goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from cli import succeeded, voice, write
from faults import SCENE, said_when_a_worker_is_killed

from clearbeam.training import peers
from simulate import SceneConfig, write_dataset

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills processes")
TRAIN = ("batch=2", "steps=60", "valid_every=1000", "save_every=1", "log_every=1", "clips=1",
         "data.seconds=0.5", "compiled_layers=false")  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    config = SceneConfig.model_validate(SCENE | {"array": {"names": ["laptop_2mic"]}})
    return write_dataset(config, tmp_path_factory.mktemp("mixtures"), count=12).parent


def some(folder: Path, pattern: str) -> Callable[[], object]:
    """Whether there are files of that name."""
    return lambda: any(folder.glob(pattern))


def finished(folder: Path, pattern: str) -> dict[Path, int]:
    """When files of that name were written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob(pattern)}


def test_of_simulate_and_whole_mixtures_stay(tmp_path):
    (tmp_path / "scene.yaml").write_text(yaml.safe_dump(SCENE))
    words = ["simulate", tmp_path / "scene.yaml", "--count", 40, "--out", tmp_path / "out"]
    records = "0*/0*/record.json"
    said = said_when_a_worker_is_killed(some(tmp_path / "out", records), *words, "--jobs", 2)
    assert len(said) == 1 and "the same command goes on from here" in said[0]
    kept = finished(tmp_path / "out", records)
    assert kept and not (tmp_path / "out" / "manifest.jsonl").exists()
    succeeded(*words)
    assert kept.items() <= finished(tmp_path / "out", records).items()
    assert len((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()) == 40


def test_of_evaluate_and_scored_clips_stay(data, tmp_path):
    out, ledger = tmp_path / "scores.json", tmp_path / "scores.clips.jsonl"
    words = ["evaluate", data, "--system", "noisy", "--system", "oracle-mvdr", "--metrics",
             "si_sdr,stoi", "--json", out]  # fmt: skip
    said = said_when_a_worker_is_killed(ledger.exists, *words, "--jobs", 2)
    assert len(said) == 1 and "the same command goes on from here" in said[0]
    kept = ledger.read_text()
    assert kept and not out.exists()
    succeeded(*words)
    assert ledger.read_text().startswith(kept) and out.is_file()
    assert len(ledger.read_text().splitlines()) == 12 * 2


def test_of_evaluate_that_keeps_nothing_as_soon_as_it_is_started(data):
    words = ["evaluate", data, "--system", "noisy", "--metrics", "si_sdr,stoi"]
    said = said_when_a_worker_is_killed(lambda: True, *words, "--jobs", 2)
    assert len(said) == 1 and "nothing is kept without --json: do it again, with" in said[0]


def test_of_sweep_and_what_was_simulated_and_scored_stays(tmp_path):
    pytest.importorskip("pyarrow")
    sweep = {"scene": "scene.yaml", "grid": {"snr_db": [0, 5, 10, 20]}, "systems": ["noisy"],
             "metrics": ["si_sdr"], "count": 4}  # fmt: skip
    for name, content in (("scene", SCENE), ("sweep", sweep)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    out, records = tmp_path / "out", "points/*/0*/0*/record.json"
    words = ["sweep", tmp_path / "sweep.yaml", "--out", out]
    said = said_when_a_worker_is_killed(some(out, records), *words, "--jobs", 2)
    assert len(said) == 1 and "the same command goes on from here" in said[0]
    kept = finished(out, records)
    assert kept and not (out / "results.parquet").exists()
    succeeded(*words)
    assert kept.items() <= finished(out, records).items()
    assert (out / "results.parquet").is_file() and len(finished(out, records)) == 4 * 4


def test_of_enhance_and_it_is_told_to_resume(tmp_path):
    x = np.tile(voice(1), (2, 1))
    files = [write(tmp_path / f"{k}.wav", x) for k in range(12)]
    out = tmp_path / "out"
    words = ["enhance", *files, "--model", "mono", "--out", f"{out}/"]
    said = said_when_a_worker_is_killed(some(out, "[!.]*.wav"), *words, "--jobs", 2)
    assert len(said) == 1 and "the same command with --resume goes on" in said[0]
    kept = finished(out, "[!.]*.wav")
    assert kept
    succeeded(*words, "--resume")
    assert kept.items() <= finished(out, "*.wav").items()
    assert {len(soundfile.read(path)[0]) for path in out.iterdir()} == {len(x)}
    assert len(list(out.iterdir())) == len(files), "what the killed one left is gone"


def test_of_train_that_loads_clips_and_the_checkpoint_stays(data, tmp_path):
    pytest.importorskip("lightning")
    import torch

    out = tmp_path / "run"
    words = ["train", "mask", *TRAIN, "data.workers=1", f"data.train={data}", f"data.valid={data}",
             f"data.cache={tmp_path / 'cache'}", "--out", out]  # fmt: skip
    log = out / "log.jsonl"
    said = said_when_a_worker_is_killed(lambda: log.is_file() and '"step": 3,' in log.read_text(),
                                        *words)  # fmt: skip
    # The signal may meet Python where it can only tell of an error, so there may be more lines.
    assert said[-1].startswith("error: ")
    assert "the same command goes on from the last checkpoint" in said[-1]
    assert torch.load(out / "last.ckpt", weights_only=True)["step"] >= 2
    assert not list(out.glob(".*.partial*"))


def die(rank: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_of_train_that_shares_gradients_as_soon_as_they_are_missed():
    with pytest.raises(ChildProcessError, match="goes on from the last checkpoint"):
        with peers.beside(2, die):
            (process,) = multiprocessing.active_children()
            process.join()
            raise RuntimeError("what a step says that waits for the gradients of others")


def test_of_train_that_shares_gradients_when_nobody_would_miss_it_for_long(monkeypatch):
    """A process that dies before the others have found it is waited for, by them, half an hour."""
    ended = threading.Event()
    codes: list[int] = []
    monkeypatch.setattr(peers, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(peers, "_GRACE_S", 0.01)
    monkeypatch.setattr(peers.os, "_exit", lambda code: codes.append(code) or ended.set())
    with peers.beside(2, die):
        ended.wait(60)
    assert codes[0] == 2


def lack(rank: int) -> None:
    raise ValueError(f"expected a clip, found none in process {rank}")


def test_what_only_another_process_finds_wrong_is_what_is_said(capfd):
    with pytest.raises(ValueError, match=r"^expected a clip, found none in process 1$"):
        with peers.beside(2, lack):
            (process,) = multiprocessing.active_children()
            process.join()
            raise RuntimeError("what a step says that waits for the gradients of others")
    assert capfd.readouterr().err == ""


def test_what_all_processes_find_wrong_is_said_once(capfd):
    with pytest.raises(ValueError, match=r"found none in process 0$"):
        with peers.beside(2, lack):
            lack(0)
    assert capfd.readouterr().err == ""


def test_an_error_of_a_process_that_shares_the_work_stays_itself():
    with pytest.raises(RuntimeError, match=r"^of this one$"):
        with peers.beside(1, die):
            raise RuntimeError("of this one")
