"""`clearbeam stream`: the talker while he talks."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from clearbeam.commands.options import Model, geometry

NAME = "stream"


class Backend(str, Enum):
    """What computes the frames."""

    auto = "auto"
    torch = "torch"
    native = "native"


def run(
    source: Annotated[
        str,
        typer.Option(
            "--in",
            metavar="FILE, - or DEVICE",
            help="A recording; - for raw samples on stdin; or a sound device's name or number.",
        ),
    ] = "-",
    target: Annotated[
        str,
        typer.Option(
            "--out",
            metavar="FILE, - or DEVICE",
            help="A file (.wav, .flac, ...); - for raw samples on stdout; or a sound device.",
        ),
    ] = "-",
    mics: Annotated[
        int | None,
        typer.Option(metavar="M", help="Microphones, 1 to 16. Needed for pipes and devices."),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(metavar="HZ", help="Sample rate of pipes and devices. Default: 16000."),
    ] = None,
    model: Model = "default",
    reference_mic: Annotated[
        int | None, typer.Option(metavar="K", help="The microphone to sound like, from 0.")
    ] = None,
    array: Annotated[
        str | None,
        typer.Option(metavar="NAME or YAML", help="Geometry of the microphones, for --look."),
    ] = None,
    look: Annotated[
        float | None,
        typer.Option(metavar="AZIMUTH_DEG", help="Listen there, counter-clockwise from +x."),
    ] = None,
    latency: Annotated[
        float,
        typer.Option(
            metavar="MS",
            help="From a sound to the same sound cleaned, 18 to 32 ms. 20 costs 0.4 dB SI-SDR.",
        ),
    ] = 32,
    backend: Annotated[
        Backend, typer.Option(help="native is compiled on first use; auto falls back to torch.")
    ] = Backend.auto,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Read a file at the pace at which it was recorded.")
    ] = False,
    latency_report: Annotated[
        bool,
        typer.Option("--latency-report", help="Say at the end, on stderr, how long frames took."),
    ] = False,
) -> None:
    """Clean one talker live: every 16 ms a frame goes in and a frame comes out, 32 ms behind.

    --latency 20 brings that down to 20 ms; the sound device, the pipe and the computer add theirs.

    Raw samples are 16-bit little-endian integers with the microphones interleaved on the way in,
    mono on the way out. Ctrl-C and SIGTERM end the stream as the end of the input does: files are
    complete.

    Examples:

        arecord -t raw -f S16_LE -r 16000 -c 6 | clearbeam stream --mics 6 > clean.raw

        clearbeam stream --in meeting.wav --out clean.wav --latency-report

        clearbeam stream --in meeting.wav --out default --realtime

        clearbeam stream --in "USB Array" --out clean.flac --mics 4 --latency 20

        clearbeam stream --in robot.wav --out clean.wav --array circular_6mic --look 30
    """
    from clearbeam.enhance import Settings, load_enhancer, options_of
    from clearbeam.stream import PIPE, Timed, is_file, open_sink, open_source, run_stream
    from simulate.sound_files import RATES_HZ

    if rate is not None and not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise ValueError(f"expected a rate of {RATES_HZ[0]} to {RATES_HZ[1]} Hz, found {rate}")
    if realtime and (source == PIPE or not is_file(source)):
        raise ValueError("expected a file with --realtime: pipes and devices have their own pace")
    if source == target and source != PIPE and is_file(source):
        raise ValueError(f"expected an output that is not the input, found {target}")
    heard = open_source(source, mics, rate, realtime)
    settings = Settings(geometry(array), look, reference_mic)
    settings.check(heard.n_mics)
    enhancer = load_enhancer(model, "cpu", latency_ms=latency)
    try:
        stream = enhancer.stream(heard.n_mics, backend=backend.value, **options_of(settings))
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    timed = Timed(stream)
    with open_sink(target, heard.rate) as sink:
        run_stream(heard, sink, timed)
    if latency_report:
        typer.echo(timed.report(), err=True)
