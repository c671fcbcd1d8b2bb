"""Simulated meetings: who talked when, beside the rivals, how fast, in how much memory.

    python benchmarks/meetings.py [--corpora ../shared/data] [--split test] [--minutes 10]

Meetings of 4 talkers at 20% overlap around a six-mic circle, scored by `clearbeam evaluate --task
meeting` (docs/evaluation.md), by default the reference mic against ours. What is scored already is
kept. Develop with `--split valid`; `--minutes 60` is for the memory.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# A file beside this one has the name of a package, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

import resource
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from simulate.meeting import MeetingConfig

CORPORA = Path(__file__).parents[1].parent / "shared" / "data"
N_TALKERS, OVERLAP = 4, 0.2


def scene_of(corpora: Path, split: str, minutes: float) -> MeetingConfig:
    """The shipped scene of a meeting, with these talkers."""
    import yaml

    from simulate.meeting import MeetingConfig

    shipped = Path(__file__).parents[1] / "configs" / "scenes" / "meeting.yaml"
    scene = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    scene["talkers"]["count"] = N_TALKERS
    scene["turns"]["overlap_ratio"] = OVERLAP
    for kind in ("speech", "noise"):
        scene[kind] = str((corpora / f"{kind}.jsonl").resolve())
    return MeetingConfig.model_validate({**scene, "split": split, "duration_s": 60 * minutes})


def main(
    corpora: Annotated[Path, typer.Option(help="speech.jsonl, noise.jsonl")] = CORPORA,
    out: Annotated[Path | None, typer.Option(help="default: runs/meetings-SPLIT-MINUTES")] = None,
    split: Annotated[str, typer.Option(help="of the corpora")] = "test",
    minutes: Annotated[float, typer.Option(min=0.5, max=60)] = 10,
    count: Annotated[int, typer.Option(min=1)] = 1,
    seed: Annotated[int, typer.Option(help="another one is another room")] = 70,
    system: Annotated[list[str] | None, typer.Option(help="of docs/evaluation.md")] = None,
    metrics: Annotated[str | None, typer.Option(help="such as der,cpwer")] = None,
) -> None:
    """Simulate, score, print, and write OUT/meetings.json."""
    from clearbeam.console import out as console
    from clearbeam.console import say_error
    from clearbeam.meetings import evaluate_meetings
    from simulate.meeting_files import write_meetings

    folder = out or Path("runs") / f"meetings-{split}-{minutes:g}"
    try:
        write_meetings(scene_of(corpora, split, minutes), folder / "data", count, seed)
        report = evaluate_meetings(
            folder / "data",
            system or ["noisy", "clearbeam"],
            limit=count,
            metrics=None if metrics is None else metrics.split(","),
            json_path=folder / "meetings.json",
        )
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        say_error(error)
        raise typer.Exit(2) from None
    for table in report.tables():
        console.print(table.to_rich())
    most_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"memory at the peak, with the simulation where it was run: {most_mb:.0f} MB")


if __name__ == "__main__":
    typer.run(main)
