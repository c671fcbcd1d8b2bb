"""`clearbeam enhance`: a noisy array recording in, a clean mono file out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clearbeam.audio import Recording
from clearbeam.console import BAD_INPUT, DEBUG, about, progress, say_error

if TYPE_CHECKING:
    from clearbeam.enhance import Settings
    from simulate import ArrayGeometry

NAME = "enhance"


class Device(str, Enum):
    """Where the networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Inputs = Annotated[
    list[Path], typer.Argument(metavar="INPUT", help="Recordings, a channel per microphone.")
]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="FILE or DIR",
        help="Where to write. A FILE (.flac, .wav, .ogg, ...) for one recording, a DIR for any "
        "number. Default: NAME.enhanced.wav or .flac beside each recording.",
    ),
]
Model = Annotated[
    str, typer.Option(metavar="NAME or PATH", help="Shipped weights, or a .safetensors file.")
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
    device: Annotated[Device, typer.Option(help="Where the networks run.")] = Device.auto,
    plot: Plot = None,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Use only the past, as a live device must.")
    ] = False,
    channels_as_files: Annotated[
        bool, typer.Option("--channels-as-files", help="The INPUTs are channels of one recording.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")] = False,
) -> None:
    """Clean one talker in a recording made with 1 to 16 microphones.

    Any format that libsndfile reads, any sample rate, any length, any array: nothing needs to be
    known about it. The output is mono and keeps the rate and the length of the input. It is
    attenuated as a whole, with a warning, where it would clip.

    Examples:

        clearbeam enhance meeting.wav

        clearbeam enhance meeting.wav --out clean.flac --plot clean.png

        clearbeam enhance recordings/*.flac --out clean/

        clearbeam enhance mic1.wav mic2.wav mic3.wav --channels-as-files --out clean.wav

        clearbeam enhance kitchen.wav --array circular_6mic --look 30
    """
    from clearbeam.enhance import Settings, output_paths

    sources = [inputs] if channels_as_files else [[path] for path in inputs]
    targets = output_paths(sources, out, force)
    if plot is not None:
        check_plot(plot, len(sources))
    settings = Settings(geometry(array), look, reference_mic, streaming)
    enhance_all(sources, targets, settings, model=model, device=device.value)
    if plot is not None:
        draw(sources[0], targets[0], reference_mic or 0, plot)


def geometry(array: str | None) -> ArrayGeometry | None:
    """Return the array of a name or a YAML file."""
    if array is None:
        return None
    from simulate import load_array

    return load_array(array)


def enhance_all(
    sources: Sequence[Sequence[Path]],
    targets: Sequence[Path],
    settings: Settings,
    model: str,
    device: str,
) -> None:
    """Enhance every source into its target; a bad one is reported and the others go on.

    Raises typer.Exit with code 2 at the end when there was a bad one.
    """
    from clearbeam.enhance import check_job, enhance_recording, load_enhancer

    jobs, n_bad = [], 0
    for source, target in zip(sources, targets, strict=True):
        with about(source[0].name):
            try:
                recording = Recording(source)
                check_job(recording, target, settings)
                jobs.append((recording, target))
            except (ValueError, OSError) as error:
                n_bad += _report(error)
    if jobs:
        enhancer = load_enhancer(model, device)
    written: list[Path] = []
    with progress() as bar:
        task = bar.add_task("", total=total_seconds([recording for recording, _ in jobs]))
        for recording, target in jobs:
            bar.update(task, description=recording.name)
            with about(recording.name):
                try:
                    enhance_recording(
                        enhancer, recording, target, settings, lambda s: bar.advance(task, s)
                    )
                    written.append(target)
                except (ValueError, OSError) as error:
                    n_bad += _report(error)
    for target in written:
        typer.echo(target)
    if n_bad:
        raise typer.Exit(BAD_INPUT)


def total_seconds(recordings: Sequence[Recording]) -> float | None:
    """How long they last together, None where one does not say."""
    known = [recording.seconds for recording in recordings if recording.seconds is not None]
    return sum(known) if len(known) == len(recordings) else None


def _report(error: Exception) -> int:
    """Say what is wrong with one recording; return how many that makes."""
    if os.environ.get(DEBUG):
        raise error
    say_error(error)
    return 1


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
