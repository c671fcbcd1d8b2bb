"""`clearbeam separate`: a recording of several talkers in, one file a talker and who talks when."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clearbeam.audio import Recording
from clearbeam.commands.enhance import check_plot, opened, total_seconds
from clearbeam.commands.options import (
    ChannelsAsFiles,
    Device,
    Force,
    Inputs,
    RunOn,
    Streaming,
    geometry,
)
from clearbeam.console import BAD_INPUT, progress, reported, stoppable
from clearbeam.files import check_writable

if TYPE_CHECKING:
    from clearbeam.separate import Job
    from clearbeam.talker_files import Talkers

NAME = "separate"
AUTO = "auto"
RESULT = "segments.json"


class Beam(str, Enum):
    """What listens to a talker."""

    wiener = "wiener"
    mvdr = "mvdr"
    lcmv = "lcmv"


Out = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        help="Where talker1.flac, ..., segments.json and segments.rttm go; with several INPUTs, "
        "into a folder of each one's name there.",
    ),
]
Count = Annotated[
    str, typer.Option("--talkers", metavar="auto or N", help="How many talk, where it is known.")
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME or PATH",
        help="Shipped weights, a .safetensors file, or `spatial` for no network.",
    ),
]
Array = Annotated[
    str | None,
    typer.Option(
        metavar="NAME or YAML",
        help="The microphones' positions, for directions: see `clearbeam arrays`.",
    ),
]
Recogniser = Annotated[
    str,
    typer.Option(metavar="MODULE:NAME", help="Another recogniser for --transcribe, of your own."),
]


def run(
    inputs: Inputs,
    out: Out,
    talkers: Count = AUTO,
    model: Model = None,
    array: Array = None,
    reference_mic: Annotated[
        int, typer.Option(metavar="K", help="The microphone to sound like, from 0.")
    ] = 0,
    device: RunOn = Device.auto,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw who talks when.")
    ] = None,
    window: Annotated[
        float, typer.Option(metavar="S", help="Seconds of a window over a long recording.")
    ] = 3.0,
    hop: Annotated[float, typer.Option(metavar="S", help="Seconds from window to window.")] = 1.5,
    streaming: Streaming = False,
    beam: Annotated[
        Beam, typer.Option(help="Towards each talker: Wiener's, MVDR, or LCMV, with nulls.")
    ] = Beam.wiener,
    transcribe: Annotated[
        bool, typer.Option("--transcribe", help="Write what is said into segments.json.")
    ] = False,
    recogniser: Recogniser = "pocketsphinx",
    channels_as_files: ChannelsAsFiles = False,
    force: Force = False,
) -> None:
    """One clean file for each talker in a recording, and who talks when.

    Any format that libsndfile reads, any sample rate, any array of 1 to 16 microphones. A recording
    longer than 20 s is taken for a meeting: it goes through in windows, and whoever was silent for
    minutes comes back in his file. A command that was stopped goes on where it was.

    Examples:

        clearbeam separate meeting.wav --out meeting

        clearbeam separate meeting.wav --out meeting --talkers 4 --array circular_6mic

        clearbeam separate meeting.wav --out meeting --transcribe --plot meeting.png
    """
    from clearbeam.separate import Job, Settings, default_model, load_separator
    from clearbeam.transcribe import load_recogniser

    sources = [inputs] if channels_as_files else [[path] for path in inputs]
    folders = folders_for(sources, out, force)
    if plot is not None:
        check_plot(plot, len(sources))
    settings = Settings(how_many(talkers), window, hop, reference_mic, geometry(array), streaming)
    todo = list(zip(sources, folders, strict=True))
    ready, n_bad = opened(todo, lambda recording, _: settings.check(recording))
    hearer = load_recogniser(recogniser) if transcribe else None
    name = model or default_model(streaming)
    if ready:
        separator = load_separator(name, device.value, beam.value)
        if separator.net is None and not streaming and settings.n_talkers is None:
            raise ValueError(f"expected --talkers N with the model {name}, which cannot count")
        n_bad += separate_all(ready, Job(separator, name, settings, hearer), plot)
    if n_bad:
        raise typer.Exit(BAD_INPUT)


def how_many(talkers: str) -> int | None:
    """The number that was told; None for one to be found out."""
    if talkers == AUTO:
        return None
    if not talkers.isdecimal():
        raise ValueError(f"expected --talkers to be {AUTO} or a number, found {talkers}")
    return int(talkers)


def folders_for(sources: Sequence[Sequence[Path]], out: Path, force: bool) -> list[Path]:
    """The folder of every recording: `out`, or one of its name in there where there are several.

    Raises ValueError where two meet, results are there already, or nothing can be written.
    """
    several = len(sources) > 1
    folders = [out / files[0].stem if several else out for files in sources]
    for number, folder in enumerate(folders):
        if folder in folders[:number]:
            raise ValueError(f"expected inputs of different names, found two that make {folder}")
        if folder.is_file():
            raise ValueError(f"expected a folder to write to, found the file {folder}")
        check_writable(folder / RESULT)
        if (folder / RESULT).is_file() and not force:
            raise ValueError(f"{folder / RESULT} exists already: use --force to replace")
    return folders


def separate_all(ready: Sequence[tuple[Recording, Path]], job: Job, picture: Path | None) -> int:
    """Separate each recording into its folder; return how many could not be, each reported."""
    n_bad = 0
    with progress() as bar:
        task = bar.add_task("", total=total_seconds([recording for recording, _ in ready]))
        advance = partial(bar.advance, task)
        for n, (recording, folder) in enumerate(ready, 1):
            bar.update(task, description=f"{n} of {len(ready)}")
            with stoppable():
                talkers = reported(recording.name, partial(job.run, recording, folder, advance))
            if talkers is None:
                n_bad += 1
                continue
            tell(talkers)
            if picture is not None:
                draw(recording, talkers, picture)
    return n_bad


def tell(talkers: Talkers) -> None:
    """A line for every talker."""
    for k, file in enumerate(talkers.files):
        own = [s for s in talkers.segments if s.speaker == file.stem]
        line = f"{file}  talks {sum(s.end_s - s.start_s for s in own):.1f} s"
        if talkers.azimuths_deg is not None:
            line += f", at {talkers.azimuths_deg[k]:.0f} degrees"
        typer.echo(line)


def draw(recording: Recording, talkers: Talkers, picture: Path) -> None:
    """Draw who talks when."""
    from clearbeam.timeline import plot_timeline

    plot_timeline(picture, recording, [file.stem for file in talkers.files], talkers.segments)
