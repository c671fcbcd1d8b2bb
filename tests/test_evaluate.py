"""Evaluation end to end on a tiny simulated dataset: right numbers, any jobs, resumed, refused."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli import refused, succeeded
from safetensors.torch import save_file

from clearbeam import evaluate, systems
from clearbeam.evaluate import evaluate_dataset
from clearbeam.ledger import Ledger, Row, fingerprint
from clearbeam.metrics import METRICS, si_sdr, stoi
from clearbeam.scores import Speed
from multichannel.gtcrn import GTCRN
from simulate import SceneConfig, read_manifest, write_dataset

FAST = ("si_sdr", "si_sdri", "stoi")
N_CLIPS = 3


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data")
    config = SceneConfig.load("quickstart").model_copy(update={"duration_s": 2.0})
    write_dataset(config, out, N_CLIPS, seed=5)
    return out


@pytest.fixture
def dataset(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "data"))


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """The clips that a system called `counting` was run on, warm-up left out."""
    calls: list[str] = []

    def counting(mixture, clip):
        if clip.seconds > evaluate.WARM_UP_S:
            calls.append(clip.name)
        return mixture[-1]

    monkeypatch.setitem(systems.BEAMS, "counting", counting)
    return calls


def scores(report, system, metric="si_sdr"):
    return report.score(system, metric).values


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


def test_a_killed_process_is_told_in_one_line(dataset, monkeypatch):
    monkeypatch.setattr(evaluate, "_score_clip", _die)
    with pytest.raises(ChildProcessError, match="a worker process died") as error:
        evaluate_dataset(dataset, ["noisy"], metrics=("si_sdr",), jobs=2)
    assert "\n" not in str(error.value)


def _die(job, todo):
    os.kill(os.getpid(), signal.SIGKILL)


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


# ------------------------------------------------------------------------- what may be evaluated


def test_recordings_need_no_more_than_an_id_and_a_reference(dataset, tmp_path):
    full = evaluate_dataset(dataset, ["oracle-mvdr"], metrics=FAST)
    lines = (dataset / "manifest.jsonl").read_text().splitlines()
    records = [{k: json.loads(line)[k] for k in ("id", "paths")} for line in lines]
    (dataset / "manifest.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    bare = evaluate_dataset(dataset, ["oracle-mvdr"], metrics=FAST)
    assert scores(bare, "oracle-mvdr") == pytest.approx(scores(full, "oracle-mvdr"))
    assert bare.groups() == {}
    with pytest.raises(RuntimeError, match="expected known positions for a steered beam"):
        evaluate_dataset(dataset, ["delay-and-sum"], metrics=FAST)


def test_a_reference_of_one_channel_serves_and_of_another_number_does_not(dataset):
    full = evaluate_dataset(dataset, ["oracle-mvdr", "oracle-mvdr@0,3"], metrics=FAST)
    early = next(iter(read_manifest(dataset)))["paths"]["early"][0]
    x, rate = soundfile.read(early)
    soundfile.write(early, x[:, :1], rate, subtype="PCM_24")
    one = evaluate_dataset(dataset, ["oracle-mvdr", "oracle-mvdr@0,3"], metrics=FAST)
    for name in full.systems:
        assert scores(one, name)[0] == pytest.approx(scores(full, name)[0], abs=1e-3)
    soundfile.write(early, x[:, :2], rate, subtype="PCM_24")
    with pytest.raises(ValueError, match="with 1 channel or 6 like its mixture, found 2"):
        evaluate_dataset(dataset, ["noisy"], metrics=FAST)


def test_what_another_program_made_is_scored_and_scored_anew_when_it_changes(dataset, tmp_path):
    made, out = tmp_path / "made", tmp_path / "scores.json"
    made.mkdir()
    for record in read_manifest(dataset):
        x, rate = soundfile.read(record["paths"]["mixture"])
        soundfile.write(made / f"{record['id']}.wav", x[:, 2], rate, subtype="FLOAT")
    name = f"files:{made}"
    report = evaluate_dataset(dataset, [name], metrics=FAST, json_path=out)
    for i, record in enumerate(read_manifest(dataset)):
        early, _ = soundfile.read(record["paths"]["early"][0])
        mixture, rate = soundfile.read(record["paths"]["mixture"])
        expected = si_sdr(mixture[:, 2], early[:, 0])
        assert scores(report, name)[i] == pytest.approx(expected, abs=1e-4)
    soundfile.write(made / f"{record['id']}.wav", mixture[:, 0], rate, subtype="FLOAT")
    again = evaluate_dataset(dataset, [name], metrics=FAST, json_path=out)
    assert scores(again, name)[-1] == pytest.approx(scores(again, "noisy")[-1])
    soundfile.write(made / f"{record['id']}.wav", mixture[:, :2], rate)
    with pytest.raises(RuntimeError, match=r"expected one channel in .*, found 2"):
        evaluate_dataset(dataset, [name], metrics=FAST)
    (made / f"{record['id']}.wav").unlink()
    with pytest.raises(
        RuntimeError, match=r"expected 5-0000002\.flac or \.wav in .*, found neither"
    ):
        evaluate_dataset(dataset, [name], metrics=FAST)


def test_the_command_takes_metrics_a_model_a_network_and_another_baseline(dataset, tmp_path):
    torch.manual_seed(0)
    weights, table = tmp_path / "net.safetensors", tmp_path / "out" / "scores.md"
    save_file(GTCRN().state_dict(), weights)
    command = ["evaluate", dataset, "--limit", "1", "--metrics", "stoi,si_sdr"]
    succeeded(*command, "--system", "oracle-mvdr", "--gtcrn", weights, "--model", "mono",
              "--against", "oracle-mvdr", "--markdown", table)  # fmt: skip
    text = table.read_text()
    assert "| system | STOI | SI-SDR | RTF |" in text and "difference to oracle-mvdr**" in text
    for name in ("clearbeam:mono", "gtcrn:net", "delay-and-sum+gtcrn:net", "mvdr-2048+gtcrn:net",
                 "oracle-mvdr+gtcrn:net"):  # fmt: skip
        assert f"| {name} |" in text
    refused("did you mean si_sdr", *command[:4], "--metrics", "si_sd")
    refused("did you mean noisy", *command, "--against", "nosy")


# --------------------------------------------------------------------------- failures and bad input


def test_nan_from_a_system_scores_worst_and_is_not_skipped(dataset, monkeypatch):
    monkeypatch.setitem(systems.BEAMS, "broken", lambda mixture, clip: mixture[0] * math.nan)
    report = evaluate_dataset(dataset, ["broken"], metrics=("si_sdr", "stoi"))
    for metric in ("si_sdr", "stoi"):
        assert scores(report, "broken", metric) == (METRICS[metric].worst,) * N_CLIPS


def test_a_system_of_the_wrong_length_is_named(dataset, monkeypatch):
    monkeypatch.setitem(systems.BEAMS, "short", lambda mixture, clip: mixture[0, :-1])
    message = r"shape \(16000,\) from short on clip 5-0000000, found \(15999,\)"
    with pytest.raises(RuntimeError, match=message):
        evaluate_dataset(dataset, ["short"], metrics=("si_sdr",))


def test_a_missing_package_leaves_its_columns_out_unless_they_are_asked_for(dataset, monkeypatch):
    missing = METRICS["stoi"].__class__(**{**vars(METRICS["stoi"]), "package": "no_such_package"})
    monkeypatch.setitem(METRICS, "stoi", missing)
    with pytest.warns(UserWarning, match="STOI left out: it needs no_such_package"):
        report = evaluate_dataset(dataset, ["noisy"], limit=1)
    assert "stoi" not in [column.name for column in report.columns]
    with pytest.raises(ImportError, match="expected the package no_such_package for stoi"):
        evaluate_dataset(dataset, ["noisy"], metrics=("stoi",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "dance"}, "expected a task among enhance, separate, found dance"),
        ({"metrics": ["snr"]}, "expected metrics among si_sdr, .*, found snr"),
        ({"metrics": ["pesq"]}, "found pesq; did you mean pesq_wb"),
        (
            {"metrics": ["dnsmos_sig"]},
            "expected the DNSMOS model's file for dnsmos_sig",
        ),
        ({"dnsmos": "/no/such.onnx"}, "expected the DNSMOS model, found no file /no/such.onnx"),
        ({"systems": ["files:/no/such"]}, "expected a folder of estimates, found none at /no/such"),
        ({"markdown_path": "/"}, "expected a file to write, found the folder /"),
        ({"systems": ["nosy"]}, "expected a system's name, found nosy: did you mean noisy"),
        ({"systems": ["gtcrn:/no/such"]}, "expected GTCRN weights, found no file /no/such"),
        ({"baseline": "silence"}, "expected a system's name, found silence"),
        ({"limit": 0}, "expected a limit of at least 1, found 0"),
        ({"jobs": 0}, "expected at least 1 job, found 0"),
        ({"json_path": "/"}, "expected a file to write, found the folder /"),
    ],
)
def test_bad_options_are_refused_before_any_work(dataset, counted, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_dataset(dataset, **{"systems": ["counting"], **options})
    assert not counted


def edited(dataset: Path, **changes) -> None:
    manifest = dataset / "manifest.jsonl"
    records = [json.loads(line) for line in manifest.read_text().splitlines()]
    records[-1] = {k: v for k, v in {**records[-1], **changes}.items() if v is not None}
    manifest.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_a_broken_dataset_is_refused(dataset, tmp_path):
    def refuses(message):
        with pytest.raises(ValueError, match=message):
            evaluate_dataset(dataset, ["noisy"], metrics=("si_sdr",))

    with pytest.raises(ValueError, match=r"expected a data set with a manifest\.jsonl"):
        evaluate_dataset(tmp_path / "nowhere")
    records = [json.loads(x) for x in (dataset / "manifest.jsonl").read_text().splitlines()]
    edited(dataset, snr_db="loud")
    refuses("expected a mixture with its truth, found ValueError.*loud.* in 5-0000002")
    edited(dataset, **{**records[-1], "paths": {"mixture": "mixture.flac"}})
    refuses("expected a mixture with its truth, found KeyError.*early.* in 5-0000002")
    edited(dataset, **records[0])
    refuses("expected each clip once in .*, found twice: 5-0000000")
    edited(dataset, **records[-1])
    early = dataset / records[-1]["paths"]["early"][0]
    x, rate = soundfile.read(early)
    soundfile.write(early, x[:-10], rate)
    refuses("early1.flac as long as its mixture, found 31990 and 32000")
    soundfile.write(early, x, 8000)
    refuses("expected sound at 16000 Hz in .*early1.flac, found 32000 samples at 8000 Hz")
    early.write_text("no sound")
    refuses("expected sound that can be read, found .*early1.flac")
    early.unlink()
    refuses("expected an audio file, found nothing at .*early1.flac")
    (dataset / "manifest.jsonl").write_text("")
    refuses("expected mixtures in .*, found an empty manifest")
