"""Meetings scored: who talked when, to whom it was given, and with which words."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from cli import RATE, refused, succeeded, voice, write

from clearbeam import meetings
from clearbeam.meetings import evaluate_meetings
from clearbeam.wer import word_error_rate
from simulate.meeting_text import Said, seglst

TRUTH = [Said("ann", 0.5, 3.0, "Hello there, Bob!"), Said("bob", 3.0, 5.5, "hello ANN")]


class Parrot:
    """A recogniser that always hears the same."""

    def transcribe(self, x, sample_rate):
        return [(word, 0.0, 0.1) for word in "hello there bob hello ann".split()]


@pytest.fixture
def dataset(tmp_path) -> Path:
    """A meeting of 6 s: noise as loud as speech while either talks."""
    rng = np.random.default_rng(0)
    x = 0.001 * rng.standard_normal((6 * RATE, 2))
    x[RATE // 2 : round(5.5 * RATE)] += 0.1 * rng.standard_normal((5 * RATE, 2))
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "mixture.wav", x)
    (tmp_path / "data" / "segments.json").write_text(seglst(TRUTH, "m"))
    record = {"id": "m", "paths": {"mixture": "mixture.wav", "seglst": "segments.json"}}
    (tmp_path / "data" / "manifest.jsonl").write_text(json.dumps(record))
    return tmp_path / "data"


def values(report, system: str) -> dict[str, float]:
    (row,) = (row for row in report.rows if row.system == system)
    return dict(row.values)


def test_the_reference_mic_gives_everybody_to_one_talker(dataset):
    found = values(evaluate_meetings(dataset, ["noisy"]), "noisy")
    assert found["talkers"] == 1 and found["confused"] == 50
    assert found["missed"] < 2 and found["false"] < 20  # margins on both sides
    assert found["der"] == pytest.approx(sum(found[k] for k in ("missed", "false", "confused")))


def test_words_count_for_the_talker_or_for_anybody(dataset, monkeypatch):
    pytest.importorskip("meeteval")
    monkeypatch.setattr(json, "Parrot", Parrot, raising=False)
    report = evaluate_meetings(
        dataset, ["noisy"], metrics=["cpwer", "orcwer"], recogniser="json:Parrot"
    )
    # Five words, all said: but three by ann, so two of her stream are too many and bob's missing.
    assert values(report, "noisy") == {"cpwer": pytest.approx(80), "orcwer": 0}


def test_streams_may_be_in_any_order_and_unknown_words_have_no_rate():
    pytest.importorskip("meeteval")
    swapped = [Said("1", 3.0, 5.5, "hello ann"), Said("2", 0.5, 3.0, "hello there dog")]
    assert word_error_rate(swapped, TRUTH) == pytest.approx(1 / 5)
    assert word_error_rate([], TRUTH) == 1
    split = [*swapped[1:], Said("1", 3.0, 4.0, "hello"), Said("3", 4.0, 5.5, "ann")]
    assert word_error_rate(split, TRUTH) == pytest.approx(3 / 5)
    assert np.isnan(word_error_rate(swapped, [*TRUTH, Said("cat", 0, 1)]))
    assert np.isnan(word_error_rate(swapped, []))


def test_without_meeteval_words_are_refused_in_one_line(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "meeteval", None)
    refused(r"pip install 'clearbeam\[meetings\]'",
            "evaluate", dataset, "--task", "meeting", "--metrics", "cpwer")  # fmt: skip


def test_what_is_scored_is_not_scored_again(dataset, tmp_path, monkeypatch):
    scores = tmp_path / "scores.json"
    first = evaluate_meetings(dataset, ["noisy"], json_path=scores)
    monkeypatch.setattr(meetings, "_run", None)
    assert evaluate_meetings(dataset, ["noisy"], json_path=scores).rows == first.rows
    (dataset / "segments.json").write_text(seglst([TRUTH[0]], "meeting"))
    with pytest.raises(RuntimeError, match="noisy failed on meeting m"):
        evaluate_meetings(dataset, ["noisy"], json_path=scores)


def test_the_spatial_model_is_told_how_many_talk(dataset):
    write(dataset / "mixture.wav", voice(2))
    found = values(evaluate_meetings(dataset, ["cacgmm"], baseline="cacgmm"), "cacgmm")
    assert 1 <= found["talkers"] <= 2


def test_the_command_takes_meetings(dataset, tmp_path):
    told = succeeded("evaluate", dataset, "--task", "meeting", "--system", "noisy",
                     "--metrics", "der,talkers", "--json", tmp_path / "out.json")  # fmt: skip
    assert "DER (%)" in told.stdout and "missed" not in told.stdout
    assert json.loads((tmp_path / "out.json").read_text())["task"] == "meeting"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--system", "nois"], "expected a system's name, found nois: did you mean noisy"),
        (["--model", "no/such.safetensors"], "no/such"),
        (["--metrics", "si_sdr"], "expected metrics among der, .*, found si_sdr"),
        (["--gtcrn", "x"], "expected --gtcrn and --dnsmos with the task enhance only"),
        (["--task", "dance"], "expected a task among enhance, separate, meeting, found dance"),
    ],
)
def test_bad_options_are_refused(dataset, options, message):
    refused(message, "evaluate", dataset, "--task", "meeting", *options)


def test_a_broken_truth_is_refused(dataset):
    (dataset / "segments.json").write_text('[{"speaker": "ann"}]')
    with pytest.raises(ValueError, match=r"expected segments \(SegLST\) in .*segments.json"):
        evaluate_meetings(dataset, ["noisy"])
    (dataset / "segments.json").unlink()
    with pytest.raises(ValueError, match="found nothing at"):
        evaluate_meetings(dataset, ["noisy"])
