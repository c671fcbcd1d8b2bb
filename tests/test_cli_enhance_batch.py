"""`clearbeam enhance` on many recordings: processes, interruption, resuming, precision."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch
from cli import refused, run, succeeded, tree, voice, write

from clearbeam.audio import Recording
from clearbeam.batch import Networks, _heard_here, enhance_many
from clearbeam.enhance import Settings, enhance_recording, in_16_bits, load_enhancer


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in with short recordings, the last one the longest."""
    monkeypatch.chdir(tmp_path)
    for k in range(4):
        write(tmp_path / f"{k}.wav", voice(2, seconds=0.3 * (k + 1), seed=k))
    return tmp_path


def test_any_number_of_jobs_gives_the_same_bytes_and_words(folder):
    x = voice(3)
    x[5_000, 1] = np.nan
    write(folder / "nan1.wav", x, subtype="FLOAT")
    write(folder / "nan.wav", np.full((8_000, 2), np.nan), subtype="FLOAT")
    (folder / "text.wav").write_text("not a sound")
    inputs = sorted(path.name for path in folder.glob("*.wav"))
    options = ("--model", "mono", "--out")
    results = {n: run("enhance", *inputs, *options, f"by{n}", "--jobs", n) for n in (1, 2)}
    assert {result.exit_code for result in results.values()} == {2}
    assert results[2].stdout == results[1].stdout.replace("by1/", "by2/")
    words = [sorted(result.stderr.splitlines()) for result in results.values()]
    assert words[0] == words[1]
    assert [line.partition(": ")[0] for line in words[0]] == ["error", "error", "warning"]
    done = [f"{k}.enhanced.wav" for k in (0, 1, 2, 3)] + ["nan1.enhanced.wav"]
    assert results[1].stdout.split() == [f"by1/{name}" for name in done]
    assert tree(folder / "by1") == tree(folder / "by2") == set(done)
    for name in done[:4]:
        assert (folder / "by1" / name).read_bytes() == (folder / "by2" / name).read_bytes()
    one, two = (soundfile.read(folder / by / done[4])[0] for by in ("by1", "by2"))
    np.testing.assert_array_equal(one, two)  # a float WAV holds the time of writing too


def test_the_largest_goes_first(folder):
    jobs = [(Recording([folder / f"{k}.wav"]), folder / "out" / f"{k}.wav") for k in range(4)]
    heard: list[float] = []
    outcomes = list(enhance_many(jobs, Networks("mono"), Settings(), on_seconds=heard.append))
    assert [one.job[0].name for one in outcomes] == ["3.wav", "2.wav", "1.wav", "0.wav"]
    assert sum(heard) == pytest.approx(0.3 * (1 + 2 + 3 + 4))


def test_seconds_are_heard_from_other_processes():
    heard: list[float] = []
    with _heard_here(heard.append, 2) as tell:
        for seconds in (1.0, 2.5):
            pickle.loads(pickle.dumps(tell))(seconds)
    assert heard == [1.0, 2.5]


def test_a_model_that_is_none_is_one_error(folder):
    refused("did you mean mono", "enhance", "0.wav", "1.wav", "--out", "new", "--model", "momo")
    assert not (folder / "new").exists()


def test_resuming_keeps_what_is_there_and_makes_the_rest(folder):
    inputs = [f"{k}.wav" for k in range(3)]
    whole = succeeded("enhance", *inputs, "--model", "mono").stdout
    (folder / "0.enhanced.wav").write_bytes(b"kept")
    (folder / "1.enhanced.wav").unlink()
    refused("--resume", "enhance", *inputs, "--model", "mono")
    refused("found both", "enhance", *inputs, "--resume", "--force")
    assert succeeded("enhance", *inputs, "--model", "mono", "--resume").stdout == whole
    assert (folder / "0.enhanced.wav").read_bytes() == b"kept"
    assert soundfile.info("1.enhanced.wav").frames == soundfile.info("1.wav").frames


def test_a_full_disk_is_one_line_and_leaves_nothing(folder):
    resource = pytest.importorskip("resource")
    succeeded("enhance", "0.wav", "--model", "mono")  # has all compiled that is to be
    before = tree(folder)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, limit[1]))
    try:
        refused("cannot write 3.enhanced.wav.*disk", "enhance", "3.wav", "--model", "mono")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert tree(folder) == before


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_ctrl_c_is_one_line_and_leaves_whole_files(folder):
    many = [f"{k}.wav" for k in range(4, 40)]
    long = write(folder / "long.wav", np.tile(voice(1), (10, 1)))
    for name in many:
        (folder / name).symlink_to(long)
    process = subprocess.Popen(
        [sys.executable, "-m", "clearbeam", "enhance", *many, "--out", "clean", "--jobs", "2"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and len(list(folder.glob("clean/[!.]*"))) < 2:
        time.sleep(0.01)
    if process.poll() == 0:  # as on a machine that left this process no time
        pytest.skip("it was done before it could be stopped")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the workers too
    printed, words = process.communicate(timeout=300)
    assert process.returncode == 130, words
    assert words == "stopped; the same command with --resume goes on\n"
    there = {f"clean/{name}" for name in tree(folder / "clean")}
    assert there >= set(printed.split()) and len(there) < len(many)
    assert printed and all(soundfile.info(name).frames == 10 * 24_000 for name in there)


def test_streaming_files_is_compiled_and_the_same_sound(folder, monkeypatch):
    enhancer = load_enhancer("default", "cpu")
    recording = Recording([folder / "3.wav"])
    used = []
    stream = enhancer.stream

    def by(backend):
        def chosen(*args, **kwargs):
            used.append(stream(*args, **kwargs, backend=backend))
            return used[-1]

        monkeypatch.setattr(enhancer, "stream", chosen)
        out = folder / f"{backend}.wav"
        enhance_recording(enhancer, recording, out, Settings(streaming=True))
        return soundfile.read(out)[0]

    x = soundfile.read(folder / "3.wav", dtype="float32")[0]
    whole = enhancer(torch.from_numpy(x.T), streaming=True).numpy()
    step = 2**-15  # of the files' 16 bits
    np.testing.assert_allclose(by("torch"), whole, atol=1e-5 + step)
    np.testing.assert_allclose(by("auto"), whole, atol=2e-4 + step)
    assert used[0].backend == "torch"


def test_streaming_refuses_what_holds_no_sound(folder):
    write(folder / "nan.wav", np.full((8_000, 2), np.nan), subtype="FLOAT")
    refused("nan.wav: expected a mic with finite", "enhance", "nan.wav", "--streaming")
    assert not (folder / "nan.enhanced.wav").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_fewer_bits_on_a_cpu_are_refused(folder, precision):
    refused(f"fp32 on the CPU, found {precision}", "enhance", "0.wav", "--device", "cpu",
            "--precision", precision)  # fmt: skip
    refused("fp64", "enhance", "0.wav", "--precision", "fp64")


def test_networks_in_fewer_bits_are_the_same_within_their_rounding():
    x = torch.from_numpy(voice(2).T).float()
    exact = load_enhancer("default", "cpu")
    rough = load_enhancer("default", "cpu")
    in_16_bits(rough, "cpu", "bf16")
    y, found = exact(x, backend="torch"), rough(x, backend="torch")
    assert y.dtype == found.dtype
    error = (found - y).square().sum() / y.square().sum()
    assert 1e-8 < error < 1e-2
