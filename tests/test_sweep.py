"""Sweeps: every point of the grid is simulated as asked, scored once, and summed up rightly."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli import refused, run
from faults import killed_when

from clearbeam import evaluate, systems
from clearbeam.commands.options import scene_keys
from clearbeam.sweep import run_sweep
from clearbeam.sweep_config import SweepConfig
from simulate import read_manifest, sample_scene
from simulate.config import config_dir

parquet = pytest.importorskip("pyarrow.parquet")

SMALL = {
    "scene": "quickstart",
    "set": {"duration_s": 1, "room.rt60_s": 0.25, "array.names": "laptop_2mic"},
    "grid": {"snr_db": [0, 10], "talkers.distance_m": [1, 2]},
    "systems": ["noisy", "oracle-mvdr"],
    "metrics": ["si_sdr", "si_sdri"],
    "count": 2,
}


def small(**changes) -> SweepConfig:
    return SweepConfig.model_validate(SMALL | changes)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep that was run: its table and its folder."""
    out = tmp_path_factory.mktemp("sweep")
    return run_sweep(small(), out), out


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """The clips that the system `counting` was run on; it fails where `counted` holds "stop"."""
    calls: list[str] = []

    def counting(mixture, clip):
        if len(calls) > 2 and calls[0] == "stop":
            raise OSError("the power failed")
        if clip.seconds > evaluate.WARM_UP_S:
            calls.append(clip.name)
        return mixture[-1]

    monkeypatch.setitem(systems.BEAMS, "counting", counting)
    return calls


def test_the_table_is_tidy_and_the_same_in_csv_and_parquet(swept):
    _, out = swept
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2 * 2 * 2  # points, mixtures, systems, metrics
    assert list(rows[0]) == [
        "snr_db", "talkers.distance_m", "mixture", "system", "metric", "value",
    ]  # fmt: skip
    columns = parquet.read_table(out / "results.parquet").to_pydict()
    assert columns["value"] == pytest.approx([float(row["value"]) for row in rows])
    for name in ("mixture", "system", "metric"):
        assert columns[name] == [row[name] for row in rows]
    assert {(type(v), v) for v in columns["snr_db"]} == {(int, 0), (int, 10)}


def test_every_point_is_what_the_grid_says_and_all_else_is_equal(swept):
    table, _ = swept
    assert table.points == ((0, 1), (0, 2), (10, 1), (10, 2))
    for point, report in zip(table.points, table.reports, strict=True):
        records = list(read_manifest(report.dataset))
        assert {r["snr_db"] for r in records} == {point[0]}
        assert [r["talkers"][0]["distance_m"] for r in records] == pytest.approx([point[1]] * 2)
        assert {r["array"]["name"] for r in records} == {"laptop_2mic"}
        mixture, _ = soundfile.read(records[0]["paths"]["mixture"])
        assert mixture.shape == (16000, 2)
    first = [next(read_manifest(table.reports[k].dataset)) for k in (0, 2)]
    assert first[0]["mics_m"] == first[1]["mics_m"], "points are compared in equal rooms"
    noisy = [table.score("noisy", "si_sdr", {"snr_db": v}).mean for v in (0, 10)]
    assert noisy[1] > noisy[0] + 3


