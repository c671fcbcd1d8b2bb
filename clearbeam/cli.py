"""The `clearbeam` command: one thin file per subcommand in `clearbeam/commands`."""

from __future__ import annotations

from typing import Annotated

import typer

from clearbeam import __version__
from clearbeam.commands import (
    arrays,
    demo,
    enhance,
    evaluate,
    export,
    separate,
    simulate,
    stream,
    sweep,
    train,
)
from clearbeam.console import OneLineErrors

app = typer.Typer(
    cls=OneLineErrors,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (demo, enhance, separate, stream, simulate, evaluate, arrays, sweep, train, export):
    app.command(module.NAME)(module.run)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clearbeam {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn what a microphone array hears into one clean stream per talker.

    First steps, without any data of your own:

        clearbeam demo

    Your own recording, one file with a channel per microphone:

        clearbeam enhance meeting.wav

    Every command explains itself: `clearbeam enhance --help`.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
