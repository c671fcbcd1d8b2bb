"""A sound file is whole, the same for the same sound, and nothing is lost while it is written."""

from __future__ import annotations

import io
import signal
import time

import numpy as np
import pytest
import soundfile
from cli import RATE, voice

from simulate.sound_files import _Whole, new_sound


@pytest.mark.parametrize("subtype", ["FLAC", "OGG", "WAV", "W64", "AIFF"])
def test_no_format_ends_early_in_silence(tmp_path, subtype):
    """libsndfile calls a FLAC or Ogg file complete whose end the disk did not take."""
    resource = pytest.importorskip("resource")
    x, path = voice(2, seconds=0.5), tmp_path / "x"
    with new_sound(path, RATE, 2, soundfile.default_subtype(subtype), subtype) as file:
        file.write(x)
    n_bytes, limit = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    for taken in (100, n_bytes // 2, n_bytes - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (taken, limit[1]))
        try:
            with pytest.raises(OSError, match="large"):
                with new_sound(path, RATE, 2, soundfile.default_subtype(subtype), subtype) as file:
                    file.write(x)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)


FORMATS = [
    ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAVEX", "FLOAT"), ("AIFF", "FLOAT"), ("RF64", "FLOAT"),
    ("W64", "FLOAT"), ("CAF", "FLOAT"), ("AU", "FLOAT"), ("WAV", "PCM_16"), ("AIFF", "PCM_24"),
    ("FLAC", "PCM_24"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


def test_the_same_sound_is_the_same_bytes_a_second_later(tmp_path):
    x = voice(2, seconds=0.5)
    written = []
    for _ in range(2):
        for container, subtype in FORMATS:
            with new_sound(tmp_path / container, RATE, 2, subtype, container) as file:
                file.write(x)
            written.append((tmp_path / container).read_bytes())
        time.sleep(1.1)  # what tells the time tells seconds
    first, again = written[: len(FORMATS)], written[len(FORMATS) :]
    assert [form for form, a, b in zip(FORMATS, first, again, strict=True) if a != b] == []


def test_ctrl_c_while_libsndfile_calls_back_is_not_lost(tmp_path, monkeypatch, capfd):
    plain = io.FileIO.write

    def write(file: io.FileIO, data: object) -> int:
        signal.raise_signal(signal.SIGINT)
        return plain(file, data)

    for container in ("FLAC", "WAV"):
        path = tmp_path / container
        with pytest.raises(KeyboardInterrupt):
            with new_sound(path, 16_000, 1, "PCM_16", container) as file:
                monkeypatch.setattr(_Whole, "write", write)
                file.write(np.zeros(100_000))
        monkeypatch.undo()
    assert capfd.readouterr().err == ""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
