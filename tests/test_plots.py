"""Pictures show what is there: where, when and how loud."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from clearbeam import audio, plots
from clearbeam.audio import Recording
from clearbeam.plots import check_picture, plot_spectrograms, spectrogram

RATE = 16_000


def recording(tmp_path, x: np.ndarray, rate: int = RATE) -> Recording:
    soundfile.write(tmp_path / "x.wav", x, rate, subtype="FLOAT")
    return Recording([tmp_path / "x.wav"])


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_a_tone_appears_at_its_frequency_and_time_in_its_channel(tmp_path, rate):
    t = np.arange(2 * rate) / rate
    x = np.zeros((t.size, 2))
    x[rate:, 1] = np.sin(2 * np.pi * 3000 * t[rate:])  # the second half of the second channel
    shown = spectrogram(recording(tmp_path, x, rate), mic=1)
    bin_ = shown.level_db.max(axis=1).argmax()
    n_bins, n_columns = shown.level_db.shape
    assert bin_ / (n_bins - 1) * shown.top_hz == pytest.approx(3000, abs=rate / 512)
    loud = shown.level_db[bin_] > shown.level_db.max() - 3
    assert np.flatnonzero(loud)[0] / n_columns * shown.seconds == pytest.approx(1, abs=0.02)
    assert shown.level_db.max() == pytest.approx(20 * np.log10(0.5), abs=1.5)  # Hann's scallops
    assert spectrogram(recording(tmp_path, x, rate), mic=0).level_db.max() < -150


def test_long_recordings_are_averaged_not_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "COLUMNS", 20)
    monkeypatch.setattr(audio, "BLOCK_VALUES", 3_000)
    x = np.random.default_rng(0).standard_normal(50_000)
    x[40_000:] *= 10
    shown = spectrogram(recording(tmp_path, x))
    n_columns = shown.level_db.shape[1]
    assert 20 <= n_columns <= 40
    power = 10 ** (shown.level_db.mean(axis=0) / 10)
    loud = np.arange(n_columns) / n_columns > 0.83
    quiet = np.arange(n_columns) / n_columns < 0.7
    assert 10 * np.log10(power[loud].mean() / power[quiet].mean()) == pytest.approx(20, abs=1)


def test_averaging_keeps_the_mean_power(tmp_path, monkeypatch):
    x = np.random.default_rng(0).standard_normal(30_000)
    fine = 10 ** (spectrogram(recording(tmp_path, x)).level_db / 10)
    monkeypatch.setattr(plots, "COLUMNS", 16)
    coarse = 10 ** (spectrogram(recording(tmp_path, x)).level_db / 10)
    np.testing.assert_allclose(coarse.mean(), fine.mean(), rtol=0.05)


@pytest.mark.parametrize("n_samples", [1, 100, 511, 513])
def test_the_shortest_recordings_can_be_drawn(tmp_path, n_samples):
    shown = spectrogram(recording(tmp_path, np.full(n_samples, 0.5)))
    plot_spectrograms(tmp_path / "x.png", {"x": shown})
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_no_picture_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a picture named \.png"):
        check_picture(tmp_path / "x.doc")
