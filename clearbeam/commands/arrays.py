"""`clearbeam arrays`: the named arrays, and what an array can do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clearbeam.console import out
from clearbeam.tables import Table

if TYPE_CHECKING:
    from simulate import ArrayGeometry

NAME = "arrays"
TABLE_HZ = (250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)


def run(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME or YAML", help="One array, by its name or its file."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw geometry, beam pattern, directivity, noise."),
    ] = None,
    look: Annotated[
        float, typer.Option(metavar="AZIMUTH_DEG", help="The direction that its beams listen to.")
    ] = 0.0,
) -> None:
    """List the named arrays, or tell what one of them can do.

    An array of your own is a YAML file of `name` and `positions_m`, a list of [x, y, z] in metres.
    Azimuth 0 is its x axis, azimuth 90 its y axis.

    Examples:

        clearbeam arrays

        clearbeam arrays circular_6mic --plot array.png

        clearbeam arrays my-array.yaml --look 90
    """
    from simulate import load_array

    if name is None:
        if plot is not None:
            raise ValueError("expected the NAME of an array with --plot, found none")
        _list()
        return
    array = load_array(name)
    if plot is not None:
        from clearbeam.arrays import plot_array

        plot_array(plot, array, look)
    _describe(array, look)
    if plot is not None:
        typer.echo(plot)


def _list() -> None:
    """Print a line for each named array."""
    from simulate import list_arrays, load_array

    for name in list_arrays():
        array = load_array(name)
        size = f"{array.n_mics:2} mics {100 * array.aperture_m():5.1f} cm"
        typer.echo(f"{name:<18}{size}   {array.description}")


def _describe(array: ArrayGeometry, look_azimuth_deg: float) -> None:
    """Print what is known about `array`, where its microphones are, and what its beams do."""
    import numpy as np

    from clearbeam.arrays import abilities, aliasing_hz

    typer.echo(f"{array.name}: {array.description}")
    typer.echo(f"source: {array.source}")
    typer.echo(f"microphones: {array.n_mics}, aperture {100 * array.aperture_m():.1f} cm")
    if np.isfinite(limit_hz := aliasing_hz(array)):
        typer.echo(f"directions are unambiguous below {limit_hz:.0f} Hz")
    places = [
        (str(k), *(f"{100 * value:.2f}" for value in place))
        for k, place in enumerate(array.positions_m)
    ]
    out.print(Table("positions in cm", ("mic", "x", "y", "z"), places).to_rich())
    found = abilities(array, look_azimuth_deg, np.array(TABLE_HZ))
    rows = [
        (f"{what}, {beam}", *(f"{value:.1f}" for value in curve))
        for what, curves in (
            ("directivity index", found.directivity_db),
            ("white-noise gain", found.noise_gain_db),
        )
        for beam, curve in curves.items()
    ]
    header = ("dB", *(f"{freq:g} Hz" for freq in TABLE_HZ))
    out.print(Table(f"beams towards {look_azimuth_deg:g}°", header, rows).to_rich())
