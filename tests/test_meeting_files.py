"""Data sets of meetings: who said what when beside the sound, whatever cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from meetings import short_meeting

from simulate import read_manifest
from simulate.meeting import draw_meeting, sample_meeting
from simulate.meeting_files import plan_meetings, write_meeting, write_meetings


def test_files_tell_who_said_what_when_and_are_kept(tmp_path):
    config = short_meeting(references=["image", "noise"])
    folder = write_meeting(config, tmp_path / "a", 0, 3)
    record = json.loads((folder / "record.json").read_text())
    assert folder.name == "0000003" and not list(tmp_path.rglob("*.part"))
    meeting = sample_meeting(config, 0, 3)
    assert record["overlap_ratio"] == pytest.approx(meeting.overlap_ratio, abs=1e-4)
    seglst = json.loads((folder / "segments.json").read_text())
    rttm = [line.split() for line in (folder / "segments.rttm").read_text().splitlines()]
    assert [(s["speaker"], s["start_time"], s["words"]) for s in seglst] == [
        (meeting.speaker(t), t.at_s, t.text) for t in meeting.turns
    ]
    assert [(line[7], float(line[3])) for line in rttm] == [
        (s["speaker"], s["start_time"]) for s in seglst
    ]
    stm = (folder / "segments.stm").read_text().splitlines()
    assert [line.split(" ", 5)[5] for line in stm] == [s["words"] for s in seglst if s["words"]]
    read = {
        name: soundfile.read(tmp_path / "a" / path, always_2d=True)[0][:, 0]
        for name, path in [(n, record["paths"][n]) for n in ("mixture", "noise")]
        + [(f"image{k}", p) for k, p in enumerate(record["paths"]["image"])]
    }
    parts = sum(x for name, x in read.items() if name != "mixture")
    np.testing.assert_allclose(read["mixture"], parts, atol=1e-6)
    again = write_meeting(config, tmp_path / "b", 0, 3)
    files = sorted(p.name for p in folder.iterdir())
    assert files == sorted(p.name for p in again.iterdir())
    assert all((folder / n).read_bytes() == (again / n).read_bytes() for n in files)
    before = (folder / "mixture.flac").stat().st_mtime_ns
    assert write_meeting(config, tmp_path / "a", 0, 3) == folder
    assert (folder / "mixture.flac").stat().st_mtime_ns == before


def test_a_data_set_of_meetings_has_a_manifest_and_is_completed(tmp_path):
    config = short_meeting()
    write_meeting(config, tmp_path, 7, 1)
    first = tmp_path / "0000" / "0000001" / "mixture.flac"
    before, seen = first.stat().st_mtime_ns, []
    manifest = write_meetings(config, tmp_path, 2, 7, progress=lambda *at: seen.append(at))
    assert seen[0] == (1, 2) and seen[-1] == (2, 2) and seen == sorted(seen)
    assert any(1 < done < 2 for done, _ in seen) and first.stat().st_mtime_ns == before
    records = list(read_manifest(manifest))
    assert [r["id"] for r in records] == ["7-0000000", "7-0000001"]
    assert all(Path(path).is_file() for r in records for path in r["paths"].values())
    with pytest.raises(ValueError, match="another data set"):
        write_meetings(config, tmp_path, 2, 8)


def recorded(folder: Path, speakers: int = 3, each: int = 8) -> Path:
    """A manifest of recordings of a second or two by named speakers."""
    folder.mkdir()
    rng, lines = np.random.default_rng(0), []
    for k in range(speakers * each):
        seconds = 1 + k % 3 / 2
        soundfile.write(folder / f"{k}.wav", rng.normal(0, 0.1, round(seconds * 16_000)), 16_000)
        record = {"path": f"{k}.wav", "seconds": seconds, "speaker": f"s{k % speakers}"}
        lines.append(json.dumps(record | {"text": f"words {k}"}))
    (folder / "speech.jsonl").write_text("\n".join(lines))
    return folder / "speech.jsonl"


def test_recordings_of_a_meeting_that_cannot_be_read_are_replaced_and_told(tmp_path):
    speech = recorded(tmp_path / "corpus")
    config = short_meeting(speech=str(speech), talkers={"count": 2, "distance_m": 1})
    sound, none = draw_meeting(config, 0, 0)
    assert not none and sound == sample_meeting(config, 0, 0)
    bad = sorted({turn.path for turn in sound.turns})[:4]
    Path(bad[0]).unlink()
    for path in bad[1:]:
        Path(path).write_bytes(b"no sound")
    with pytest.warns(UserWarning, match=r"cannot be read \(4\): .*; .* records: 1"):
        manifest = write_meetings(config, tmp_path / "out", 1, 0)
    (record,) = read_manifest(manifest)
    assert record["unreadable"] == bad
    meeting, unreadable = draw_meeting(config, 0, 0)
    assert unreadable == bad and not {turn.path for turn in meeting.turns} & set(bad)
    # The same people in the same room, who say something else.
    assert [t.speaker for t in meeting.scene.talkers] == [t.speaker for t in sound.scene.talkers]
    assert meeting.scene.mics_m == sound.scene.mics_m
    assert meeting.overlap_ratio == pytest.approx(sound.overlap_ratio, abs=0.1)


def test_a_noise_that_cannot_be_read_is_drawn_anew_and_babble_goes_on(tmp_path):
    speech = recorded(tmp_path / "corpus")
    noises = recorded(tmp_path / "noise", 1, 4)
    mix = {"diffuse": {"level_db": 0}, "babble": {"level_db": -3, "sources": 2}}
    config = short_meeting(speech=str(speech), noise=str(noises), noise_mix=mix,
                           talkers={"count": 2, "distance_m": 1})  # fmt: skip
    diffuse, *babble = sample_meeting(config, 0, 0).scene.noises
    for talker in babble:
        assert talker.segments[-1].at_s + talker.segments[-1].seconds == pytest.approx(30)
    bad = [diffuse.segments[0].path, babble[0].segments[0].path]
    for path in bad:
        Path(path).unlink()
    meeting, unreadable = draw_meeting(config, 0, 0)
    assert unreadable == sorted(bad)
    used = {s.path for n in meeting.scene.noises for s in n.segments}
    assert not used & set(bad) and meeting.scene.seed == 0
    for path in noises.parent.glob("*.wav"):
        path.unlink()
    with pytest.raises(ValueError, match="expected noises that can be read"):
        draw_meeting(config, 0, 0)


def test_the_plan_of_meetings_is_what_is_made(tmp_path):
    config = short_meeting()
    planned = plan_meetings(config, 2, 7)
    assert planned[1]["requested_overlap_ratio"]
    made = list(read_manifest(write_meetings(config, tmp_path, 1, 7)))
    assert json.loads(json.dumps(planned[0])) == made[0] | {"paths": {}}
