"""`clearbeam enhance` and `clearbeam demo`, end to end with the shipped weights."""

from __future__ import annotations

import re

import numpy as np
import pytest
import soundfile
from cli import RATE, refused, run, succeeded, tree, voice, write

from clearbeam.plots import spectrogram  # noqa: F401  (matplotlib is slow to import: once, here)


@pytest.fixture
def kitchen(tmp_path, monkeypatch):
    """A folder to work in with recordings of two, one and six microphones."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "two.wav", voice(2))
    write(tmp_path / "mono.wav", voice(1))
    write(tmp_path / "six.flac", voice(6), subtype="PCM_24")
    return tmp_path


def test_the_output_lies_beside_the_input_by_default(kitchen):
    before = tree(kitchen)
    assert succeeded("enhance", "two.wav").stdout == "two.enhanced.wav\n"
    assert succeeded("enhance", "six.flac").stdout == "six.enhanced.flac\n"
    assert tree(kitchen) == before | {"two.enhanced.wav", "six.enhanced.flac"}
    assert soundfile.info("six.enhanced.flac").subtype == "PCM_24"


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("name", ["out.wav", "out.flac"])
def test_rate_and_length_are_kept_and_the_level_is_sane(kitchen, rate, name):
    x = np.repeat(voice(2), 6, axis=0)[:: 6 * RATE // rate] if rate < RATE else voice(2)
    x = x[: len(x) - 7]
    write(kitchen / "in.wav", x, rate)
    succeeded("enhance", "in.wav", "--out", name)
    y, y_rate = soundfile.read(name, always_2d=True)
    assert (y_rate, y.shape) == (rate, (len(x), 1))
    level_db = 20 * np.log10(np.std(y) / np.std(x[:, 0]))
    assert -20 < level_db < 3


def test_one_sample_is_a_recording(kitchen):
    write(kitchen / "short.wav", np.full((1, 2), 0.1))
    succeeded("enhance", "short.wav")
    assert soundfile.info("short.enhanced.wav").frames == 1


def test_many_files_go_into_a_folder(kitchen):
    printed = succeeded("enhance", "two.wav", "six.flac", "--out", "new/clean").stdout
    assert printed.splitlines() == ["new/clean/two.enhanced.wav", "new/clean/six.enhanced.flac"]
    assert tree(kitchen / "new") == {"clean", "clean/two.enhanced.wav", "clean/six.enhanced.flac"}


def test_a_bad_file_does_not_stop_the_others(kitchen):
    (kitchen / "notes.wav").write_text("not a sound")
    write(kitchen / "nan.wav", np.full((8_000, 2), np.nan), subtype="FLOAT")
    result = run("enhance", "notes.wav", "nan.wav", "two.wav", "--out", "clean")
    assert result.exit_code == 2
    errors = result.stderr.splitlines()
    assert [bool(re.match(r"error: .*(notes|nan)\.wav", line)) for line in errors] == [True, True]
    assert tree(kitchen / "clean") == {"two.enhanced.wav"}


def test_channel_files_give_what_their_multichannel_file_gives(kitchen):
    x, _ = soundfile.read("two.wav", dtype="int16")
    for k in range(2):
        soundfile.write(f"mic{k}.wav", x[:, k], RATE)
    succeeded("enhance", "two.wav", "--out", "one.wav")
    succeeded("enhance", "mic0.wav", "mic1.wav", "--channels-as-files", "--out", "other.wav")
    np.testing.assert_array_equal(soundfile.read("one.wav")[0], soundfile.read("other.wav")[0])


def test_streaming_and_steering_are_other_ways_to_the_same_length(kitchen):
    plain = succeeded("enhance", "six.flac", "--out", "plain.wav") and soundfile.read("plain.wav")
    for name, options in {
        "streamed": ["--streaming"],
        "steered": ["--array", "circular_6mic", "--look", "30"],
        "referred": ["--reference-mic", "5"],
    }.items():
        succeeded("enhance", "six.flac", "--out", f"{name}.wav", *options)
        y, _ = soundfile.read(f"{name}.wav")
        assert y.shape == plain[0].shape
        assert np.isfinite(y).all() and y.any()
        assert not np.array_equal(y, plain[0]), name


def test_a_picture_is_drawn(kitchen):
    succeeded("enhance", "two.wav", "--plot", "pictures/two.png")
    assert (kitchen / "pictures" / "two.png").read_bytes().startswith(b"\x89PNG")


def test_a_nan_microphone_is_left_out_with_one_warning(kitchen):
    x = voice(3)
    x[5_000, 1] = np.nan
    write(kitchen / "nan1.wav", x, subtype="FLOAT")
    result = run("enhance", "nan1.wav")
    assert result.exit_code == 0
    assert re.fullmatch(r"warning: nan1\.wav: mic \d holds NaN.*\n", result.stderr)
    y, _ = soundfile.read("nan1.enhanced.wav")
    assert np.isfinite(y).all() and np.std(y) > 0.01


def test_existing_files_are_safe(kitchen):
    succeeded("enhance", "two.wav")
    first = (kitchen / "two.enhanced.wav").read_bytes()
    before = tree(kitchen)
    refused("exists already.*--force", "enhance", "two.wav")
    refused("not an input", "enhance", "two.wav", "--out", "two.wav", "--force")
    refused("not an input", "enhance", "two.wav", "mono.wav", "--channels-as-files",
            "--out", "mono.wav", "--force")  # fmt: skip
    assert tree(kitchen) == before
    succeeded("enhance", "two.wav", "--force")
    assert (kitchen / "two.enhanced.wav").read_bytes() == first


def make_bad(folder) -> None:
    """The bad inputs that the refusals below name."""
    (folder / "text.wav").write_text("These are the minutes of the meeting.\n")
    (folder / "empty.wav").touch()
    (folder / "folder").mkdir()
    write(folder / "silent.wav", np.zeros((0, 2)))
    write(folder / "nan.wav", np.full((8_000, 2), np.nan), subtype="FLOAT")
    write(folder / "short.wav", voice(1)[:-1])
    write(folder / "slow.wav", voice(1), rate=8_000)
    (folder / "array.yaml").write_text("name: mine\npositions: [[0, 0, 0], [1, 0, 0]]\n")
    (folder / "model.safetensors").write_text("no model")


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["missing.wav"], "found nothing at missing.wav"),
        (["folder"], "found the folder folder"),
        (["text.wav"], "expected an audio file, found text.wav"),
        (["empty.wav"], "found the empty file empty.wav"),
        (["silent.wav"], "expected at least one sample"),
        (["nan.wav"], "nan.wav: .*"),
        (["mono.wav", "short.wav", "--channels-as-files"], "of one length"),
        (["mono.wav", "slow.wav", "--channels-as-files"], "of one rate"),
        (["mono.wav", "two.wav", "--channels-as-files"], "one channel a file, found 2"),
        (["mono.wav", "missing.wav", "--channels-as-files"], "found nothing at missing.wav"),
        (["six.flac", "--array", "circular_6mics"], "unknown array circular_6mics"),
        (["two.wav", "--array", "array.yaml"], "positions.*positions_m"),
        (["two.wav", "--array", "circular_6mic"], "expected 6 channels .* found 2"),
        (["mono.wav", "--look", "30"], "found a mono recording"),
        (["six.flac", "--look", "30"], "expected --array with --look"),
        (["two.wav", "--reference-mic", "2"], "from 0 to 1, found 2"),
        (["two.wav", "--model", "nothing"], "nothing"),
        (["two.wav", "--model", "model.safetensors"], "model.safetensors"),
        (["two.wav", "--out", "mono.wav/out.wav"], "mono.wav is a file"),
        (["two.wav", "--out", "mono.wav/out/"], "mono.wav is a file"),
        (["two.wav", "--out", "out.txt"], r"\.flac.*found out.txt"),
        (["two.wav", "--out", "out.opus"], None),
        (["two.wav", "six.flac", "--out", "out.wav"], "expected --out to be a folder"),
        (["two.wav", "two.wav"], "two that make"),
        (["two.wav", "--plot", "out.txt"], r"\.png"),
        (["two.wav", "--plot", "mono.wav/out.png"], "mono.wav is a file"),
        (["two.wav", "six.flac", "--plot", "out.png"], "one recording with --plot"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(kitchen, args, match):
    make_bad(kitchen)
    if match is None:  # what only another rate makes bad
        write(kitchen / "two.wav", voice(2), rate=44_100)
        match = "found 44100 Hz for out.opus"
    before = tree(kitchen)
    refused(match, "enhance", *args)
    assert tree(kitchen) == before


def test_the_device_that_is_not_there_is_named(kitchen):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    refused("CUDA device, found none", "enhance", "two.wav", "--device", "cuda")


def test_the_recordings_of_real_arrays(kitchen, shared):
    recordings = sorted((shared / "data" / "array").glob("setk_*ch.*"))
    recordings = [path for path in recordings if path.stat().st_size > 0]
    succeeded("enhance", *recordings, "--out", "clean")
    for path in recordings:
        (out,) = (kitchen / "clean").glob(f"{path.stem}.enhanced.*")
        x, rate = soundfile.read(path)
        y, y_rate = soundfile.read(out)
        assert (y_rate, y.shape) == (rate, x.shape[:1])
        assert -30 < 20 * np.log10(np.std(y) / np.std(x)) < 6


def test_the_demo_shows_a_gain(tmp_path):
    text = succeeded("demo", "--out", tmp_path / "demo").stdout
    sounds = {"noisy.flac", "noisy_mic0.flac", "enhanced.flac", "clean.flac"}
    assert tree(tmp_path / "demo") == sounds | {"demo.png", "scores.md"}
    gain = re.search(r"gain\W+([+-][\d.]+)", text)
    assert gain is not None, text
    assert float(gain.group(1)) > 2  # dB of SI-SDR
    assert soundfile.info(tmp_path / "demo" / "noisy.flac").channels == 6


def test_a_demo_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    refused("is a file", "demo", "--out", tmp_path / "file")
    assert tree(tmp_path) == {"file"}
