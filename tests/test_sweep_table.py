"""The result of a sweep, from scores made up by hand: sums, intervals, files and pictures."""

from __future__ import annotations

import math

import pytest

from clearbeam import sweep_plots
from clearbeam.ledger import Row
from clearbeam.report import Column, Report
from clearbeam.scores import Score, Speed
from clearbeam.sweep_plots import plot_sweep
from clearbeam.sweep_table import SweepTable

parquet = pytest.importorskip("pyarrow.parquet")


def made_up(
    values: dict[float | str, tuple[float, ...]], key: str = "key", metric: str = "m"
) -> SweepTable:
    """A sweep over one key whose values give one system's scores; the baseline has 0."""
    reports = []
    for scores in values.values():
        rows = [Row(f"c{i}", "ours", {metric: v}, Speed()) for i, v in enumerate(scores)]
        rows += [Row(f"c{i}", "noisy", {metric: 0.0}, Speed()) for i in range(len(scores))]
        conditions = {f"c{i}": {} for i in range(len(scores))}
        column = (Column(metric, "M", 2),)
        args = ("d", "enhance", column, ("noisy", "ours"), "noisy", tuple(rows), conditions)
        reports.append(Report(*args))
    return SweepTable((key,), tuple((v,) for v in values), tuple(reports))


def test_points_in_common_mixtures_are_no_more_certain_than_the_mixtures():
    one = (1.0, 2.0, 4.0, 9.0)
    table = made_up({k: one for k in range(5)})
    expected = Score(("c0", "c1", "c2", "c3"), one).interval()
    assert table.score("ours", "m").interval() == expected
    assert table.score("ours", "m", {"key": 3}).interval() == expected
    assert table.score("ours", "m").count == 4


def test_an_undefined_score_leaves_the_mean_of_the_others():
    table = made_up({0: (1.0, math.nan), 1: (3.0, 5.0)})
    assert table.score("ours", "m").values == (2.0, 5.0)
    assert table.score("ours", "m", {"key": 0}).undefined == 1
    assert table.gain("ours", "m", {"key": 1}).mean == 4.0


def test_values_that_are_no_numbers_can_be_drawn_and_written(tmp_path):
    table = made_up({"circle": (1.0, math.nan), '{"uniform": [0, 1]}': (3.0, 5.0)})
    table.write(tmp_path)
    assert [p.name for p in plot_sweep(table, tmp_path)] == ["lines_m.png"]
    values = parquet.read_table(tmp_path / "results.parquet").to_pydict()["value"]
    assert values[:2] == [1.0, None]
    assert (tmp_path / "results.csv").read_text().splitlines()[2] == "circle,c1,ours,m,"


def test_a_picture_has_units_a_tick_for_every_value_and_a_name_for_every_system():
    table = made_up({0.5: (1.0, 2.0), 2.0: (3.0, 5.0)}, "talkers.distance_m", "si_sdr")
    figure = sweep_plots._lines(table, table.columns[0], ["talkers.distance_m"])
    above, below = figure.axes
    assert above.get_ylabel() == "M (dB)" and below.get_ylabel() == "gain over noisy (dB)"
    assert below.get_xlabel() == "talkers distance (m)"
    assert [tick.get_text() for tick in below.get_xticklabels()] == ["0.5", "2.0"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["noisy", "ours"]
    (line,) = below.get_lines()
    assert line.get_ydata().tolist() == [1.5, 4.0]


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("room.rt60_s", "room RT60 (s)"),
        ("snr_db", "SNR (dB)"),
        ("circle.mics", "circle mics"),
        ("mics.rate_offset_ppm", "mics rate offset (ppm)"),
        ("noise_mix.point.sources", "noise mix point sources"),
        ("method", "method"),
    ],
)
def test_a_key_is_labelled_with_its_unit(key, label):
    assert sweep_plots._label(key) == label
