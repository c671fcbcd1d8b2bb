"""The built-in talkers: what `talkers.jsonl` promises is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

FOLDER = Path(__file__).parents[1] / "simulate" / "talkers"
RECORDS = [json.loads(line) for line in (FOLDER / "talkers.jsonl").read_text().splitlines()]


def pitch_hz(x: np.ndarray, rate: int) -> float:
    """Median over loud 40 ms frames of the autocorrelation's peak between 70 and 400 Hz."""
    size, found = rate // 25, []
    for start in range(0, len(x) - size, size // 2):
        frame = x[start : start + size]
        if np.std(frame) > 0.3 * np.std(x):
            r = np.correlate(frame, frame, "full")[size - 1 :]
            lag = rate // 400 + np.argmax(r[rate // 400 : rate // 70])
            if r[lag] > 0.5 * r[0]:
                found.append(rate / lag)
    return float(np.median(found))


def test_every_recording_is_as_described():
    for record in RECORDS:
        x, rate = soundfile.read(FOLDER / record["path"])
        assert (rate, x.ndim) == (16_000, 1)
        assert abs(len(x) / rate - record["seconds"]) < 1e-3
        assert 0.49 < np.abs(x).max() < 0.51
        assert len(record["text"].split()) >= 8 and record["licence"] and record["gender"]
    assert {record["path"] for record in RECORDS} == {p.name for p in FOLDER.glob("*.flac")}


def test_at_least_four_voices_can_be_told_apart_by_pitch_alone():
    by_speaker: dict[str, list[float]] = {}
    for record in RECORDS:
        x, rate = soundfile.read(FOLDER / record["path"])
        by_speaker.setdefault(record["speaker"], []).append(pitch_hz(x, rate))
    pitches = sorted(np.median(values) for values in by_speaker.values())
    assert sum(np.diff(pitches) / pitches[:-1] > 0.1) >= 3


def test_they_stay_small():
    assert sum(p.stat().st_size for p in FOLDER.iterdir()) < 2.5e6
