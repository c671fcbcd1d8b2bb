"""What the enhancement benchmark says of the scores is what the scores say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scripts
import soundfile

from clearbeam.claims import Claim, Found, claims_table, facts, write_claims
from clearbeam.ledger import Row
from clearbeam.report import Column, Report
from clearbeam.scores import Score, Speed
from clearbeam.systems import check_system
from simulate import sample_scene

COLUMNS = (Column("si_sdr", "SI-SDR", 2), Column("stoi", "STOI", 3))


def test_a_claim_holds_when_every_mean_reaches_what_it_should():
    score = Score(("a", "b"), (1.0, 3.0))
    assert Found.of(score, 2.0).met and not Found.of(score, 2.1).met and Found.of(score).met
    reached, missed = Found.of(score, 2.0), Found.of(score, 2.1)
    assert Claim("", {"si_sdr": reached, "stoi": reached}).missed == []
    assert Claim("", {"si_sdr": reached, "stoi": missed}).missed == ["stoi"]
    assert Claim("", {"si_sdr": Found.of(score)}).missed is None
    assert not Found.of(Score(), 0.0).met, "nothing measured is nothing shown"


def test_the_table_shows_intervals_targets_and_what_is_missed():
    good, bad, told = Found(2.0, 1.5, 2.5, 1.0), Found(0.5, 0.4, 0.6, 1.0), Found(0.5, 0.4, 0.6)
    claims = [
        Claim("same", {"si_sdr": good, "stoi": bad}, "+"),
        Claim("one", {"si_sdr": good, "stoi": told}),
        Claim("none", {"si_sdr": told, "stoi": told}),
    ]
    assert claims_table("", claims, COLUMNS).rows == [
        ("same", "+2.00 (+1.50 to +2.50)", "+0.500 (+0.400 to +0.600)", "1", "no: STOI"),
        ("one", "2.00 (1.50 to 2.50)", "0.500 (0.400 to 0.600)", "1 / –", "yes"),
        ("none", "0.50 (0.40 to 0.60)", "0.500 (0.400 to 0.600)", "", ""),
    ]


def test_claims_are_left_with_what_they_depend_on(tmp_path):
    weights = tmp_path / "net.safetensors"
    found = []
    for content in (b"1", b"22"):
        weights.write_bytes(content)
        found.append(facts({"seed": 7}, [weights], ["numpy"]))
    assert found[0]["weights"] != found[1]["weights"] and found[0]["numpy"] == np.__version__
    claim = Claim("one", {"si_sdr": Found(2.0, 1.5, 2.5, 1.0)})
    table = claims_table("all", [claim], COLUMNS[:1])
    page = write_claims(tmp_path / "out", found[0], [table], [claim], [])
    assert page.read_text().startswith("seed 7, weights ") and "| one | 2.00" in page.read_text()
    saved = json.loads(page.with_suffix(".json").read_text())
    assert saved["run"] == found[0] and saved["claims"] == claim.to_json()


# --------------------------------------------------------------------------------- the benchmark


@pytest.fixture(scope="module")
def benchmark():
    return scripts.benchmark("enhance")


@pytest.fixture
def setting(benchmark, tmp_path):
    """Corpora of one talker, one noise, and responses of two and of four microphones."""
    rng = np.random.default_rng(0)
    for name, n_channels, seconds in (
        ("voice", 1, 2),
        ("hum", 1, 2),
        ("two", 2, 1),
        ("four", 4, 1),
    ):
        decay = 10 ** (-3 * np.arange(seconds * 16000) / 6400)
        x = 0.1 * decay[:, None] * rng.standard_normal((seconds * 16000, n_channels))
        soundfile.write(tmp_path / f"{name}.flac", x, 16000)
    for manifest, names in (("speech", ["voice"]), ("noise", ["hum"]), ("rir", ["two", "four"])):
        records = [{"path": f"{name}.flac", "seconds": 2.0, "speaker": name, "split": "valid",
                    "channels": {"two": 2, "four": 4}.get(name, 1)} for name in names]  # fmt: skip
        (tmp_path / f"{manifest}.jsonl").write_text("\n".join(json.dumps(r) for r in records))
    gtcrn = tmp_path / "published.safetensors"
    gtcrn.write_bytes(b"")
    return benchmark.Setting(tmp_path, tmp_path / "out", "valid", 3, 1, gtcrn, "default")


def test_every_condition_can_be_drawn_and_every_system_is_known(benchmark, setting):
    found = {condition.name: condition for condition in benchmark.conditions(setting)}
    scenes = {
        name: sample_scene(benchmark.scene_of(condition, setting), 0, 0)
        for name, condition in found.items()
    }
    for condition in found.values():
        for system in condition.systems:
            check_system(system)
    for array in benchmark.ARRAYS:
        assert scenes[array].array.name == array
    assert scenes["circle"].array.name == "circular_6mic"
    measured, simulated = scenes["pair_measured"], scenes["pair_simulated"]
    assert len(measured.mics_m) == len(simulated.mics_m) == 2
    assert measured.talkers[0].responses and not simulated.talkers[0].responses
    same = ("segments", "speaker")
    assert all(getattr(measured.talkers[0], k) == getattr(simulated.talkers[0], k) for k in same)
    assert measured.snr_db == simulated.snr_db
    assert scenes["noise"].snr_db == -100 and scenes["close"].snr_db == 30


def reports(benchmark, setting, value):
    """A report of every condition; value(condition, system) -> mean of each metric."""
    found = {}
    for condition in benchmark.conditions(setting):
        columns = tuple(Column(name, name, 2) for name in condition.metrics)
        pairs = [(i, system) for i in range(3) for system in condition.systems]
        rows = [
            Row(
                f"clip{i}",
                s,
                dict.fromkeys(condition.metrics, value(condition.name, s) + i),
                Speed(),
            )
            for i, s in pairs
        ]
        clips = {f"clip{i}": {} for i in range(3)}
        found[condition.name] = Report("", "enhance", columns, condition.systems, "noisy",
                                       tuple(rows), clips)  # fmt: skip
    return found


def test_claims_compare_what_their_titles_say(benchmark, setting):
    mics = {f"clearbeam{mics}": n for n, mics in benchmark.SUBSETS.items()}

    def value(condition, system):
        if condition == "pair_measured":
            return {"noisy": 1.0, "clearbeam": 3.7}[system]
        if condition == "circular_8mic" and system in mics:
            return 10.0 * mics[system]
        return {"noisy": 1.0, "clearbeam": 4.0, "clearbeam-streaming": 3.5}.get(system, 2.0)

    found = {c.title: c for c in benchmark.claims(reports(benchmark, setting, value), setting)}
    means = {title: next(iter(claim.found.values())).value for title, claim in found.items()}
    assert means["6-mic circle: offline"] == 5.0  # the clips add 0, 1 and 2
    assert means["6-mic circle: live − offline"] == -0.5
    assert means["laptop_2mic: ours − rival"] == 2.0
    assert means["circular_8mic: 2 − 1 mics"] == 10 and means["circular_8mic: 8 − 4 mics"] == 40
    assert means["gain in measured / in simulated rooms"] == pytest.approx(2.7 / 3)
    assert means["close and clean, live: output − input"] == 2.5
    assert means["noise alone, offline"] == 5.0
    assert found["6-mic circle: offline"].missed == ["si_sdr"], "10 dB were asked for"
    assert found["circular_8mic: 4 − 2 mics"].missed == []
    assert found["gain in measured / in simulated rooms"].missed == []
    assert found["noise alone, live"].missed == ["attenuation"]
    assert found["6-mic circle: live"].missed is None


def test_without_the_rival_or_responses_their_claims_are_left_out(benchmark, setting):
    from dataclasses import replace

    (setting.corpora / "rir.jsonl").unlink()
    few = replace(setting, gtcrn=None)
    titles = [c.title for c in benchmark.claims(reports(benchmark, few, lambda c, s: 1.0), few)]
    assert not any("rival" in title or "measured" in title for title in titles)
    assert "circular_8mic: 2 − 1 mics" in titles
