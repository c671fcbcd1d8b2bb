"""`clearbeam demo`: hear and see what it does, without any data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clearbeam.console import err, out

NAME = "demo"


def run(
    out_dir: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the sounds and the picture go.")
    ] = Path("demo"),
) -> None:
    """Simulate a noisy room with six microphones, enhance it, and show the gain.

    Talkers, noises and weights are built in: no data, no network, about a minute. DIR gets the
    recording, the output, the clean talker, a picture and the table of scores.

    Example:

        clearbeam demo --out demo
    """
    from clearbeam.files import check_writable

    check_writable(out_dir / "demo.png")
    with err.status("starting") as status:
        from clearbeam.demo import run_demo

        demo = run_demo(out_dir, lambda what: status.update(what))
    out.print(demo.table().to_rich())
    for path in demo.files:
        typer.echo(path)
