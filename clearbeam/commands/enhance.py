"""`clearbeam enhance`: a noisy array recording in, a clean mono file out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clearbeam.audio import Recording
from clearbeam.commands.options import (
    ChannelsAsFiles,
    Device,
    Force,
    Inputs,
    Jobs,
    Model,
    RunOn,
    Streaming,
    geometry,
)
from clearbeam.console import BAD_INPUT, INTERRUPTED, about, err, progress, reported, say_error

if TYPE_CHECKING:
    from clearbeam.batch import Networks, Outcome
    from clearbeam.enhance import Settings

NAME = "enhance"


class Precision(str, Enum):
    """In how many bits the networks multiply."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


Out = Annotated[
    str | None,
    typer.Option(
        metavar="FILE or DIR",
        help="Where to write. A FILE (.flac, .wav, .ogg, ...) for one recording, a DIR for any "
        "number. Default: NAME.enhanced.wav or .flac beside each recording.",
    ),
]
Array = Annotated[
    str | None,
    typer.Option(
        metavar="NAME or YAML",
        help="The microphones' positions: see `clearbeam arrays`. Needed by --look only.",
    ),
]
Look = Annotated[
    float | None,
    typer.Option(
        metavar="AZIMUTH_DEG",
        help="Listen there: degrees from the array's x axis towards its y axis.",
    ),
]
ReferenceMic = Annotated[
    int | None,
    typer.Option(metavar="K", help="The microphone to sound like, from 0. Default: the best one."),
]
Plot = Annotated[
    Path | None,
    typer.Option(metavar="FILE.png", help="Draw the spectrograms before and after."),
]


def run(
    inputs: Inputs,
    out: Out = None,
    model: Model = "default",
    array: Array = None,
    look: Look = None,
    reference_mic: ReferenceMic = None,
    device: RunOn = Device.auto,
    plot: Plot = None,
    streaming: Streaming = False,
    channels_as_files: ChannelsAsFiles = False,
    force: Force = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep outputs that exist, make the others.")
    ] = False,
    latency: Annotated[
        float | None,
        typer.Option(metavar="MS", help="Of --streaming, 18 to 32 ms; 32 by default."),
    ] = None,
    jobs: Jobs = 1,
    precision: Annotated[
        Precision, typer.Option(help="Bits of the networks' arithmetic; fewer with CUDA only.")
    ] = Precision.fp32,
) -> None:
    """Clean one talker in a recording made with 1 to 16 microphones.

    Any format that libsndfile reads, any sample rate, any length, any array: nothing needs to be
    known about it. The output is mono and keeps the rate and the length of the input. It is
    attenuated as a whole, with a warning, where it would clip.

    Examples:

        clearbeam enhance meeting.wav

        clearbeam enhance meeting.wav --out clean.flac --plot clean.png

        clearbeam enhance recordings/*.flac --out clean/ --jobs 4

        clearbeam enhance mic1.wav mic2.wav mic3.wav --channels-as-files --out clean.wav

        clearbeam enhance kitchen.wav --array circular_6mic --look 30
    """
    from clearbeam.batch import Networks
    from clearbeam.enhance import Settings, output_paths

    if latency is not None and not streaming:
        raise ValueError("expected --streaming with --latency: offline all of a recording is heard")
    if force and resume:
        raise ValueError("expected --force or --resume, found both")
    sources = [inputs] if channels_as_files else [[path] for path in inputs]
    targets = output_paths(sources, out, force or resume)
    if plot is not None:
        check_plot(plot, len(sources))
    there = {target for target in targets if resume and target.is_file()}
    todo = [pair for pair in zip(sources, targets, strict=True) if pair[1] not in there]
    settings = Settings(geometry(array), look, reference_mic, streaming)
    networks = Networks(model, device.value, precision.value, latency)
    code = enhance_all(todo, there, settings, networks, jobs)
    for target in targets:
        if target in there:
            typer.echo(target)
    if code:
        raise typer.Exit(code)
    if plot is not None:
        draw(sources[0], targets[0], reference_mic or 0, plot)


def enhance_all(
    todo: Sequence[tuple[Sequence[Path], Path]],
    there: set[Path],
    settings: Settings,
    networks: Networks,
    jobs: int,
) -> int:
    """Enhance each source into its target, which then is `there`; return the exit code.

    A bad source is reported, and the others go on. Ctrl-C ends all of them.
    """
    from clearbeam.batch import enhance_many
    from clearbeam.enhance import check_job

    ready, n_bad = opened(todo, partial(check_job, settings=settings))
    with progress() as bar:
        task = bar.add_task("", total=total_seconds([recording for recording, _ in ready]))
        advance = partial(bar.advance, task)
        try:
            for n, outcome in enumerate(enhance_many(ready, networks, settings, jobs, advance), 1):
                bar.update(task, description=f"{n} of {len(ready)}")
                tell(outcome)
                if outcome.error is None:
                    there.add(outcome.job[1])
                else:
                    n_bad += 1
        except KeyboardInterrupt:
            err.print("stopped; the same command with --resume goes on", soft_wrap=True)
            return INTERRUPTED
    return BAD_INPUT if n_bad else 0


def tell(outcome: Outcome) -> None:
    """Say what is to be said about one recording."""
    with about(outcome.job[0].name):
        for text in outcome.warnings:
            warnings.warn(text, stacklevel=1)
        if outcome.error is not None:
            say_error(outcome.error)


def opened(
    todo: Sequence[tuple[Sequence[Path], Path]], check: Callable[[Recording, Path], object]
) -> tuple[list[tuple[Recording, Path]], int]:
    """The recordings that pass the check, and how many do not, each of them reported."""

    def tried(source: Sequence[Path], target: Path) -> Recording:
        recording = Recording(source)
        check(recording, target)
        return recording

    ready = []
    for source, target in todo:
        recording = reported(source[0].name, partial(tried, source, target))
        if recording is not None:
            ready.append((recording, target))
    return ready, len(todo) - len(ready)


def total_seconds(recordings: Sequence[Recording]) -> float | None:
    """How long they last together, None where one does not say."""
    known = [recording.seconds for recording in recordings if recording.seconds is not None]
    return sum(known) if len(known) == len(recordings) else None


def check_plot(picture: Path, n_recordings: int) -> None:
    """Raise ValueError where `picture` cannot be drawn."""
    from clearbeam.plots import check_picture

    if n_recordings > 1:
        raise ValueError(f"expected one recording with --plot, found {n_recordings}")
    check_picture(picture)


def draw(source: Sequence[Path], target: Path, mic: int, picture: Path) -> None:
    """Draw the spectrograms of microphone `mic` of `source` and of `target`."""
    from clearbeam.plots import plot_spectrograms, spectrogram

    panels = {
        f"microphone {mic}": spectrogram(Recording(source), mic),
        "enhanced": spectrogram(Recording([target])),
    }
    plot_spectrograms(picture, panels)
