"""`clearbeam stream`: pipes, files and devices give the causal offline output."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
import soundfile
import torch
from cli import RATE, refused, succeeded, tree, voice, write
from typer.testing import CliRunner

from clearbeam.cli import app
from multichannel import Enhancer


@pytest.fixture(scope="module")
def sound() -> tuple[np.ndarray, np.ndarray]:
    """16-bit samples (n, 2) and what the causal offline enhancer makes of them."""
    pcm = np.round(voice(2, seconds=0.5) * 32767).astype("<i2")
    x = torch.from_numpy(pcm.T / np.float32(32768))
    return pcm, Enhancer.from_pretrained("default", device="cpu")(x, streaming=True).numpy()


def test_a_pipe_gives_the_causal_offline_output(sound):
    pcm, expected = sound
    result = CliRunner().invoke(
        app, ["stream", "--mics", "2", "--backend", "torch"], input=pcm.tobytes()
    )
    assert result.exit_code == 0, result.stderr
    y = np.frombuffer(result.stdout_bytes, "<i2") / 32768
    assert np.abs(y - expected).max() < 1e-4 and result.stderr == ""


def test_a_file_gives_the_causal_offline_output_and_a_report(sound, tmp_path):
    pcm, expected = sound
    source = tmp_path / "in.wav"
    soundfile.write(source, pcm, RATE)
    out = tmp_path / "out.wav"
    result = CliRunner().invoke(
        app,
        [
            "stream",
            "--in",
            str(source),
            "--out",
            str(out),
            "--latency-report",
            "--backend",
            "torch",
        ],
    )
    assert result.exit_code == 0, result.stderr
    y, rate = soundfile.read(out)
    assert rate == RATE and np.abs(y - expected).max() < 1e-4
    for word in ("p50", "p99", "RTF", "latency 32 ms", "backend"):
        assert word in result.stderr
    assert tree(tmp_path) == {"in.wav", "out.wav"}


def test_a_shorter_latency_is_kept_and_reported(sound):
    pcm, _ = sound
    result = CliRunner().invoke(
        app,
        "stream --mics 2 --latency 20 --latency-report --backend torch".split(),
        input=pcm.tobytes(),
    )
    assert result.exit_code == 0 and "latency 20 ms" in result.stderr
    enhancer = Enhancer.from_pretrained("default", device="cpu", latency_ms=20)
    assert enhancer.stft.config.latency == 320
    expected = enhancer(torch.from_numpy(pcm.T / np.float32(32768)), streaming=True).numpy()
    y = np.frombuffer(result.stdout_bytes, "<i2") / 32768
    assert np.abs(y - expected).max() < 1e-4


def test_a_look_direction_gives_what_enhance_gives_live(tmp_path):
    source = write(tmp_path / "in.wav", voice(2, seconds=0.4))
    look = ("--array", "laptop_2mic", "--look", 30, "--latency", 20)
    succeeded("stream", "--in", source, "--out", tmp_path / "a.wav", *look)
    succeeded("enhance", source, "--streaming", "--out", tmp_path / "b.wav", *look)
    (a, _), (b, _) = (soundfile.read(tmp_path / name) for name in ("a.wav", "b.wav"))
    assert np.abs(a - b).max() < 1e-4 and np.abs(a).max() > 1e-3


def test_a_latency_needs_a_stream(tmp_path):
    source = write(tmp_path / "in.wav", voice(2, seconds=0.1))
    refused("expected --streaming", "enhance", source, "--latency", 20)
    refused("18 to 32 ms", "enhance", source, "--latency", 5, "--streaming")


def test_other_rates_keep_their_rate_and_length(tmp_path):
    source = write(tmp_path / "in.wav", voice(2, seconds=0.4, rate=48_000), rate=48_000)
    succeeded("stream", "--in", source, "--out", tmp_path / "out.flac", "--realtime")
    heard, made = soundfile.info(source), soundfile.info(tmp_path / "out.flac")
    assert (made.samplerate, made.frames) == (heard.samplerate, heard.frames)


class _Device:
    """A sound device that plays a recording, or keeps what it is given."""

    heard: list[np.ndarray]
    made: list[np.ndarray]

    def __init__(self, **options: object) -> None:
        self.options = options

    def __enter__(self) -> _Device:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, n: int) -> tuple[np.ndarray, bool]:
        block, _Device.heard[0] = _Device.heard[0][:n], _Device.heard[0][n:]
        return block.astype(np.float32), False

    def write(self, block: np.ndarray) -> None:
        assert block.shape[1] == 1 and block.dtype == np.float32
        _Device.made.append(block[:, 0])


def test_a_device_gives_the_causal_offline_output(sound, monkeypatch):
    pcm, expected = sound
    fake = types.SimpleNamespace(InputStream=_Device, OutputStream=_Device)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    _Device.heard, _Device.made = [pcm / 32768], []
    succeeded("stream", "--in", "array", "--out", "1", "--mics", "2", "--backend", "torch")
    assert np.abs(np.concatenate(_Device.made) - expected).max() < 1e-4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_complete_file(sound, tmp_path, number):
    pcm, _ = sound
    command = [sys.executable, "-m", "clearbeam", "stream", "--mics", "2", "--out", "out.wav"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])},
    )  # fmt: skip
    assert process.stdin is not None
    for _ in range(100):  # until the stream is under way and nobody knows how long that takes
        process.stdin.write(pcm.tobytes())
        process.stdin.flush()
    process.send_signal(number)
    _, errors = process.communicate(pcm.tobytes())
    assert process.returncode == 0, errors
    assert soundfile.info(tmp_path / "out.wav").frames > 0
    assert tree(tmp_path) == {"out.wav"}


def test_bad_input_is_told_in_one_line(sound, tmp_path, monkeypatch):
    source = write(tmp_path / "in.wav", voice(2, seconds=0.1))
    refused("--mics", "stream")
    refused("1 to 16 mics", "stream", "--mics", 17)
    refused("3 mics, found 2", "stream", "--in", source, "--mics", 3)
    refused("8000 Hz, found 16000", "stream", "--in", source, "--rate", 8000)
    refused("nothing at|audio file", "stream", "--in", tmp_path / "none.wav")
    refused("with --realtime", "stream", "--mics", 2, "--realtime")
    refused("not the input", "stream", "--in", source, "--out", source)
    refused("reference mic", "stream", "--in", source, "--reference-mic", 2)
    refused("--array with --look", "stream", "--in", source, "--look", 30)
    refused("6 channels", "stream", "--in", source, "--array", "circular_6mic", "--look", 30)
    refused("shipped model", "stream", "--in", source, "--model", "none")
    for latency in (10, 40, "nan"):
        refused("18 to 32 ms", "stream", "--in", source, "--latency", latency)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    refused("clearbeam\\[live\\]", "stream", "--in", "array", "--mics", 2)
    assert tree(tmp_path) == {"in.wav"}


@pytest.mark.skipif(os.name == "nt", reason="needs a shell that closes streams")
@pytest.mark.parametrize(("closed", "match"), [("<&-", "stdin.*closed"), (">&-", "stdout.*closed")])
def test_a_closed_stream_is_told_in_one_line(closed, match):
    command = f'"{sys.executable}" -m clearbeam stream --mics 1 --model mono </dev/zero {closed}'
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2 and re.fullmatch(f"error: .*{match}.*\n", done.stderr), done.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a shell that closes streams")
def test_no_file_takes_the_number_of_a_closed_stream(tmp_path):
    """What a library says on a closed stderr would be written into it."""
    begin = f"""if True:
        import os; from clearbeam.__main__ import _fill_standard_streams
        _fill_standard_streams()
        os._exit(0 if os.open({str(tmp_path / "x")!r}, os.O_CREAT) > 2 else 1)"""
    for closed in ("2>&-", "<&- >&- 2>&-"):
        words = f"""{shlex.join([sys.executable, "-c", begin])} {closed}"""
        assert subprocess.run(words, shell=True, check=False).returncode == 0


def test_bytes_that_fill_no_sample_are_left_out_with_a_warning(sound):
    pcm, expected = sound
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = CliRunner().invoke(
            app, ["stream", "--mics", "2", "--backend", "torch"], input=pcm.tobytes() + b"abc"
        )
    assert result.exit_code == 0 and "3 bytes" in result.stderr
    assert len(result.stdout_bytes) == 2 * len(expected)
