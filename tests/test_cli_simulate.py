"""`clearbeam simulate`: what it plans, and what stands beside the manifest in the end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli import refused, succeeded, tree

from simulate import read_manifest
from simulate.summary import histogram_line, quantities

SCENE = "method: fast\nduration_s: 0.5\nroom: {rt60_s: 0.2}\nsnr_db: {uniform: [0, 10]}\n"


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "scene.yaml"
    path.write_text(SCENE)
    return path


def test_a_dry_run_prints_the_plan_and_makes_nothing(tmp_path, scene):
    text = succeeded("simulate", scene, "--out", tmp_path / "out", "--count", 150, "--dry-run")
    assert "150 mixtures, 0.02 h, seed 0" in text.stdout and "(0 are there)" in text.stdout
    for name in ("RT60 (s)", "SNR (dB)", "azimuth (deg)", "distance (m)", "microphones"):
        assert name in text.stdout
    # 6 microphones of the mixture, of one talker's two images and of the noise.
    assert f"at most {150 * 0.5 * 16_000 * 3 * 24 / 1e9:.3g} GB" in text.stdout
    assert "arrays (1): circular_6mic 150" in text.stdout
    assert "noises (1): diffuse 150" in text.stdout and "speakers (6): " in text.stdout
    assert tree(tmp_path) == {"scene.yaml"}


def test_a_dry_run_refuses_what_cannot_be_made(tmp_path, scene):
    refused("nowhere", "simulate", scene, "--out", tmp_path / "out", "--dry-run",
            "--speech", "nowhere")  # fmt: skip


def test_a_picture_and_exports_stand_beside_the_manifest(tmp_path, scene):
    out = tmp_path / "out"
    args = ("simulate", scene, "--out", out, "--count", 2)
    assert succeeded(*args).stdout == f"{out / 'manifest.jsonl'}\n"
    picture = (out / "summary.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    # A finished data set is described without being made again.
    made = (out / "0000/0000000/mixture.flac").stat().st_mtime_ns
    succeeded(*args, "--export", "lhotse", "--export", "kaldi")
    assert (out / "0000/0000000/mixture.flac").stat().st_mtime_ns == made
    assert (out / "summary.png").read_bytes() == picture
    assert (out / "lhotse" / "cuts.jsonl.gz").is_file() and (out / "kaldi" / "wav.scp").is_file()


def written(folder, text: str = "") -> Path:
    path = folder / "scene.yaml"
    path.write_text(f"duration_s: 1\nmethod: fast\n{text}")
    return path


def test_simulate_makes_the_same_bytes_for_any_number_of_jobs(tmp_path):
    path = written(tmp_path)
    for jobs in (1, 2):
        out = tmp_path / f"by{jobs}"
        printed = succeeded("simulate", path, "--out", out, "--count", 2, "--jobs", jobs).stdout
        assert printed == f"{out / 'manifest.jsonl'}\n"
    one, two = ({p.relative_to(d): p.read_bytes() for p in d.rglob("*") if p.is_file()}
                for d in (tmp_path / "by1", tmp_path / "by2"))  # fmt: skip
    assert one == two
    assert len((tmp_path / "by1" / "manifest.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "options", "match"),
    [
        ("snr_dB: 5\n", [], "snr_dB.*snr_db"),
        ("room: {lenght_m: 5}\n", [], "lenght_m.*length_m"),
        ("array: {names: [sphere_99mic]}\n", [], "unknown array sphere_99mic"),
        ("room: [", [], "not readable as YAML"),
        ("", ["--speech", "nowhere.jsonl"], "nowhere.jsonl"),
        ("", ["--noise", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_a_scene_that_cannot_be_makes_no_folder(tmp_path, monkeypatch, text, options, match):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, text)
    refused(match, "simulate", path, "--out", tmp_path / "out", *options)
    assert tree(tmp_path) == {"scene.yaml"}


def test_simulate_takes_manifests_and_a_split(tmp_path):
    import soundfile

    soundfile.write(tmp_path / "hum.wav", [0.1, -0.1] * 16_000, 16_000)
    soundfile.write(tmp_path / "word.wav", [0.1, 0.2, -0.3, 0.1] * 8_000, 16_000)
    for name, kind in (("hum", "noise"), ("word", "speech")):
        record = {"path": f"{name}.wav", "seconds": 2, "speaker": name, "kind": kind}
        lines = [json.dumps(record | {"split": split}) for split in ("test", "train")]
        (tmp_path / f"{kind}.jsonl").write_text("\n".join(lines))
    options = ["--speech", tmp_path / "speech.jsonl", "--noise", tmp_path / "noise.jsonl"]
    out = tmp_path / "out"
    succeeded(
        "simulate", written(tmp_path), "--out", out, "--count", 1, *options, "--split", "test"
    )
    record = json.loads((out / "manifest.jsonl").read_text())
    assert record["talkers"][0]["speaker"] == "word"
    refused("split valid", "simulate", written(tmp_path), "--out", tmp_path / "no", *options,
            "--split", "valid")  # fmt: skip


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path, scene, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("simulate.workers._CONNECT_S", 1)
    args = ("simulate", scene, "--out", tmp_path / "out", "--count", 2, "--cluster")
    refused("127.0.0.1:9", *args, "tcp://127.0.0.1:9")
    refused("expected a scheduler's address like .*, found bogus", *args, "bogus")


def test_quantities_are_those_of_the_records(tmp_path, scene):
    succeeded("simulate", scene, "--out", tmp_path / "out", "--count", 2)
    records = list(read_manifest(tmp_path / "out"))
    found = quantities([*records, {"snr_db": None, "overlap_ratio": 0.25}])
    np.testing.assert_array_equal(found["SNR (dB)"], [r["snr_db"] for r in records])
    np.testing.assert_array_equal(found["microphones"], [6, 6])
    np.testing.assert_array_equal(found["overlap ratio"], [0.25])
    assert "talkers" in found


@pytest.mark.parametrize(
    ("values", "line"),
    [([1, 1, 2], "█▄"), ([0.5], "█"), ([0.0, 1.5, 1.5], "▄  █"), ([3, 5], "█ █")],
)
def test_a_histogram_in_a_line(values, line):
    assert histogram_line(np.array(values, float), 4) == line


def test_a_meeting_is_planned_made_and_exported_by_the_same_command(tmp_path):
    folder = tmp_path / "made"
    yaml = tmp_path / "short.yaml"
    yaml.write_text(
        "array: {names: [laptop_2mic]}\ntalkers: {count: 2}\nroom: {rt60_s: 0.2}\n"
        "turns: {overlap_ratio: 0.1}\nduration_s: 30\nmethod: fast\n"
    )
    args = ("simulate", yaml, "--out", folder, "--count", 1)
    assert "overlap ratio" in succeeded(*args, "--dry-run").stdout and not folder.exists()
    succeeded(*args, "--export", "lhotse", "--export", "kaldi")
    meeting = folder / "0000" / "0000000"
    assert {"mixture.flac", "segments.json", "segments.rttm"} <= {p.name for p in meeting.iterdir()}
    turns = len((meeting / "segments.rttm").read_text().splitlines())
    assert len((folder / "kaldi" / "segments").read_text().splitlines()) == turns
    assert (folder / "lhotse" / "cuts.jsonl.gz").is_file()


def test_a_bank_is_made_once_and_drawn_from(tmp_path, scene):
    bank, out = tmp_path / "bank", tmp_path / "out"
    made = succeeded("simulate", scene, "--bank", "--out", bank, "--count", 2)
    assert made.stdout == f"{bank / 'responses.jsonl'}\n" and (bank / "summary.png").is_file()
    succeeded("simulate", scene, "--rooms", bank, "--out", out, "--count", 2)
    for record in read_manifest(out):
        (talker,) = record["talkers"]
        assert Path(talker["responses"][0]).parents[2] == bank
    refused("expected --bank without", "simulate", scene, "--bank", "--out", bank, "--dry-run")
    refused(
        "expected a response that can be read",
        "simulate",
        scene,
        "--rooms",
        scene.parent / "no",
        "--out",
        out,
    )


def dataset(folder: Path, scene: Path) -> Path:
    succeeded("simulate", scene, "--out", folder, "--count", 1)
    return folder


@pytest.mark.parametrize(
    ("match", "change"),
    [
        ("file: File exists", lambda out: ["--out", out.parent / "file"]),
        ("found another data set", lambda out: ["--seed", 7]),
        ("found another data set", lambda out: (out / "dataset.json").write_text("{") and []),
        (
            "whole record in .*/0000000, found",
            lambda out: (out / "0000/0000000/record.json").write_text("{") and [],
        ),
        ("Invalid value for '--count'", lambda out: ["--count", 0]),
        ("Invalid value for '--count'", lambda out: ["--count", -3]),
        ("Invalid value for '--jobs'", lambda out: ["--jobs", 0]),
        ("found no file .*nowhere", lambda out: ["--speech", "nowhere"]),
        ("expected recordings of split none", lambda out: ["--noise", out, "--split", "none"]),
        ("line 1: expected a record with path", lambda out: ["--noise", out.parent / "bad.jsonl"]),
        ("Invalid value for '--export'", lambda out: ["--export", "espnet"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_data_set_alone(tmp_path, scene, match, change):
    out = dataset(tmp_path / "out", scene)
    (tmp_path / "file").write_text("")
    (tmp_path / "bad.jsonl").write_text("{}\n")
    sound = (out / "0000/0000000/mixture.flac").read_bytes()
    refused(match, "simulate", scene, "--out", out, "--count", 1, *change(out))
    assert (out / "0000/0000000/mixture.flac").read_bytes() == sound
    assert not [name for name in tree(tmp_path) if name.endswith(".part")]
