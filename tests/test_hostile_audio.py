"""Whatever bytes a recording is made of: finite sound of the right length, or one line."""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli import RATE, refused, run, tree, voice, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clearbeam.audio import LOUDEST, sound_in

SMALL = settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SOUND = voice(2, seconds=0.2)


def header(channels: int = 2, rate: int = RATE, bits: int = 16, claimed: int = 64) -> bytes:
    """A WAV file with what the header says made up, and 64 bytes of samples."""
    frame = channels * bits // 8
    fields = (1, channels, rate, (rate * frame) & 0xFFFFFFFF, frame & 0xFFFF, bits)
    chunks = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, *fields)
    chunks += b"data" + struct.pack("<I", claimed) + bytes(range(64))
    return b"RIFF" + struct.pack("<I", 36 + claimed & 0xFFFFFFFF) + chunks


def encoded(folder: Path, suffix: str, subtype: str | None = None) -> bytes:
    path = folder / f"sound{suffix}"
    soundfile.write(path, SOUND, RATE, subtype=subtype)
    data = path.read_bytes()
    path.unlink()
    return data


def flac_that_claims(folder: Path, n_samples: int) -> bytes:
    """A FLAC file whose header says that it holds so many samples, up to 2^36."""
    data = bytearray(encoded(folder, ".flac"))
    low = int.from_bytes(data[18:26], "big") & ~(2**36 - 1)
    data[18:26] = (low | n_samples).to_bytes(8, "big")
    return bytes(data)


def enhanced_or_refused(folder: Path, *options: str) -> np.ndarray | None:
    """What `clearbeam enhance x.wav` leaves: its output, or None with one line and no file."""
    before = tree(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = run("enhance", folder / "x.wav", "--out", folder / "y.wav", "--force", *options)
    if result.exit_code == 0:
        assert tree(folder) == before | {"y.wav"}
        y, _ = soundfile.read(folder / "y.wav")
        assert np.isfinite(y).all() and len(y) > 0
        (folder / "y.wav").unlink()
        return y
    assert result.exit_code == 2 and tree(folder) == before
    errors = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(errors) == 1 and errors[0].startswith("error: "), result.stderr
    return None


@SMALL
@given(data=st.data())
def test_a_damaged_file_is_sound_or_one_line(tmp_path, data):
    suffix = data.draw(st.sampled_from([".wav", ".flac", ".ogg", ".aiff", ".caf", ".w64", ".au"]))
    whole = bytearray(encoded(tmp_path, suffix))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.one_of(st.integers(0, 80), st.integers(0, len(whole) - 1)))
        whole[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    (tmp_path / "x.wav").write_bytes(whole[:end])
    enhanced_or_refused(tmp_path, "--model", "mono")


@SMALL
@given(st.lists(st.floats(width=32), min_size=2, max_size=400), st.booleans())
def test_floats_of_any_value_give_finite_sound(tmp_path, values, streaming):
    x = np.resize(np.array(values, np.float32), (-(-len(values) // 2), 2))
    write(tmp_path / "x.wav", x, subtype="FLOAT")
    y = enhanced_or_refused(tmp_path, *(["--streaming"] if streaming else []))
    assert y is None or len(y) == len(x)
    assert y is not None or not (np.abs(x) <= LOUDEST).all(0).any()


@pytest.mark.parametrize("streaming", [(), ("--streaming",)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, 1e-40])
def test_a_few_broken_samples_leave_the_rest_finite(tmp_path, bad, streaming):
    x = SOUND.astype(np.float32)
    x[1_000:1_010, 0] = bad
    write(tmp_path / "x.wav", x, subtype="FLOAT")
    assert len(enhanced_or_refused(tmp_path, *streaming)) == len(x)


def test_what_no_converter_makes_is_no_sound():
    x = np.array([[0.5, -(2.0**31), 3e38, -np.inf, np.nan, 1e-40]], np.float32)
    assert np.isfinite(sound_in(x)).tolist() == [[True, True, False, False, False, True]]
    quiet = x[:, :2]
    assert sound_in(quiet) is quiet


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_every_sample_type_is_read(tmp_path, subtype):
    write(tmp_path / "x.wav", SOUND, subtype=subtype)
    assert len(enhanced_or_refused(tmp_path)) == len(SOUND)


@pytest.mark.parametrize(
    ("what", "match"),
    [
        (header(channels=0), "x.wav"),
        (header(channels=65_535), "x.wav"),
        (header(channels=17, claimed=68), "16"),
        (header(rate=0), "x.wav"),
        (header(rate=2**31 - 1), "rate"),
        (header(rate=10), "rate"),
        (header(bits=0), "x.wav"),
        (header(claimed=0), "sample"),
        (b"", "empty"),
        (b"RIFF", "x.wav"),
        (b"\0" * 5_000, "x.wav"),
        (b"<html>not found</html>" * 20, "x.wav"),
    ],
)
def test_headers_that_cannot_be_are_refused(tmp_path, what, match):
    (tmp_path / "x.wav").write_bytes(what)
    refused(match, "enhance", tmp_path / "x.wav")
    refused(match, "separate", tmp_path / "x.wav", "--out", tmp_path / "out")
    refused(match, "stream", "--in", tmp_path / "x.wav", "--out", tmp_path / "y.wav")
    assert tree(tmp_path) == {"x.wav"}


def test_a_header_that_promises_terabytes_costs_none(tmp_path):
    (tmp_path / "x.wav").write_bytes(header(claimed=2**32 - 64))
    assert len(enhanced_or_refused(tmp_path)) == 16
    (tmp_path / "x.wav").write_bytes(flac_that_claims(tmp_path, 2**36 - 1))
    y = enhanced_or_refused(tmp_path)
    assert y is None or len(y) == len(SOUND)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    before = tree(tmp_path)
    for name in (
        "pipe.wav",
        "folder.wav",
        "gone.wav",
        "loop.wav",
        "x" * 300 + ".wav",
        "\udcff.wav",
    ):
        refused("", "enhance", tmp_path / name)
        refused("", "separate", tmp_path / name, "--out", tmp_path / "out")
        refused("", "stream", "--in", tmp_path / name, "--out", tmp_path / "y.wav")
        refused("", "arrays", tmp_path / name)
    refused("", "enhance", "")
    assert tree(tmp_path) == before
