"""Evaluation end to end on a tiny simulated dataset: right numbers, any jobs, resumed."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from evaluated import FAST, N_CLIPS, counting, scores, write_clips
from safetensors.torch import save_file

from clearbeam import systems
from clearbeam.evaluate import _code, evaluate_dataset
from clearbeam.ledger import Ledger, Row, fingerprint
from clearbeam.metrics import METRICS, si_sdr, stoi
from clearbeam.scores import Speed
from multichannel.gtcrn import GTCRN
from simulate import read_manifest


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("data"))


@pytest.fixture
def dataset(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "data"))


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    return counting(monkeypatch)


def test_scores_are_the_metrics_against_the_early_image_at_the_reference_mic(dataset):
    report = evaluate_dataset(dataset, ["noisy", "oracle-mvdr"], metrics=FAST)
    for i, record in enumerate(read_manifest(dataset)):
        mixture, _ = soundfile.read(record["paths"]["mixture"])
        early, _ = soundfile.read(record["paths"]["early"][0])
        expected = si_sdr(mixture[:, 0], early[:, 0]), stoi(mixture[:, 0], early[:, 0])
        found = scores(report, "noisy")[i], scores(report, "noisy", "stoi")[i]
        assert found == pytest.approx(expected, abs=1e-5)
    assert scores(report, "noisy", "si_sdri") == (0.0,) * N_CLIPS
    gains = np.subtract(scores(report, "oracle-mvdr"), scores(report, "noisy"))
    assert scores(report, "oracle-mvdr", "si_sdri") == pytest.approx(gains)
    assert min(gains) > 0
    assert report.speed("oracle-mvdr").audio_s == pytest.approx(2.0 * N_CLIPS)
    assert report.speed("oracle-mvdr").rtf > report.speed("noisy").rtf


def test_all_metrics_are_there_and_the_baseline_comes_first(dataset):
    report = evaluate_dataset(dataset, ["delay-and-sum"], limit=1)
    names = ["si_sdr", "si_sdri", "sdr", "sdri", "pesq_wb", "stoi", "estoi"]
    expected = [name for name in names if METRICS[name.replace("sdri", "sdr")].available]
    assert [column.name for column in report.columns] == expected
    assert report.systems == ("noisy", "delay-and-sum") and len(report.clips) == 1


def test_any_number_of_jobs_gives_the_same_scores_and_leaves_the_process_as_it_was(dataset):
    names = ["noisy", "superdirective", "oracle-mvdr-2048"]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    before = 2, dict(os.environ)
    one = evaluate_dataset(dataset, names, metrics=FAST)
    two = evaluate_dataset(dataset, names, metrics=FAST, jobs=2)
    after = torch.get_num_threads(), dict(os.environ)
    torch.set_num_threads(threads)
    assert after == before
    assert [(row.clip, row.system, dict(row.values)) for row in two.rows] == [
        (row.clip, row.system, pytest.approx(dict(row.values), abs=1e-4)) for row in one.rows
    ]


def test_progress_counts_clips_times_systems(dataset, counted):
    seen = []
    progress = lambda done, total: seen.append((done, total))  # noqa: E731
    evaluate_dataset(dataset, ["noisy", "counting"], metrics=("si_sdr",), progress=progress)
    assert seen == [(0, 6), (2, 6), (4, 6), (6, 6)]


# ----------------------------------------------------------------------------------- resuming


def test_a_second_run_computes_nothing_and_reports_the_same(dataset, counted, tmp_path):
    out = tmp_path / "new" / "scores.json"
    first = evaluate_dataset(dataset, ["counting"], metrics=FAST, json_path=out)
    text = out.read_text()
    assert len(counted) == N_CLIPS
    assert evaluate_dataset(dataset, ["counting"], metrics=FAST, json_path=out) == first
    assert len(counted) == N_CLIPS and out.read_text() == text
    assert sorted(p.name for p in out.parent.iterdir()) == ["scores.clips.jsonl", "scores.json"]
    assert json.loads(text)["systems"]["counting"]["scores"]["si_sdr"]["count"] == N_CLIPS


def test_a_run_that_broke_goes_on_where_it_stopped(dataset, monkeypatch, tmp_path):
    out = tmp_path / "scores.json"
    calls, broken = [], True

    def fragile(mixture, clip):
        calls.append(clip.name)
        if broken and clip.name == last:
            raise MemoryError("no more")
        return mixture[0]

    monkeypatch.setitem(systems.BEAMS, "fragile", fragile)
    last = [record["id"] for record in read_manifest(dataset)][-1]
    with pytest.raises(RuntimeError, match=rf"fragile failed on clip {last}: MemoryError"):
        evaluate_dataset(dataset, ["fragile"], metrics=FAST, json_path=out)
    assert not out.exists()
    with out.with_name("scores.clips.jsonl").open("a") as ledger:
        ledger.write('{"key": "torn')
    calls.clear()
    broken = False
    report = evaluate_dataset(dataset, ["fragile"], metrics=FAST, json_path=out)
    assert set(calls) == {last}
    assert scores(report, "fragile") == scores(report, "noisy") and len(report.clips) == N_CLIPS


def test_other_audio_weights_or_metrics_make_old_scores_worthless(dataset, counted, tmp_path):
    out = tmp_path / "scores.json"
    evaluate_dataset(dataset, ["counting"], metrics=("si_sdr",), json_path=out)
    record = next(iter(read_manifest(dataset)))
    early = Path(record["paths"]["early"][0])
    x, rate = soundfile.read(early)
    soundfile.write(early, x[:, ::-1], rate, subtype="PCM_24")
    evaluate_dataset(dataset, ["counting"], metrics=("si_sdr",), json_path=out)
    assert counted[N_CLIPS:] == [record["id"]]
    evaluate_dataset(dataset, ["counting"], metrics=FAST, json_path=out)
    assert len(counted) == 2 * N_CLIPS + 1

    weights = tmp_path / "weights.safetensors"
    name, found = f"gtcrn:{weights}", []
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_file(GTCRN().state_dict(), weights)
        report = evaluate_dataset(dataset, [name], metrics=("si_sdr",), json_path=out, limit=1)
        found.append(scores(report, name))
    assert found[0] != found[1]


def test_scores_depend_on_all_code_and_weights_of_what_is_scored():
    code = {path.name for path in _code("separate")}
    assert {"stft.py", "live.cpp", "mixture.cpp", "calm.h", "wiener.py", "metrics.py"} <= code
    weights = {path.stem for path in systems.system_files("clearbeam")}
    assert weights == {"default", "mono", "refine"}


def test_a_fingerprint_follows_the_code_and_weights_of_a_folder(tmp_path):
    (tmp_path / "code.py").write_text("1")
    (tmp_path / "notes.txt").write_text("1")
    first = fingerprint("a", tmp_path)
    (tmp_path / "notes.txt").write_text("2")
    assert fingerprint("a", tmp_path) == first != fingerprint("b", tmp_path)
    (tmp_path / "code.py").write_text("22")
    assert fingerprint("a", tmp_path) != first
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


def test_a_ledger_skips_what_is_no_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = Row("clip", "noisy", {"si_sdr": 1.5, "stoi": math.nan}, Speed(0.1, 2.0))
    Ledger(path).add("key", row)
    with path.open("a") as file:
        file.write('[]\n\n{"key": "other"}\n{"key": 3, "clip": "c", "values": 1}\n{"key": "ke')
    Ledger(path).add("next", row)
    found = Ledger(path)
    for key in ("key", "next"):
        again = found.find(key, ["si_sdr"])
        assert again is not None and again.to_json() == row.to_json()
    assert found.find("key", ["si_sdr", "sdr"]) is None and found.find("other", []) is None


def test_killed_with_minus_nine_it_goes_on_and_reports_as_if_never_stopped(dataset, tmp_path):
    names = ("noisy", "oracle-mvdr", "oracle-mvdr-2048", "superdirective")
    whole = evaluate_dataset(dataset, names, metrics=FAST)
    out, ledger = tmp_path / "scores.json", tmp_path / "scores.clips.jsonl"
    systems = [word for name in names for word in ("--system", name)]
    options = ["--jobs", "2", "--metrics", ",".join(FAST), "--json", str(out)]
    command = [sys.executable, "-m", "clearbeam", "evaluate", str(dataset), *systems, *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not ledger.exists():
            time.sleep(0.02)
        process.kill()
        # Its workers hold the other end of the pipe, so this comes back when they have ended.
        process.communicate(timeout=300)
    known = ledger.read_text().splitlines()
    again = evaluate_dataset(dataset, names, metrics=FAST, json_path=out)
    assert len(known) > 0
    assert [(row.clip, row.system, dict(row.values)) for row in again.rows] == [
        (row.clip, row.system, pytest.approx(dict(row.values), abs=1e-4)) for row in whole.rows
    ]
