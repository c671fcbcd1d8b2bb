"""Recordings in blocks: nothing lost, nothing moved, nothing half written."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from clearbeam import audio
from clearbeam.audio import Recording, first, output_subtype, resample, write_audio

RATES = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000)


def tone(rate: int, n_samples: int, channels: int = 1) -> np.ndarray:
    """(channels, samples) float32 of a fading 440 Hz tone, a quarter period apart by channel."""
    t = np.arange(n_samples) / rate
    fade = np.sin(np.pi * np.arange(n_samples) / max(1, n_samples - 1)) ** 2
    phases = np.arange(channels)[:, None] * np.pi / 2
    return (0.5 * fade * np.sin(2 * np.pi * 440 * t + phases)).astype(np.float32)


def recording(path: Path, x: np.ndarray, rate: int = 16_000, subtype: str = "FLOAT") -> Recording:
    soundfile.write(path, x.T, rate, subtype=subtype)
    return Recording([path])


def joined(blocks) -> np.ndarray:
    return np.concatenate(list(blocks), axis=-1)


def there_and_back(source: Recording, rate: int = 16_000) -> np.ndarray:
    inner = resample(source.blocks(), source.sample_rate, rate)
    back = resample(inner, rate, source.sample_rate)
    return joined(first(back, lambda: source.n_samples))


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.aiff", "x.caf", "x.w64", "x.au"])
def test_blocks_are_the_file(tmp_path, monkeypatch, name):
    monkeypatch.setattr(audio, "BLOCK_VALUES", 1000)
    x = tone(16_000, 12_345, channels=3)
    source = recording(tmp_path / name, x, subtype="PCM_24")
    blocks = list(source.blocks())
    assert max(block.size for block in blocks) <= 1000
    np.testing.assert_allclose(joined(blocks), x, atol=2**-22)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("n_samples", [1, 2, 37, 4_801, 50_001])
def test_resampling_there_and_back_keeps_length_and_place(tmp_path, monkeypatch, rate, n_samples):
    monkeypatch.setattr(audio, "BLOCK_VALUES", 8_192)
    x = tone(rate, n_samples, channels=2)
    y = there_and_back(recording(tmp_path / "x.wav", x, rate))
    assert y.shape == x.shape
    if n_samples > 50_000:  # shorter than the filter, only the length can be asked for
        assert np.abs(y - x).max() < 1e-4  # a tenth of a sample late would be 7e-4 or more


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 4_999), max_size=8, unique=True),
    rate=st.sampled_from(RATES),
)
def test_block_borders_do_not_change_the_resampled_sound(cuts, rate):
    x = tone(rate, 5_000, channels=2)
    whole = joined(resample([x], rate, 16_000))
    parts = np.split(x, sorted(cuts), axis=1)
    np.testing.assert_allclose(joined(resample(parts, rate, 16_000)), whole, atol=1e-6)


def test_no_sample_is_too_few_for_the_resampler():
    assert joined(resample([np.ones((1, 1), np.float32)], 192_000, 16_000)).shape == (1, 1)


def test_channel_files_equal_the_multichannel_file(tmp_path):
    x = tone(16_000, 5_000, channels=3)
    paths = [tmp_path / f"{k}.wav" for k in range(3)]
    for path, channel in zip(paths, x, strict=True):
        soundfile.write(path, channel, 16_000, subtype="FLOAT")
    source = Recording(paths)
    assert (source.n_mics, source.n_samples) == (3, 5_000)
    np.testing.assert_array_equal(joined(source.blocks()), x)


def bad_files(folder: Path) -> dict[str, list[Path]]:
    """What is no recording, by what is wrong with it."""
    names = ("empty", "text", "no samples", "noise", "short", "other rate", "stereo", "mono", "raw")
    paths = {name: folder / f"{name}.wav" for name in names}
    paths["empty"].touch()
    paths["text"].write_text("These are the minutes of the meeting.\n")
    paths["noise"].write_bytes(np.random.default_rng(0).bytes(4_000))
    paths["raw"] = folder / "headerless.raw"
    paths["raw"].write_bytes(bytes(4_000))
    soundfile.write(paths["no samples"], np.zeros((0, 2)), 16_000)
    soundfile.write(paths["mono"], np.zeros(100), 16_000)
    soundfile.write(paths["short"], np.zeros(99), 16_000)
    soundfile.write(paths["other rate"], np.zeros(100), 8_000)
    soundfile.write(paths["stereo"], np.zeros((100, 2)), 16_000)
    single = {name: [paths[name]] for name in ("empty", "text", "no samples", "noise", "raw")}
    pairs = {name: [paths["mono"], paths[name]] for name in ("short", "other rate", "stereo")}
    return single | pairs | {"missing": [folder / "nothing.wav"], "a folder": [folder]}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "found nothing at"),
        ("a folder", "found the folder"),
        ("empty", "found the empty file"),
        ("text", "expected an audio file"),
        ("noise", "expected an audio file"),
        ("raw", "expected an audio file"),
        ("no samples", "expected at least one sample"),
        ("short", "of one length, found 100 samples in .* and 99 in"),
        ("other rate", "of one rate, found 16000 Hz in .* and 8000 Hz in"),
        ("stereo", "expected one channel a file, found 2"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_line(tmp_path, what, message):
    with pytest.raises(ValueError, match=message) as caught:
        Recording(bad_files(tmp_path)[what])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".aiff", ".w64", ".caf"])
def test_hostile_headers_never_crash(tmp_path, suffix):
    """Whatever a broken header claims, reading ends with blocks or with a ValueError."""
    path = tmp_path / f"x{suffix}"
    soundfile.write(path, tone(16_000, 3_000, channels=2).T, 16_000)
    good = path.read_bytes()
    rng = np.random.default_rng(7)
    for _ in range(60):
        broken = bytearray(good)
        for place in rng.integers(4, 64, size=rng.integers(1, 6)):
            broken[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))])
        path.write_bytes(bytes(broken[: rng.integers(40, len(good))]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                n_samples = sum(block.shape[1] for block in Recording([path]).blocks())
            except ValueError:
                continue
        assert 0 < n_samples < 1_000_000


def test_a_file_that_ends_early_gives_what_is_there_and_warns(tmp_path):
    path = tmp_path / "x.flac"
    soundfile.write(path, tone(16_000, 16_000).T, 16_000)
    header = bytearray(path.read_bytes())
    header[24:26] = (32_000).to_bytes(2, "big")  # the last two bytes of the number of samples
    path.write_bytes(header)
    source = Recording([path])
    assert source.n_samples == 32_000
    with pytest.warns(UserWarning, match="ends after 1.00 s, its header promises"):
        blocks = list(source.blocks())
    assert joined(blocks).shape == (1, 16_000)
    assert source.n_samples == 16_000


def test_a_file_written_by_a_pipe_does_not_say_its_length(tmp_path):
    path = tmp_path / "x.flac"
    x = tone(16_000, 16_000, channels=2)
    soundfile.write(path, x.T, 16_000, subtype="PCM_24")
    header = bytearray(path.read_bytes())
    header[21] &= 0xF0
    header[22:26] = bytes(4)
    path.write_bytes(header)
    source = Recording([path])
    assert source.seconds is None
    np.testing.assert_allclose(there_and_back(source, 8_000), x, atol=1e-3)
    assert source.seconds == 1.0


def test_damaged_sound_is_an_error_in_one_line(tmp_path):
    path = tmp_path / "x.flac"
    soundfile.write(path, tone(16_000, 160_000).T, 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"^cannot decode .*x\.flac: .*decoder lost sync"):
        list(Recording([path]).blocks())


@pytest.mark.parametrize("suffix", [".wav", ".mp3"])
def test_a_recording_cut_off_in_the_middle_gives_its_beginning(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    soundfile.write(path, tone(16_000, 160_000).T, 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        n_samples = sum(block.shape[1] for block in Recording([path]).blocks())
    assert 40_000 < n_samples < 120_000


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("x.wav", "PCM_16", "PCM_16"),
        ("x.wav", "FLOAT", "FLOAT"),
        ("x.flac", "PCM_24", "PCM_24"),
        ("x.flac", "FLOAT", "PCM_24"),
        ("x.flac", "DOUBLE", "PCM_24"),
        ("x.flac", "VORBIS", "PCM_16"),
        ("x.ogg", "PCM_16", "VORBIS"),
        ("x.opus", "PCM_16", "OPUS"),
    ],
)
def test_the_output_keeps_the_sample_type_where_its_format_can(name, source, expected):
    assert output_subtype(Path(name), 48_000, source) == expected


@pytest.mark.parametrize(("name", "rate"), [("x.txt", 16_000), ("x", 16_000), ("x.opus", 44_100)])
def test_an_output_that_cannot_be_is_refused(name, rate):
    with pytest.raises(ValueError, match="expected"):
        output_subtype(Path(name), rate, "PCM_16")


def test_too_loud_for_integers_is_attenuated_as_a_whole(tmp_path):
    x = 3.0 * tone(16_000, 20_000)[0]
    with pytest.warns(UserWarning, match=r"would clip: attenuated by 3\.5 dB"):
        write_audio(tmp_path / "x.flac", np.split(x, 4), 16_000, "PCM_24")
    written, _ = soundfile.read(tmp_path / "x.flac")
    np.testing.assert_allclose(written, x / np.abs(x).max(), atol=2**-22)


def test_loud_float_files_stay_as_loud(tmp_path):
    x = 3.0 * tone(16_000, 20_000)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_audio(tmp_path / "x.wav", [x], 16_000, "FLOAT")
    np.testing.assert_array_equal(soundfile.read(tmp_path / "x.wav", dtype="float32")[0], x)


def test_a_failure_on_the_way_leaves_nothing_behind(tmp_path):
    def failing():
        yield np.zeros(100, np.float32)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_audio(tmp_path / "new" / "deep" / "x.flac", failing(), 16_000, "PCM_16")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_file_that_was_there(tmp_path):
    target = tmp_path / "x.wav"
    target.write_text("precious")
    with pytest.raises(ZeroDivisionError):
        write_audio(target, (np.zeros(1 // k, np.float32) for k in (1, 0)), 16_000, "PCM_16")
    assert [p.name for p in tmp_path.iterdir()] == ["x.wav"]
    assert target.read_text() == "precious"