def test_the_summary_has_means_intervals_and_paired_gains(swept):
    table, out = swept
    with (out / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 2 * 2
    for row in rows:
        at = {"snr_db": int(row["snr_db"]), "talkers.distance_m": int(row["talkers.distance_m"])}
        report = table.reports[table.points.index(tuple(at.values()))]
        score = report.score(row["system"], row["metric"])
        found = tuple(float(row[name]) for name in ("mean", "low", "high"))
        assert found == pytest.approx((score.mean, *score.interval()))
        gain = report.gain(row["system"], row["metric"])
        assert float(row["gain_mean"]) == pytest.approx(gain.mean)
        assert row["count"] == "2" and row["undefined"] == "0"


def test_pictures_are_drawn_for_every_metric(swept):
    _, out = swept
    assert {path.name for path in (out / "plots").iterdir()} == {
        "lines_si_sdr.png", "heat_si_sdr.png", "lines_si_sdri.png", "heat_si_sdri.png",
    }  # fmt: skip


def test_a_sweep_that_was_stopped_goes_on_where_it_was(tmp_path, counted):
    longer = SMALL["set"] | {"duration_s": 1.2}
    config = small(set=longer, grid={"snr_db": [0, 10]}, systems=["counting"])
    counted.append("stop")
    with pytest.raises(RuntimeError, match="counting failed on clip"):
        run_sweep(config, tmp_path)
    assert len(counted) == 1 + 2 and not (tmp_path / "results.csv").exists()
    counted.clear()
    table = run_sweep(config, tmp_path)
    assert len(counted) == 2, "the first point was done"
    results = (tmp_path / "results.csv").read_bytes()
    counted.clear()
    assert run_sweep(config, tmp_path).reports == table.reports
    assert counted == [] and (tmp_path / "results.csv").read_bytes() == results


def test_a_grid_that_grows_keeps_the_points_it_had(swept, tmp_path):
    table, out = swept
    copied = tmp_path / "grown"
    shutil.copytree(out, copied)
    datasets = {p: p.stat().st_mtime_ns for p in copied.glob("points/*/0000/*")}
    grown = run_sweep(small(grid={"snr_db": [0, 5], "talkers.distance_m": [1]}), copied)
    assert len(list(copied.glob("points/*"))) == 4 + 1
    assert all(p.stat().st_mtime_ns == mtime for p, mtime in datasets.items())
    assert grown.reports[0].score("noisy", "si_sdr").values == (
        table.reports[0].score("noisy", "si_sdr").values
    )


RESULTS = ("results.csv", "results.parquet", "summary.csv")


def results(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in RESULTS}


def test_two_processes_write_the_same_tables(swept, tmp_path):
    _, out = swept
    run_sweep(small(), tmp_path, jobs=2)
    assert results(tmp_path) == results(out)


def test_a_dask_cluster_that_stands_elsewhere_writes_the_same_tables(swept, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    _, out = swept
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=":0"
    ) as cluster:
        monkeypatch.chdir(tmp_path)
        run_sweep(small(), "there", cluster=cluster.scheduler_address)
    assert results(tmp_path / "there") == results(out)


def test_killed_while_at_work_and_then_completed_it_has_the_same_tables(swept, tmp_path):
    _, out = swept
    file, broken = tmp_path / "mine.yaml", tmp_path / "broken"
    file.write_text(json.dumps(SMALL))
    args = [str(arg) for arg in ("sweep", file, "--out", broken)]
    scored = lambda: list(broken.glob("points/*/scores.clips.jsonl"))  # noqa: E731
    killed_when(scored, *args, result=broken / "results.csv")
    ledger = next(broken.glob("points/*/scores.clips.jsonl"))
    with ledger.open("a") as torn:
        torn.write('{"key": "torn')
    again = run(*args)
    assert again.exit_code == 0, again.output
    assert results(broken) == results(out)


def test_a_folder_of_another_sweep_is_refused_and_left_alone(swept, tmp_path):
    _, out = swept
    before = results(out)
    for number, changes in enumerate(
        ({"seed": 1}, {"set": SMALL["set"] | {"duration_s": 1.5}}, {"grid": {"snr_db": [0]}})
    ):
        file = tmp_path / f"{number}.yaml"
        file.write_text(json.dumps(SMALL | changes))
        refused("found another .snr_db, talkers.distance_m in quickstart", "sweep", file,
                "--out", out)  # fmt: skip
    assert results(out) == before


def test_a_sweep_file_in_its_own_folder_stays_as_it_was_written(tmp_path):
    file = tmp_path / "sweep.yaml"
    text = json.dumps(SMALL | {"grid": {"snr_db": [0]}, "count": 1}) + "\n# mine\n"
    file.write_text(text)
    assert run("sweep", file, "--out", tmp_path).exit_code == 0
    assert file.read_text() == text and (tmp_path / "results.csv").is_file()


# ---------------------------------------------------------------------------------- what it may say


def test_microphones_on_a_circle_are_where_they_should_be(tmp_path):
    config = small(set={}, grid={"circle.mics": [2, 6], "circle.diameter_m": [0.1]})
    for point in config.points():
        scene = sample_scene(config.scene_at(point, tmp_path), 0, 0)
        p = scene.array.as_array()
        assert len(p) == point["circle.mics"]
        np.testing.assert_allclose(np.linalg.norm(p, axis=1), 0.05, atol=1e-6)
        assert scene.array.aperture_m() == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"room.rt60": [1]}}, "unknown key room.rt60: did you mean rt60_s"),
        ({"grid": {"rooms.rt60_s": [1]}}, "unknown key rooms: did you mean room"),
        ({"set": {"snr": 3}}, "unknown key snr: did you mean snr_db"),
        (
            {"set": {}, "grid": {"circle.mic": [3]}},
            "unknown key circle.mic: did you mean circle.mics",
        ),
        ({"set": {}, "grid": {"circle.mics": [3]}}, "expected circle.mics and circle.diameter_m"),
        (
            {"grid": {"circle.mics": [3], "circle.diameter_m": [0.1]}},
            "either array.names or circle",
        ),
        (
            {"set": {}, "grid": {"circle.mics": [3], "circle.diameter_m": [0]}},
            "circle.diameter_m above 0",
        ),
        ({"grid": {"snr_db": ["loud"]}}, "snr_db"),
        ({"grid": {"array.names": ["circular_6mics"]}}, "did you mean circular_6mic"),
        ({"grid": {}}, "grid"),
        ({"grid": {"snr_db": []}}, "grid.snr_db"),
        ({"grid": {"snr_db": [5, 0, 5.0]}}, "expected different values of snr_db, found 5 twice"),
        ({"metrics": []}, "metrics"),
        ({"gird": {"snr_db": [1]}}, "unknown key gird: did you mean grid"),
        ({"systems": ["oracle"]}, "did you mean oracle-mvdr"),
        ({"metrics": ["sisdr"]}, "expected metrics among"),
        ({"scene": "quikstart"}, "unknown scene quikstart: did you mean quickstart"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_made(tmp_path, changes, message):
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(SMALL | changes))
    refused(message, "sweep", file, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_corpora_take_the_place_of_the_scenes(tmp_path):
    config = small().with_keys(scene_keys("talkers.jsonl", "builtin", "test"))
    scene = config.scene_at(config.points()[0], tmp_path)
    assert Path(scene.speech) == Path("talkers.jsonl").resolve()
    assert (scene.noise, scene.split, scene.duration_s) == ("builtin", "test", 1)
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(SMALL))
    refused("found no file", "sweep", file, "--out", tmp_path / "out", "--speech", "none.jsonl")


def test_shipped_sweeps_fit_at_every_point(tmp_path):
    shipped = {path.stem for path in config_dir("sweeps").glob("*.yaml")}
    assert shipped == {"aperture_mics_rt60", "distance_snr"}
    for name in shipped:
        config = SweepConfig.load(name)
        for point in config.points():
            sample_scene(config.scene_at(point, tmp_path), config.seed, 0)
        for system in config.systems:
            systems.check_system(system)


def test_the_command_shows_scores_by_key_and_where_the_table_is(swept, tmp_path):
    table, out = swept
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(SMALL))
    result = run("sweep", file, "--out", out)
    assert result.exit_code == 0, result.output
    mean = table.score("oracle-mvdr", "si_sdr", {"snr_db": 10}).mean
    assert "by snr_db" in result.stdout and f"{mean:.2f} ±" in result.stdout
    assert result.stdout.rstrip().endswith("results.parquet")
