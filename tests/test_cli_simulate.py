"""`clearbeam simulate`: what it plans, and what stands beside the manifest in the end."""

from __future__ import annotations

import re
import shlex
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


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path, scene, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("simulate.workers._CONNECT_S", 1)
    refused("127.0.0.1:9", "simulate", scene, "--out", tmp_path / "out",
            "--cluster", "tcp://127.0.0.1:9")  # fmt: skip


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


def test_the_commands_of_the_guide_work(tmp_path, monkeypatch):
    guide = (Path(__file__).parents[1] / "docs" / "simulate.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(yaml|sh|python)\n(.*?)```", guide, flags=re.DOTALL)
    names = iter(("my-array.yaml", "my-scene.yaml"))
    for language, text in blocks:
        if language == "yaml":
            Path(next(names)).write_text(text)
        elif language == "python":
            exec(compile(text, "docs/simulate.md", "exec"), {"__name__": "__main__"})
        else:
            command = text.strip().removeprefix("clearbeam ").replace("--count 4", "--count 2")
            succeeded(*shlex.split(command.replace("--jobs 2", "").replace("100", "20")))
    assert len(blocks) == 7
    for name in ("my-array.png", "data/mine/0000/0000000/mixture.flac", "data/mine/summary.png",
                 "data/mine/lhotse/cuts.jsonl.gz", "data/mine/kaldi/segments"):  # fmt: skip
        assert Path(name).is_file(), name


def test_a_meeting_is_made_by_the_same_command(tmp_path):
    folder = tmp_path / "made"
    yaml = tmp_path / "short.yaml"
    yaml.write_text(
        "array: {names: [laptop_2mic]}\ntalkers: {count: 2}\nroom: {rt60_s: 0.2}\n"
        "turns: {overlap_ratio: 0.1}\nduration_s: 30\nmethod: fast\n"
    )
    succeeded("simulate", str(yaml), "--out", str(folder), "--count", "1")
    meeting = folder / "0000" / "0000000"
    assert {"mixture.flac", "segments.json", "segments.rttm"} <= {p.name for p in meeting.iterdir()}
    for option in ("--dry-run", "--export=kaldi"):
        refused("found a meeting", "simulate", yaml, "--out", tmp_path / "no", option)
    assert not (tmp_path / "no").exists()
