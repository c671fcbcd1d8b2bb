"""What the separation benchmark says of the scores is what the scores say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scripts
import soundfile

from clearbeam.ledger import Row
from clearbeam.report import Column, Report
from clearbeam.scores import Score, Speed
from clearbeam.separators import check_system
from separation import SeparationConfig, SeparationNet
from separation.weights import save_separation
from simulate import sample_scene


@pytest.fixture(scope="module")
def benchmark():
    return scripts.benchmark("separate")


@pytest.fixture
def setting(benchmark, tmp_path):
    """Corpora of three voices and one noise, and weights that nobody trained."""
    rng = np.random.default_rng(0)
    names = ["a", "b", "c", "hum"]
    for name in names:
        soundfile.write(tmp_path / f"{name}.flac", 0.1 * rng.standard_normal(32000), 16000)
    for manifest, of in (("speech", names[:3]), ("noise", names[3:])):
        records = [{"path": f"{name}.flac", "seconds": 2.0, "speaker": name, "split": "valid"}
                   for name in of]  # fmt: skip
        (tmp_path / f"{manifest}.jsonl").write_text("\n".join(json.dumps(r) for r in records))
    model = tmp_path / "mine.safetensors"
    save_separation(SeparationNet(SeparationConfig(width=2, outer=2, blocks=1)), model)
    return benchmark.Setting(tmp_path, tmp_path / "out", "valid", 3, 1, True, str(model))


def test_every_condition_can_be_drawn_and_every_system_is_known(benchmark, setting):
    for condition in benchmark.conditions(setting):
        for system in condition.systems:
            check_system(system)
        scene = sample_scene(benchmark.scene_of(condition, setting), 0, 0)
        n_talkers = {"one": 1, "three": 3}.get(condition.name, 2)
        assert len(scene.talkers) == n_talkers and scene.snr_db == 20
        assert scene.array.name == (condition.array or "circular_6mic")
        assert scene.rt60_s == (condition.rt60_s or scene.rt60_s)
        assert scene.n_samples == 6 * scene.fs


def reports(benchmark, setting, value):
    """A report of every condition; value(condition, system) -> lowest score of three clips."""
    found = {}
    for condition in benchmark.conditions(setting):
        columns = tuple(Column(name, name, 2) for name in condition.metrics)
        rows = [
            Row(f"clip{i}", s, dict.fromkeys(condition.metrics, value(condition.name, s) + step),
                Speed(1.0, 8.0))
            for i, step in enumerate((0, 1, 5))
            for s in condition.systems
        ]  # fmt: skip
        clips = {f"clip{i}": {} for i in range(3)}
        found[condition.name] = Report("", "separate", columns, condition.systems, "noisy",
                                       tuple(rows), clips)  # fmt: skip
    return found


def test_claims_compare_what_their_titles_say(benchmark, setting):
    def value(condition, system):
        if system == setting.ours:
            return {"dry": 10.0, "lively": 9.0, "three": 7.0, "one": -3.0}.get(condition, 4.0)
        return {"auxiva": 6.5, "fastmnmf2": 1.0, "cacgmm": 4.0}.get(system, 0.0)

    found = {c.title: c for c in benchmark.claims(reports(benchmark, setting, value), setting)}
    values = {title: next(iter(claim.found.values())).value for title, claim in found.items()}
    dry, lively = (f"2 talkers, 6-mic circle, RT60 {s:g} s" for s in (0.3, 0.6))
    assert values[dry] == 11.0, "the median of 10, 11 and 15"
    assert values[f"{dry}: speed"] == 8.0, "audio over processor time"
    assert values[f"{dry}: ours − auxiva"] == 3.5 and values[f"{lively}: ours − auxiva"] == 2.5
    assert found[f"{dry}: ours − auxiva"].missed == []
    assert found[f"{lively}: ours − auxiva"].missed == ["si_sdri"], "3 dB were asked for"
    assert found["laptop_2mic: ours − auxiva"].missed == ["si_sdri"]
    assert found["laptop_2mic: ours − cacgmm"].missed == []
    assert values["3 talkers, 6-mic circle"] == 8.0, "the median of 7, 8 and 12"
    assert found["1 talker alone"].missed == ["si_sdri"]
    assert values["three: as many streams as talkers"] == pytest.approx(9), "a mean"


def test_the_median_and_its_interval_hardly_see_an_outlier():
    values = tuple(float(v) for v in (*range(21), 1000))
    score = Score(tuple(f"{v}" for v in values), values)
    assert score.median == 10.5
    low, high = score.interval(median=True)
    assert 3 < low < 10.5 < high < 18
    assert score.interval()[1] > 50
    assert np.isnan(Score().median)
