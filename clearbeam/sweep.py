"""Sweeps: a grid over any quantities of a scene, every system at every point, and what came out.

A point is a dataset of its own, simulated and scored in a folder named by all that it depends on.
Both steps go on where they were stopped, so a sweep does too; and a grid that grows keeps the
points that it had.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml

from clearbeam.evaluate import evaluate_dataset
from clearbeam.files import replacing
from clearbeam.ledger import fingerprint
from clearbeam.report import Report
from clearbeam.sweep_config import SweepConfig, plain
from clearbeam.sweep_plots import plot_sweep
from clearbeam.sweep_table import SweepTable, require_parquet
from clearbeam.systems import check_system
from clearbeam.tasks import find_task
from simulate.dataset import write_dataset
from simulate.disk import scratch_folder
from simulate.scene import sample_scene
from simulate.scene_config import SceneConfig
from simulate.workers import for_each

Progress = Callable[[int, int], None]
BASELINE = "noisy"


def run_sweep(
    config: SweepConfig,
    out: str | Path,
    *,
    jobs: int = 1,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> SweepTable:
    """Simulate and score every point of the grid; write tables and pictures into `out`.

    out gets results.parquet and results.csv (a row a mixture, system and metric), summary.csv
    (means with 95% bootstrap intervals), plots/, sweep.yaml (what was run) and points/ (datasets
    and scores, which the same call goes on from). jobs: processes, each at a point of its own;
    cluster: address of a Dask scheduler in their place, whose workers see the same files.
    progress: called with (done, total) points.
    Raises ValueError for anything wrong in the config, before any work; ImportError where a package
    is missing; RuntimeError when a system fails.
    """
    out = Path(out).resolve()  # workers of a cluster stand elsewhere
    if jobs < 1:
        raise ValueError(f"expected at least 1 job, found {jobs}")
    require_parquet()
    metrics = _check(config)
    _claim(out, config)
    points = config.points()
    scenes = [config.scene_at(point, out / "arrays") for point in points]
    work = partial(_run_point, config, metrics, scenes, out / "points")
    reports: dict[int, Report] = {}
    if progress:
        progress(0, len(points))
    for index, report in for_each(work, range(len(points)), jobs, cluster):
        reports[index] = report
        if progress:
            progress(len(reports), len(points))
    table = SweepTable(
        tuple(config.grid),
        tuple(tuple(plain(value) for value in point.values()) for point in points),
        tuple(reports[index] for index in range(len(points))),
    )
    table.write(out)
    plot_sweep(table, out / "plots")
    return table


def _check(config: SweepConfig) -> list[str]:
    """The metrics of a sweep; ValueError where a point of it could not be run."""
    for name in config.systems:
        check_system(name)
    with scratch_folder() as scratch:
        for point in config.points():
            sample_scene(config.scene_at(point, scratch), config.seed, 0)
    return [column.name for column in find_task("enhance").columns(config.metrics)]


def _claim(out: Path, config: SweepConfig) -> None:
    """Note in the folder what is swept there; ValueError where it holds another sweep."""
    note = out / "sweep.yaml"
    if note.is_file():
        there = SweepConfig.load(note)
        if there == config:
            return  # a file that its user wrote stays as it was written
        if not config.continues(there):
            raise ValueError(
                f"expected {out} to hold a sweep of this scene, set, seed and keys, "
                f"found another ({', '.join(there.grid)} in {there.scene}): give a new --out"
            )
    with replacing(note) as file:
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        file.write_text(text, encoding="utf-8")


def _run_point(
    config: SweepConfig, metrics: list[str], scenes: list[SceneConfig], folder: Path, index: int
) -> tuple[int, Report]:
    """Simulate and score one point, or what of it is missing."""
    scene = scenes[index]
    identity = json.dumps([scene.model_dump(mode="json"), config.seed], sort_keys=True)
    out = folder / fingerprint(identity)[:16]
    write_dataset(scene, out, config.count, config.seed)
    report = evaluate_dataset(
        out,
        config.systems,
        limit=config.count,
        metrics=metrics,
        baseline=BASELINE,
        json_path=out / "scores.json",
    )
    return index, report
