"""A killed run goes on as if nothing had happened, whatever moment it was killed at."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("lightning")

from training import SMALL, curve_of, train, write_small

from multichannel import kernels

RUN = ("steps=24", "valid_every=7", "save_every=4", "accumulate=2", "augment.gain.probability=0.5")


@pytest.fixture(scope="module", autouse=True)
def plain_layers():
    """Compiled layers are for this process alone while these tests run."""
    yield
    kernels._kernel = None


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("mixtures"))


def run_alone(
    data, out, *more: str, killed_at: int | None = None, by: signal.Signals = signal.SIGKILL
) -> tuple[int, str]:
    """The run by its command line, ended as soon as the log has the step `killed_at`.

    Returns its exit code and what it said.
    """
    words = [sys.executable, "-m", "clearbeam", "train", "mask", *SMALL, *RUN, *more]
    cache = data.with_name(f"{data.name}-cache")
    words += [f"data.train={data}", f"data.valid={data}", f"data.cache={cache}"]
    words += ["--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log = out / "log.jsonl"
    while killed_at is not None and process.poll() is None:
        if log.is_file() and f'"step": {killed_at},' in log.read_text():
            process.send_signal(by)
            break
        time.sleep(0.005)
    output = process.communicate()[0].decode()
    return process.returncode, output


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_ends_as_an_uninterrupted_one(data, tmp_path, processes):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    shared = (f"processes={processes}", f"batch={2 * processes}")
    assert run_alone(data, whole, *shared)[0] == 0
    code, output = run_alone(data, broken, *shared, killed_at=9)
    assert code in (0, -signal.SIGKILL), output
    step = torch.load(broken / "last.ckpt", weights_only=True)["step"]
    if step == 24:  # as on a machine that left this process no time
        pytest.skip("it was done before it could be killed")
    assert step >= 4
    code, output = run_alone(data, broken, *shared)
    assert code == 0, output
    assert curve_of(broken) == curve_of(whole)
    assert [line["step"] for line in curve_of(whole) if "loss" in line] == list(range(1, 25))
    for name in ("best", "last"):
        ours, theirs = (load_file(out / f"{name}.safetensors") for out in (broken, whole))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


def test_ctrl_c_ends_a_run_in_one_line(data, tmp_path):
    # far more steps than it can do before the signal comes
    run = tmp_path / "run"
    code, output = run_alone(data, run, "steps=5000", killed_at=2, by=signal.SIGINT)
    assert code == 130, output
    assert output.splitlines()[-1].startswith("stopped; the same command goes on")
    assert "Traceback" not in output


def test_what_a_torn_write_leaves_is_taken_back(data, tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    short = ("steps=4", "save_every=2", "valid_every=3")
    assert train("mask", data, whole, *short).exit_code == 0
    assert train("mask", data, torn, *short).exit_code == 0
    state = torch.load(torn / "last.ckpt", weights_only=True)
    assert state["step"] == 4
    (torn / ".last.ckpt.part").write_bytes(b"torn")
    with (torn / "log.jsonl").open("a") as log:
        log.write('{"step": 5, "loss": 1.0}\n{"step": 6, "lo')
    assert train("mask", data, torn, *short).exit_code == 0  # has nothing left to do
    assert (
        load_file(torn / "last.safetensors").keys() == load_file(whole / "last.safetensors").keys()
    )


@pytest.mark.parametrize("change", ["data.workers=1", "accumulate=2"])
def test_how_the_work_is_shared_does_not_change_the_clips(data, tmp_path, change):
    """Loading processes change nothing at all; parts of a batch only its norms' statistics."""
    plain, other = tmp_path / "plain", tmp_path / "other"
    augmented = ("steps=3", "augment.equaliser.probability=0.5", "compiled_layers=false")
    assert train("mask", data, plain, *augmented).exit_code == 0
    assert train("mask", data, other, *augmented, change).exit_code == 0
    if change.startswith("data"):
        assert curve_of(plain) == curve_of(other)
    else:
        assert curve_of(plain)[1]["loss"] != curve_of(other)[1]["loss"]
