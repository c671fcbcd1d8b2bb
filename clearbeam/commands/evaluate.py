"""`clearbeam evaluate`: systems side by side on a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clearbeam.console import out, progress

NAME = "evaluate"


def run(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="A folder made by `clearbeam simulate`.")
    ],
    task: Annotated[str, typer.Option(metavar="enhance", help="What is evaluated.")] = "enhance",
    system: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A system; repeat for several. Default: a standard set."),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every number there; the same command resumes."),
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="J", min=1, help="Processes at work.")] = 1,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the first N mixtures.")
    ] = None,
) -> None:
    """Score our systems and the built-in baselines on the same mixtures.

    SI-SDR, SDR, PESQ-WB, STOI and ESTOI against the early image of the talker at microphone 0, with
    95% confidence intervals, the paired differences to the noisy microphone, a table for each
    condition that varies, and the real-time factor on one thread.

    Examples:

        clearbeam simulate quickstart --out data/quick --count 5

        clearbeam evaluate data/quick --task enhance

        clearbeam evaluate data/quick --system clearbeam --system noisy --json scores.json
    """
    from clearbeam.evaluate import evaluate_dataset

    with progress() as bar:
        work = bar.add_task("clips x systems", total=None)
        try:
            report = evaluate_dataset(
                dataset,
                system,
                task=task,
                jobs=jobs,
                limit=limit,
                json_path=json,
                progress=lambda done, total: bar.update(work, completed=done, total=total),
            )
        except RuntimeError as error:  # a system that fails names itself and the clip
            raise ValueError(str(error)) from error
    for table in report.tables():
        out.print(table.to_rich())
