"""Data sets in the words of Lhotse and Kaldi: what they read is what was made."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from simulate import SceneConfig, read_manifest, write_dataset
from simulate.export import export_kaldi, export_lhotse
from simulate.meeting import MeetingConfig
from simulate.meeting_files import write_meetings


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    config = SceneConfig.model_validate(
        {
            "method": "fast",
            "duration_s": 6,
            "room": {"rt60_s": 0.2},
            "talkers": {"count": 2},
            "references": ["early", "noise"],
        }
    )
    folder = tmp_path_factory.mktemp("a folder with spaces")
    write_dataset(config, folder, count=2, seed=3)
    return folder


@pytest.fixture(scope="module")
def meetings(tmp_path_factory):
    config = MeetingConfig.model_validate(
        {
            "method": "fast",
            "array": {"names": ["laptop_2mic"]},
            "duration_s": 30,
            "room": {"rt60_s": 0.2},
            "talkers": {"count": 3},
            "turns": {"overlap_ratio": 0.3},
            "references": ["image"],
        }
    )
    folder = tmp_path_factory.mktemp("meetings")
    write_meetings(config, folder, 1, seed=3)
    return folder


def test_lhotse_reads_the_recordings_supervisions_and_cuts(dataset, tmp_path):
    lhotse = pytest.importorskip("lhotse")
    export_lhotse(dataset, tmp_path)
    cuts = lhotse.CutSet.from_file(tmp_path / "cuts.jsonl.gz")
    recordings = lhotse.RecordingSet.from_file(tmp_path / "recordings.jsonl.gz").to_eager()
    supervisions = lhotse.SupervisionSet.from_file(tmp_path / "supervisions.jsonl.gz")
    lhotse.validate(recordings)
    lhotse.validate(supervisions)
    lhotse.validate(cuts)
    records = list(read_manifest(dataset))
    assert len(supervisions) == 2 * len(records)
    for cut, record in zip(cuts, records, strict=True):
        expected = soundfile.read(record["paths"]["mixture"])[0].T
        np.testing.assert_allclose(cut.load_audio(), expected, atol=1e-7)
        np.testing.assert_allclose(recordings[record["id"]].load_audio(), expected, atol=1e-7)
        noise = soundfile.read(record["paths"]["noise"])[0].T
        np.testing.assert_allclose(cut.load_noise(), noise, atol=1e-7)
        for supervision, talker in zip(cut.supervisions, record["talkers"], strict=True):
            assert (supervision.speaker, supervision.text) == (talker["speaker"], talker["text"])
            assert supervision.start == talker["start_s"]
            assert supervision.end == pytest.approx(talker["end_s"])
            assert supervision.custom["azimuth_deg"] == talker["azimuth_deg"]


def table(path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


def test_kaldi_tables_are_sorted_and_agree(dataset, tmp_path):
    export_kaldi(dataset, tmp_path)
    names = ("wav.scp", "reco2dur", "segments", "text", "utt2spk", "spk2utt")
    tables = {name: table(tmp_path / name) for name in names}
    for name in names:
        lines = (tmp_path / name).read_bytes().splitlines()
        assert lines == sorted(lines), name
    records = list(read_manifest(dataset))
    assert set(tables["wav.scp"]) == {r["id"] for r in records}
    assert len(tables["utt2spk"]) == 4
    assert set(tables["segments"]) == set(tables["text"]) == set(tables["utt2spk"])
    # Sorted by utterance, the speakers are sorted too: Kaldi refuses a directory otherwise.
    assert list(tables["utt2spk"].values()) == sorted(tables["utt2spk"].values())
    back = {u: s for s, us in tables["spk2utt"].items() for u in us.split()}
    assert back == tables["utt2spk"]
    spoken = {(t["speaker"], t["text"], t["start_s"]) for r in records for t in r["talkers"]}
    found = {
        (tables["utt2spk"][u], tables["text"][u], float(tables["segments"][u].split()[1]))
        for u in tables["text"]
    }
    assert found == spoken


def test_turns_of_a_meeting_are_supervisions_and_utterances(meetings, tmp_path):
    lhotse = pytest.importorskip("lhotse")
    (record,) = read_manifest(meetings)
    (cut,) = lhotse.CutSet.from_file(export_lhotse(meetings, tmp_path / "lhotse"))
    lhotse.validate(cut)
    assert len(cut.image) == len(record["talkers"])
    # The RTTM, as Lhotse reads it, has the same turns.
    turns = lhotse.SupervisionSet.from_rttm(record["paths"]["rttm"])
    by_time = sorted(cut.supervisions, key=lambda s: (s.start, s.speaker))
    assert len(by_time) > 5 and max(s.end for s in by_time) <= cut.duration
    for found, said in zip(sorted(turns, key=lambda s: (s.start, s.speaker)), by_time, strict=True):
        assert (found.recording_id, found.speaker) == (record["id"], "_".join(said.speaker.split()))
        assert found.start == said.start and found.duration == pytest.approx(said.duration)
    export_kaldi(meetings, tmp_path / "kaldi")
    segments = table(tmp_path / "kaldi" / "segments")
    # And so has the Kaldi directory, as Lhotse reads it.
    _, kaldi, _ = lhotse.kaldi.load_kaldi_data_dir(tmp_path / "kaldi", 16_000)
    assert sorted(s.start for s in kaldi) == [s.start for s in by_time]
    starts = sorted(float(line.split()[1]) for line in segments.values())
    assert starts == [s.start for s in by_time]
    words = sorted(table(tmp_path / "kaldi" / "text").values())
    assert words == sorted(s.text for s in by_time if s.text)


@pytest.mark.skipif(shutil.which("sox") is None, reason="needs sox")
def test_kaldi_pipes_give_one_microphone(dataset, tmp_path):
    export_kaldi(dataset, tmp_path, mic=2)
    record = next(read_manifest(dataset))
    pipe = table(tmp_path / "wav.scp")[record["id"]].removesuffix("|")
    (tmp_path / "x.wav").write_bytes(subprocess.run(pipe, shell=True, stdout=-1, check=True).stdout)
    expected = soundfile.read(record["paths"]["mixture"])[0][:, 2]
    np.testing.assert_allclose(soundfile.read(tmp_path / "x.wav")[0], expected, atol=1e-6)


def test_equal_data_sets_export_to_equal_bytes(dataset, tmp_path):
    for out in ("one", "two"):
        export_lhotse(dataset, tmp_path / out)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_folder_without_a_data_set_is_refused(tmp_path):
    for write in (export_lhotse, export_kaldi):
        with pytest.raises(ValueError, match=r"found no file .*manifest\.jsonl"):
            write(tmp_path, tmp_path / "out")
        assert not (tmp_path / "out").exists()
