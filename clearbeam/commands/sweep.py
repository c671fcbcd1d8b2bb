"""`clearbeam sweep`: a simulated experiment over a grid of scenes and systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clearbeam.commands.options import Cluster, Jobs, Noise, Speech, Split, scene_keys
from clearbeam.console import out as console
from clearbeam.console import scoring, stoppable

NAME = "sweep"


def run(
    sweep: Annotated[
        str,
        typer.Argument(metavar="SWEEP.yaml", help="A sweep file, or the name of a shipped one."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where tables and pictures go.")],
    jobs: Jobs = 1,
    cluster: Cluster = None,
    speech: Speech = None,
    noise: Noise = None,
    split: Split = None,
) -> None:
    """Run systems over a grid of rooms, arrays, levels or distances, and show what matters.

    The grid names quantities of a scene by dotted keys: `room.rt60_s`, `array.names`, `snr_db`,
    `talkers.distance_m`. DIR gets `results.parquet` and `results.csv` (a row for each mixture,
    system and metric), `summary.csv` with 95% confidence intervals, and line and heat-map plots.
    The same command goes on where it was stopped. A CORPUS is as in `clearbeam simulate`.

    Examples:

        clearbeam sweep distance_snr --out results/distance

        clearbeam sweep aperture_mics_rt60 --out results/aperture --jobs 4

        clearbeam sweep my-sweep.yaml --out results/mine --cluster tcp://head:8786
    """
    from clearbeam.sweep import run_sweep
    from clearbeam.sweep_config import SweepConfig

    config = SweepConfig.load(sweep).with_keys(scene_keys(speech, noise, split))
    with stoppable(), scoring("points") as show:
        table = run_sweep(config, out, jobs=jobs, cluster=cluster, progress=show)
    for found in table.tables():
        console.print(found.to_rich())
    typer.echo(out / "results.parquet")
