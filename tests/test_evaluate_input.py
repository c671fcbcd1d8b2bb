"""What evaluation takes: recordings, outputs of other programs, networks; all else it refuses."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
from cli import refused, succeeded
from evaluated import FAST, N_CLIPS, counting, scores, write_clips
from safetensors.torch import save_file

from clearbeam import systems
from clearbeam.evaluate import evaluate_dataset
from clearbeam.metrics import METRICS, si_sdr
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
    command = ["evaluate", dataset, "--system", name, "--metrics", "si_sdr"]
    refused("failed on clip 5-0000002: .* found neither", *command)


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
