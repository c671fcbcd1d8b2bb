"""`clearbeam evaluate`: systems side by side on a dataset."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from clearbeam.commands.options import Jobs
from clearbeam.console import out, scoring, stoppable

NAME = "evaluate"
TASKS = ("enhance", "separate", "meeting")


def run(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="A folder made by `clearbeam simulate`.")
    ],
    task: Annotated[
        str, typer.Option(metavar="enhance|separate|meeting", help="What is evaluated.")
    ] = "enhance",
    system: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A system; repeat for several. Default: a standard set."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="Weights of ours to add, shipped or your own."),
    ] = None,
    gtcrn: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A one-input GTCRN to add, alone and after each beam."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Only these, such as si_sdr,pesq_wb. Default: all."),
    ] = None,
    dnsmos: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The published sig_bak_ovr.onnx, to rate by DNSMOS."),
    ] = None,
    against: Annotated[
        str, typer.Option(metavar="NAME", help="The system that differences are taken to.")
    ] = "noisy",
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every number there; the same command resumes."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tables there.")
    ] = None,
    jobs: Jobs = 1,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the first N mixtures.")
    ] = None,
) -> None:
    """Score our systems and the built-in baselines on the same mixtures.

    SI-SDR, SDR, PESQ-WB, STOI and ESTOI against the early image of the talker at microphone 0, with
    95% confidence intervals, the paired differences to one system, a table for each condition that
    varies, and the real-time factor on one thread. With --task separate: against the image of each
    talker with all of the room, in the best assignment of streams to talkers, and how often there
    are as many streams as talkers. With --task meeting: how much of the speech was missed, false,
    or given to the wrong talker. docs/evaluation.md says how each is defined and what systems there
    are.

    Examples:

        clearbeam simulate quickstart --out data/quick --count 5

        clearbeam evaluate data/quick

        clearbeam evaluate data/quick --system clearbeam --system noisy --json scores.json

        clearbeam evaluate data/quick --metrics si_sdr,stoi --against mono --markdown scores.md

        clearbeam evaluate data/quick --system clearbeam --system clearbeam@0,3 --jobs 2

        clearbeam evaluate data/two --task separate --system auxiva --system oracle-mask

        clearbeam evaluate data/meetings --task meeting --json meetings.json
    """
    if task not in TASKS:
        raise ValueError(f"expected a task among {', '.join(TASKS)}, found {task}")
    if task == "meeting":
        from clearbeam.meetings import DEFAULT_SYSTEMS, evaluate_meetings

        if gtcrn is not None or dnsmos is not None:
            raise ValueError("expected --gtcrn and --dnsmos with the task enhance only")
        names = [*(system or DEFAULT_SYSTEMS), *(f"clearbeam:{name}" for name in model or [])]
        score = partial(evaluate_meetings, dataset, names)
    else:
        from clearbeam.evaluate import evaluate_dataset

        names = chosen(task, system, model or [], gtcrn)
        score = partial(evaluate_dataset, dataset, names, task=task, dnsmos=dnsmos)
    again = "the same command goes on" if json is not None else "nothing is kept without --json"
    with stoppable(again), scoring("clips x systems") as show:
        report = score(
            jobs=jobs,
            limit=limit,
            metrics=metrics.split(",") if metrics is not None else None,
            baseline=against,
            json_path=json,
            markdown_path=markdown,
            progress=show,
        )
    for table in report.tables():
        out.print(table.to_rich())


def chosen(task: str, system: list[str] | None, models: list[str], gtcrn: Path | None) -> list[str]:
    """The names of the systems: those asked for, or the standard set, and what is added to them."""
    from clearbeam.systems import with_network
    from clearbeam.tasks import find_task

    if gtcrn is not None and task != "enhance":
        raise ValueError(f"expected --gtcrn with the task enhance only, found it with {task}")
    names = list(system or find_task(task).systems.DEFAULT_SYSTEMS)
    names += [f"clearbeam:{name}" for name in models]
    return names + (with_network(gtcrn) if gtcrn is not None else [])
