"""A report's numbers come from its rows, in groups that add up."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from clearbeam.ledger import Row
from clearbeam.report import Column, Report
from clearbeam.scores import Score, Speed

COLUMNS = (Column("si_sdr", "SI-SDR", 2), Column("stoi", "STOI", 3))
RT60_S = [0.2, 0.25, 0.39, 0.4, 0.41, 0.55, 0.58, 0.6]  # 0.6 and 0.2 * 3 differ in binary


def report(systems=("noisy", "ours:/a/b.safetensors"), rt60_s=RT60_S) -> Report:
    rows, conditions = [], {}
    for i, rt60 in enumerate(rt60_s):
        clip = f"clip{i}"
        conditions[clip] = {"snr_db": float(5 * (i % 2)), "rt60_s": rt60, "array": "circle"}
        for j, system in enumerate(systems):
            values = {"si_sdr": i + 3.0 * j, "stoi": math.nan if i == 0 else 0.1 * i}
            rows.append(Row(clip, system, values, Speed(0.5 * j, 2.0 + i)))
    return Report("data", "enhance", COLUMNS, systems, "noisy", tuple(rows), conditions)


def test_scores_gains_and_speed_come_from_the_rows():
    found = report()
    ours = found.systems[1]
    assert found.score(ours, "si_sdr").mean == pytest.approx(3 + 3.5)
    assert found.score(ours, "stoi").undefined == 1
    assert found.gain(ours, "si_sdr").values == (3.0,) * 8
    assert found.gain(ours, "si_sdr").interval() == (3.0, 3.0)
    assert found.speed(ours).rtf == pytest.approx(8 * 0.5 / (8 * 2 + 28))


def test_a_continuum_is_cut_into_bins_and_chosen_values_are_kept():
    groups = report().groups()
    assert list(groups["snr_db"]) == ["0", "5"]
    assert {label: len(clips) for label, clips in groups["rt60_s"].items()} == {
        "0.2 to 0.4": 3, "0.4 to 0.6": 4, "0.6 to 0.8": 1,
    }  # fmt: skip
    assert "array" not in groups, "a condition that does not vary needs no table"


def test_a_few_clips_are_no_reason_to_take_a_continuum_for_chosen_values():
    assert list(report(rt60_s=[0.21, 0.22, 0.43]).groups()["rt60_s"]) == [
        "0.2 to 0.4",
        "0.4 to 0.6",
    ]


def test_groups_add_up_to_the_whole():
    found = report()
    for groups in found.groups().values():
        parts = sum((found.score("noisy", "si_sdr", c) for c in groups.values()), Score())
        assert parts.mean == found.score("noisy", "si_sdr").mean
        assert parts.count == len(found.clips)


def test_json_is_strict_and_holds_every_row():
    found = report()

    def refuse(constant):
        raise AssertionError(constant)

    data = json.loads(json.dumps(found.to_json()), parse_constant=refuse)
    assert tuple(Row.from_json(row) for row in data["rows"][2:]) == found.rows[2:]
    assert math.isnan(Row.from_json(data["rows"][0]).values["stoi"])
    ours = data["systems"]["ours:/a/b.safetensors"]
    assert ours["difference_to_baseline"]["si_sdr"]["mean"] == 3.0
    assert ours["scores"]["stoi"]["undefined"] == 1
    by_snr = data["conditions"]["snr_db"]["5"]
    assert by_snr["clips"] == 4
    assert by_snr["systems"]["noisy"]["scores"]["si_sdr"]["mean"] == 4.0


def test_markdown_shows_means_intervals_differences_and_conditions():
    text = report().to_markdown()
    low, high = report().score("noisy", "si_sdr").interval()
    assert f"| noisy | 3.50 ± {(high - low) / 2:.2f} |" in text
    assert "(1 undefined)" in text
    assert "| ours:b | +3.00 ± 0.00 | +0.000 ± 0.000" in text
    part = report().groups()["rt60_s"]["0.4 to 0.6"]
    low, high = report().score("noisy", "si_sdr", part).interval()
    assert "**by rt60_s**" in text
    assert f"| 0.4 to 0.6 | 4 | noisy | 4.50 ± {(high - low) / 2:.2f} |" in text
    assert "| 0.6 to 0.8 | 1 | noisy | 7.00 | 0.700 |" in text, "one clip has no interval"
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.count("|") in (5, 4, 6) for line in lines)


def test_systems_that_would_look_alike_keep_their_paths():
    text = report(systems=("noisy", "ours:/a/w", "ours:/b/w")).to_markdown()
    assert "| ours:/a/w |" in text and "| ours:/b/w |" in text


def test_differences_are_taken_to_the_baseline_that_was_chosen():
    found = replace(report(), baseline="ours:/a/b.safetensors")
    assert found.gain("noisy", "si_sdr").values == (-3.0,) * 8
    text = found.to_markdown()
    assert "**paired difference to ours:b**" in text and "| noisy | -3.00 ± 0.00 |" in text


def test_the_difference_of_a_gain_is_not_told_twice():
    columns = (*COLUMNS, Column("si_sdr", "SI-SDRi", 2, gain=True))
    overall, differences, *_ = replace(report(), columns=columns).tables()
    assert overall.header == ("system", "SI-SDR", "STOI", "SI-SDRi", "RTF")
    assert differences.header == ("system", "SI-SDR", "STOI")
    only = replace(report(), columns=columns[2:]).tables()[1]
    assert only.header == ("system", "SI-SDRi")


def test_one_system_has_no_differences_and_a_table_prints():
    found = report(systems=("noisy",))
    assert not any("difference" in table.title for table in found.tables())
    assert all(table.to_rich().row_count for table in found.tables())
