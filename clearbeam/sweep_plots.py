"""Pictures of a sweep: a line for each system over every key, a heat map for every two keys."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clearbeam.files import replacing
from clearbeam.report import Column
from clearbeam.scores import Score
from clearbeam.sweep_table import SweepTable, Value

_PANEL = 3.2  # inches
_UNITS = {"m": "m", "s": "s", "db": "dB", "dbfs": "dBFS", "deg": "°", "ms": "ms", "ppm": "ppm"}
_DECIBELS = ("si_sdr", "si_sdri", "sdr", "sdri")

Scored = Callable[[str, str, Mapping[str, Value]], Score]


def plot_sweep(table: SweepTable, folder: Path) -> list[Path]:
    """Write `lines_METRIC.png` and, for two keys or more, `heat_METRIC.png` for every metric.

    A line has its 95% interval as a band, all other keys averaged over; scores stand above, their
    paired gains over the baseline below. A heat map has a column of panels for each system, all on
    one scale. Returns the files.
    """
    paths = []
    varying = [key for key in table.keys if len(table.values(key)) > 1] or list(table.keys)
    for column in table.columns:
        paths.append(_save(_lines(table, column, varying), folder / f"lines_{column.name}.png"))
        pairs = list(itertools.combinations(varying, 2))
        if pairs:
            path = folder / f"heat_{column.name}.png"
            paths.append(_save(_heat(table, column, pairs), path))
    return paths


def _lines(table: SweepTable, column: Column, keys: list[str]) -> Figure:
    baseline = table.reports[0].baseline
    colours = {system: f"C{i}" for i, system in enumerate(table.systems)}
    better = [system for system in table.systems if system != baseline]
    rows: list[tuple[str, Scored, list[str]]] = [(_title(column), table.score, [*table.systems])]
    if better:
        rows.append((f"gain over {baseline}{_unit(column)}", table.gain, better))
    size = (_PANEL * len(keys) + 1, 0.8 * _PANEL * len(rows) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), len(keys), sharex="col", sharey="row", squeeze=False)
    for line_of_panels, (label, scored, systems) in zip(panels, rows, strict=True):
        for panel, key in zip(line_of_panels, keys, strict=True):
            for system in systems:
                scores = [scored(system, column.name, {key: v}) for v in table.values(key)]
                _line(panel, _positions(table.values(key)), scores, system, colours[system])
            panel.grid(alpha=0.3)
        line_of_panels[0].set_ylabel(label)
    for panel, key in zip(panels[-1], keys, strict=True):
        _ticks(panel, table.values(key))
        panel.set_xlabel(_label(key))
    handles = panels[0, 0].get_lines()
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _line(panel: Axes, x: list[float], scores: list[Score], system: str, colour: str) -> None:
    low, high = np.transpose([score.interval() for score in scores])
    panel.plot(x, [s.mean for s in scores], marker="o", markersize=4, label=system, color=colour)
    panel.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _numeric(values: Iterable[Value]) -> bool:
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _positions(values: list[Value]) -> list[float]:
    """Where values stand on the axis: numbers at themselves, names side by side."""
    return (
        [float(v) for v in values] if _numeric(values) else [float(i) for i in range(len(values))]
    )


def _ticks(panel: Axes, values: list[Value]) -> None:
    turned = 0 if _numeric(values) else 30
    panel.set_xticks(_positions(values), [str(value) for value in values], rotation=turned)


def _heat(table: SweepTable, column: Column, pairs: list[tuple[str, str]]) -> Figure:
    means = {(pair, system): _means(table, column, system, pair)
             for pair in pairs for system in table.systems}  # fmt: skip
    everything = np.concatenate([grid.ravel() for grid in means.values()])
    defined = everything[np.isfinite(everything)]
    low, high = (defined.min(), defined.max()) if defined.size else (0.0, 1.0)
    rows, columns = len(pairs), len(table.systems)
    size = (0.8 * _PANEL * columns + 1, 0.8 * _PANEL * rows + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex="row", sharey="row")
    for (i, pair), (j, system) in itertools.product(enumerate(pairs), enumerate(table.systems)):
        panel, grid = panels[i, j], means[pair, system]
        image = panel.imshow(grid, vmin=low, vmax=high, origin="lower", aspect="auto")
        _label_cells(panel, grid, column, (low + high) / 2)
        for axis, key in zip((panel.yaxis, panel.xaxis), pair, strict=True):
            axis.set_ticks(range(len(table.values(key))), [str(v) for v in table.values(key)])
        panel.set_xlabel(_label(pair[1]))
        if j == 0:
            panel.set_ylabel(_label(pair[0]))
        if i == 0:
            panel.set_title(system, fontsize="medium")
    figure.colorbar(image, ax=panels, label=_title(column))
    return figure


def _means(table: SweepTable, column: Column, system: str, pair: tuple[str, str]) -> np.ndarray:
    """Mean scores, (values of the first key, values of the second)."""
    down, across = pair
    at = [[{down: a, across: b} for b in table.values(across)] for a in table.values(down)]
    return np.array([[table.score(system, column.name, p).mean for p in row] for row in at])


def _label_cells(panel: Axes, grid: np.ndarray, column: Column, middle: float) -> None:
    digits = max(column.digits - 1, 0)
    for (i, j), value in np.ndenumerate(grid):
        colour = "white" if value < middle else "black"
        text = f"{value:.{digits}f}" if np.isfinite(value) else "–"
        panel.text(j, i, text, ha="center", va="center", color=colour, size=8)


def _title(column: Column) -> str:
    return column.title + _unit(column)


def _unit(column: Column) -> str:
    return " (dB)" if column.name in _DECIBELS else ""


def _label(key: str) -> str:
    """A key as words, with the unit that its name ends on: `room.rt60_s` is `room RT60 (s)`."""
    name, _, unit = key.rpartition("_")
    unit = _UNITS.get(unit, "") if name else ""
    words = (name if unit else key).replace(".", " ").replace("_", " ")
    words = re.sub(r"\b(rt60|snr|sir)\b", lambda found: found[0].upper(), words)
    return f"{words} ({unit})" if unit else words


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110)
    return path
