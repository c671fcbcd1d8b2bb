"""Simulated meetings through `clearbeam separate`: who talked when, how fast, in how much memory.

    python benchmarks/meetings.py [--corpora ../shared/data] [--split test] [--minutes 10]

Meetings of 4 talkers at 20% overlap around a six-mic circle. Errors are of segments.json against
what was simulated, without a collar; a confusion is speech given to the wrong talker. The same
command goes on where it was stopped. Develop with `--split valid`; `--told` tells the number of
talkers, `--minutes 60` is for the memory.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# A file beside this one has the name of a package, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

import json
import os
import subprocess
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearbeam.files import replacing

if TYPE_CHECKING:
    from simulate.meeting import MeetingConfig
    from simulate.meeting_text import Said

CORPORA = Path(__file__).parents[1].parent / "shared" / "data"
SEED = 70
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


def separate(recording: Path, out: Path, options: list[str]) -> dict[str, float]:
    """Run the command; processor seconds and the most memory that it took, in MB.

    Raises RuntimeError where it fails.
    """
    command = [sys.executable, "-m", "clearbeam", "separate", str(recording), "--out", str(out)]
    process = subprocess.Popen([*command, *options, "--force"], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"expected {' '.join(command)} to succeed, found {process.returncode}")
    return {"compute_s": used.ru_utime + used.ru_stime, "memory_mb": used.ru_maxrss / 1024}


def segments_of(path: Path) -> list[Said]:
    """The segments of a SegLST file."""
    from simulate.meeting_text import Said

    return [
        Said(s["speaker"], float(s["start_time"]), float(s["end_time"]), s["words"])
        for s in json.loads(path.read_text(encoding="utf-8"))
    ]


def measured(mixture: Path, out: Path, options: list[str]) -> dict[str, Any]:
    """Numbers of one meeting; those that are there already are kept."""
    import soundfile

    from clearbeam.diarisation import diarisation_error

    scores = out / "scores.json"
    if scores.is_file():
        return json.loads(scores.read_text(encoding="utf-8"))
    used = separate(mixture, out, options)
    found, truth = (segments_of(at / "segments.json") for at in (out, mixture.parent))
    error = diarisation_error(found, truth)
    row = {
        "meeting": mixture.parent.name,
        "talkers_found": len({said.speaker for said in found}),
        "der": error.rate,
        **{kind: getattr(error, f"{kind}_s") / error.speech_s
           for kind in ("missed", "false", "confused")},
        "rtf": used["compute_s"] / soundfile.info(mixture).duration,
        "memory_mb": used["memory_mb"],
    }  # fmt: skip
    with replacing(scores) as file:
        file.write_text(json.dumps(row, indent=1), encoding="utf-8")
    return row


def main(
    corpora: Annotated[Path, typer.Option(help="speech.jsonl, noise.jsonl")] = CORPORA,
    out: Annotated[Path | None, typer.Option(help="default: runs/meetings-SPLIT-MINUTES")] = None,
    split: Annotated[str, typer.Option(help="of the corpora")] = "test",
    minutes: Annotated[float, typer.Option(min=0.5, max=60)] = 10,
    count: Annotated[int, typer.Option(min=1)] = 1,
    model: Annotated[str, typer.Option(help="weights of ours, by name or path")] = "separate",
    told: Annotated[bool, typer.Option(help="tell how many talk")] = False,
) -> None:
    """Simulate, separate, score, print, and write OUT/MODEL/meetings.json."""
    from clearbeam.console import out as console
    from clearbeam.console import say_error
    from simulate import read_manifest
    from simulate.meeting_files import write_meetings

    folder = out or Path("runs") / f"meetings-{split}-{minutes:g}"
    options = ["--model", model, *(["--talkers", str(N_TALKERS)] if told else [])]
    name = f"{Path(model).stem}{'-told' if told else ''}"
    try:
        manifest = write_meetings(scene_of(corpora, split, minutes), folder / "data", count, SEED)
        mixtures = [Path(record["paths"]["mixture"]) for record in read_manifest(manifest)]
        rows = [measured(m, folder / name / m.parent.name, options) for m in mixtures[:count]]
    except (ValueError, OSError, RuntimeError) as error:
        say_error(error)
        raise typer.Exit(2) from None
    for row in rows:
        console.print(
            f"{row['meeting']}: {row['talkers_found']} talkers, DER {row['der']:.1%} (missed "
            f"{row['missed']:.1%}, false {row['false']:.1%}, confused {row['confused']:.1%}), RTF "
            f"{row['rtf']:.2f}, {row['memory_mb']:.0f} MB",
            soft_wrap=True,
        )
    with replacing(folder / name / "meetings.json") as file:
        file.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
