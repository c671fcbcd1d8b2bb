"""Data sets: the same bytes however they are made, each mixture whole or not there at all."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import simulate.dataset
from simulate import SceneConfig, load_array, read_manifest, render, sample_scene, write_dataset
from simulate.dataset import plan_dataset
from simulate.shards import appearing
from simulate.workers import for_each, in_order


def tiny(**changes) -> SceneConfig:
    data = {"method": "fast", "duration_s": 0.5, "room": {"rt60_s": 0.2}, "snr_db": 5}
    return SceneConfig.model_validate(data | changes)


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(files)
    }


def test_any_number_of_jobs_gives_the_same_bytes(tmp_path):
    for jobs in (1, 2):
        write_dataset(tiny(), tmp_path / str(jobs), count=3, seed=5, jobs=jobs)
    one, two = digests(tmp_path / "1"), digests(tmp_path / "2")
    assert one == two
    assert len([name for name in one if name.endswith("mixture.flac")]) == 3


def test_an_interrupted_run_is_completed_with_the_same_bytes(tmp_path, monkeypatch):
    write_dataset(tiny(), tmp_path / "whole", count=4, seed=1)
    out = tmp_path / "broken"
    made = []

    def dies_while_writing(mixture, config, folder):
        made.append(folder)
        if len(made) == 3:
            (folder / "mixture.flac").write_bytes(b"torn")
            raise KeyboardInterrupt
        return simulate.dataset.__dict__["_write_audio_kept"](mixture, config, folder)

    monkeypatch.setattr(
        simulate.dataset, "_write_audio_kept", simulate.dataset._write_audio, raising=False
    )
    monkeypatch.setattr(simulate.dataset, "_write_audio", dies_while_writing)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tiny(), out, count=4, seed=1)
    monkeypatch.undo()
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("mixture.flac") if ".part" not in str(p)}
    assert len(kept) == 2 and not (out / "manifest.jsonl").exists()

    seen = []
    write_dataset(
        tiny(), out, count=4, seed=1, progress=lambda done, count: seen.append((done, count))
    )
    assert seen == [(2, 4), (3, 4), (4, 4)]
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items()), (
        "finished mixtures were made again"
    )
    assert digests(out) == digests(tmp_path / "whole")


CORRUPT = {
    "torn": lambda path: path.write_bytes(path.read_bytes()[:20_000]),
    "empty": lambda path: path.write_bytes(b""),
    "no sound": lambda path: path.write_text("<html>not found</html>"),
    "missing": lambda path: path.unlink(),
    "NaN": lambda path: soundfile.write(path, np.full(16_000, np.nan), 16_000, subtype="FLOAT"),
}


def speech_corpus(folder: Path) -> Path:
    """A manifest of four recordings of a second."""
    folder.mkdir()
    x = np.random.default_rng(0).normal(0, 0.1, 16_000)
    lines = []
    for k in range(4):
        soundfile.write(folder / f"{k}.wav", x, 16_000, subtype="FLOAT")
        lines.append(json.dumps({"path": f"{k}.wav", "seconds": 1, "speaker": f"s{k}"}))
    (folder / "speech.jsonl").write_text("\n".join(lines))
    return folder / "speech.jsonl"


@pytest.mark.parametrize("how", CORRUPT)
def test_a_corrupt_recording_is_skipped_and_told(tmp_path, how):
    speech = speech_corpus(tmp_path / "corpus")
    bad = speech.with_name("3.wav")
    CORRUPT[how](bad)
    with pytest.warns(UserWarning, match=r"cannot be read \(1\): .*3\.wav; .* records: \d"):
        write_dataset(tiny(speech=str(speech), duration_s=0.9), tmp_path / "out", count=5, seed=1)
    records = list(read_manifest(tmp_path / "out"))
    assert len(records) == 5 and all(r["talkers"][0]["speaker"] != "s3" for r in records)
    assert {path for r in records for path in r.get("unreadable", [])} == {str(bad)}


def test_mixtures_without_the_corrupt_recording_stay_as_they_were(tmp_path):
    speech = speech_corpus(tmp_path / "corpus")
    config = tiny(speech=str(speech))
    write_dataset(config, tmp_path / "sound", count=6, seed=1)
    speech.with_name("3.wav").write_bytes(b"")
    with pytest.warns(UserWarning, match="cannot be read"):
        write_dataset(config, tmp_path / "corrupt", count=6, seed=1)
    sound, corrupt = (list(read_manifest(tmp_path / d)) for d in ("sound", "corrupt"))
    same = [
        Path(a["paths"]["mixture"]).read_bytes() == Path(b["paths"]["mixture"]).read_bytes()
        for a, b in zip(sound, corrupt, strict=True)
    ]
    assert same == [a["talkers"][0]["speaker"] != "s3" for a in sound]
    assert same == ["unreadable" not in b for b in corrupt]
    assert True in same and False in same


def test_nothing_but_corrupt_recordings_is_an_error(tmp_path):
    speech = speech_corpus(tmp_path / "corpus")
    for k in range(4):
        speech.with_name(f"{k}.wav").unlink()
    with pytest.raises(ValueError, match=r"expected a recording that can be read, found .*\.wav"):
        write_dataset(tiny(speech=str(speech)), tmp_path / "out", count=1)


def test_the_plan_is_what_is_made(tmp_path):
    config = tiny(snr_db={"uniform": [0, 10]})
    planned = json.loads(json.dumps(plan_dataset(config, count=3, seed=7)))
    write_dataset(config, tmp_path, count=3, seed=7)
    made = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    known_then = ("paths", "measured_rt60_s")
    assert [
        p | {key: m[key] for key in known_then} for p, m in zip(planned, made, strict=True)
    ] == made


def test_a_folder_of_speech_is_listed_once_for_all_workers(tmp_path):
    corpus = speech_corpus(tmp_path / "corpus").parent
    (corpus / "speech.jsonl").unlink()
    write_dataset(tiny(speech=str(corpus)), tmp_path / "out", count=1)
    before = digests(tmp_path / "out")
    assert len((tmp_path / "out" / "speech.jsonl").read_text().splitlines()) == 4
    # What comes to the corpus later does not change what the folder holds.
    shutil.copy(corpus / "0.wav", corpus / "4.wav")
    write_dataset(tiny(speech=str(corpus)), tmp_path / "out", count=2)
    assert before.items() - digests(tmp_path / "out").items() == {
        ("manifest.jsonl", before["manifest.jsonl"])
    }


def test_a_process_that_outlives_its_killed_parent_changes_nothing(tmp_path):
    folder = tmp_path / "0000001"
    with appearing(folder) as mine:
        with appearing(folder) as other:
            (other / "record.json").write_text("other")
        (mine / "record.json").write_text("mine")
    assert (folder / "record.json").read_text() == "other"
    assert list(tmp_path.iterdir()) == [folder]


def _die(code: int) -> None:
    os._exit(code)


def test_a_worker_that_dies_is_an_error_and_no_endless_wait():
    with pytest.raises(ChildProcessError, match="the same command goes on from here"):
        list(for_each(_die, [1, 1, 1], jobs=2))


def test_quick_work_comes_in_its_order_from_any_number_of_jobs():
    assert in_order(abs, 250) == in_order(abs, 250, jobs=2) == list(range(250))


def test_a_dask_cluster_gives_the_same_bytes(tmp_path):
    distributed = pytest.importorskip("distributed")
    write_dataset(tiny(), tmp_path / "here", count=3, seed=5)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=":0"
    ) as cluster:
        address = cluster.scheduler_address
        write_dataset(tiny(), tmp_path / "there", count=3, seed=5, cluster=address)
    assert digests(tmp_path / "here") == digests(tmp_path / "there")


def test_a_larger_data_set_begins_with_the_smaller_one(tmp_path):
    write_dataset(tiny(), tmp_path, count=1, seed=2)
    first = digests(tmp_path / "0000")
    write_dataset(tiny(), tmp_path, count=2, seed=2)
    assert first.items() <= digests(tmp_path / "0000").items()
    assert len(list(read_manifest(tmp_path))) == 2


def test_files_hold_the_parts_and_still_add_up(tmp_path):
    config = tiny(talkers={"count": 2}, references=["direct", "early", "image", "noise", "dry"])
    write_dataset(config, tmp_path, count=1, seed=3)
    (record,) = read_manifest(tmp_path)
    paths = record["paths"]
    mixture, noise, *images = (
        soundfile.read(p)[0].T for p in (paths["mixture"], paths["noise"], *paths["image"])
    )
    expected = render(sample_scene(config, 3, 0))
    np.testing.assert_allclose(mixture, expected.mixture, atol=1e-7)
    assert np.abs(sum(images) + noise - mixture).max() <= 1e-6
    for k in (0, 1):
        np.testing.assert_allclose(
            soundfile.read(paths["early"][k])[0].T, expected.early[k], atol=1e-7
        )
        np.testing.assert_allclose(soundfile.read(paths["dry"][k])[0], expected.dry[k], atol=1e-7)
        direct = soundfile.read(paths["direct"][k])[0]
        np.testing.assert_allclose(direct.T, expected.direct[k], atol=1e-7)


def test_only_the_wanted_references_at_the_wanted_mics_are_written(tmp_path):
    write_dataset(tiny(references=["early"], reference_mics="first"), tmp_path, count=1)
    (record,) = read_manifest(tmp_path)
    assert set(record["paths"]) == {"mixture", "early"}
    assert soundfile.info(record["paths"]["mixture"]).channels == 6
    assert soundfile.info(record["paths"]["early"][0]).channels == 1
    assert len(list(Path(record["paths"]["mixture"]).parent.iterdir())) == 3


def test_more_than_eight_channels_are_written_as_wav(tmp_path):
    write_dataset(tiny(array={"names": ["grid_3x3"]}), tmp_path, count=1)
    (record,) = read_manifest(tmp_path)
    info = soundfile.info(record["paths"]["mixture"])
    assert (info.channels, info.format, info.subtype) == (9, "WAV", "PCM_24")


def test_records_tell_where_the_talkers_are_as_the_array_sees_them(tmp_path):
    write_dataset(tiny(), tmp_path, count=3, seed=4)
    for record in read_manifest(tmp_path):
        geometry = np.array(record["array"]["positions_m"])
        np.testing.assert_allclose(geometry, load_array("circular_6mic").as_array())
        mics, talker = np.array(record["mics_m"]), record["talkers"][0]
        # The microphone that the azimuth points to in the array's axes is the nearest one.
        azimuth = np.radians(talker["azimuth_deg"])
        toward = geometry[:, :2] @ [np.cos(azimuth), np.sin(azimuth)]
        distance = np.linalg.norm(mics - talker["position_m"], axis=1)
        assert toward.argmax() == distance.argmin() and toward.argmin() == distance.argmax()
        centre = np.linalg.norm(mics.mean(axis=0) - talker["position_m"])
        assert talker["distance_m"] == pytest.approx(centre, abs=1e-3)
        assert record["seed"] == 4 and record["rt60_s"] == 0.2 and record["snr_db"] == 5
        assert talker["speaker"].startswith("builtin") and talker["text"]


def test_two_data_sets_do_not_share_a_folder(tmp_path):
    write_dataset(tiny(), tmp_path, count=1, seed=1)
    before = digests(tmp_path)
    for config, seed in ((tiny(), 2), (tiny(snr_db=0), 1)):
        with pytest.raises(ValueError, match="found another data set"):
            write_dataset(config, tmp_path, count=1, seed=seed)
    assert digests(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        {"array": {"names": ["circular_6mic", "cirular"]}},
        {"speech": "/nowhere/speech.jsonl"},
        {"noise": "/nowhere/noise.jsonl"},
        {"talkers": {"distance_m": 40}},
    ],
)
def test_a_config_that_cannot_work_leaves_nothing_behind(tmp_path, change):
    with pytest.raises(ValueError, match=r"expected|unknown array cirular: did you mean"):
        write_dataset(tiny(**change), tmp_path / "out", count=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"count": 0}, {"count": 1, "jobs": 0}])
def test_counts_below_one_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="expected count >= 1 and jobs >= 1"):
        write_dataset(tiny(), tmp_path, **wrong)


@pytest.mark.parametrize("path", ["../outside.flac", "/etc/passwd", "a/../../b.flac"])
@pytest.mark.parametrize("several", [False, True])
def test_paths_that_leave_the_data_set_are_refused(tmp_path, path, several):
    record = {"paths": {"mixture": [path] if several else path}}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(ValueError, match="expected files inside"):
        list(read_manifest(tmp_path))


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", "3", '{"paths": 1}', '{"paths": {"mixture": 1}}']
)
def test_a_malformed_manifest_names_its_line(tmp_path, line):
    (tmp_path / "manifest.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match="line 1: expected a mixture"):
        list(read_manifest(tmp_path))


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"found no file .*manifest\.jsonl"):
        list(read_manifest(tmp_path))
