"""Pictures of a sweep: a line for each system over every key, a heat map for every two keys."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clearbeam.files import replacing
from clearbeam.report import Column
from clearbeam.sweep_table import SweepTable, Value

_PANEL = 3.4  # inches


def plot_sweep(table: SweepTable, folder: Path) -> list[Path]:
    """Write `lines_METRIC.png` and, for two keys or more, `heat_METRIC.png` for every metric.

    A line has its 95% interval as a band, all other keys averaged over; a heat map has a row of
    panels for each system, all on one scale. Returns the files.
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
    figure = Figure(figsize=(_PANEL * len(keys) + 1, _PANEL), layout="constrained")
    panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    for panel, key in zip(panels, keys, strict=True):
        values = table.values(key)
        x = _positions(panel, values)
        for system in table.systems:
            scores = [table.score(system, column.name, {key: value}) for value in values]
            low, high = np.transpose([score.interval() for score in scores])
            (line,) = panel.plot(x, [score.mean for score in scores], marker="o", label=system)
            panel.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        panel.set_xlabel(key)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(column.title)
    panels[-1].legend(fontsize="small")
    return figure


def _positions(panel: Axes, values: list[Value]) -> list[float]:
    """Where the values stand on the axis: numbers at themselves, names side by side."""
    if all(isinstance(value, (int, float)) for value in values):
        return [float(value) for value in values]
    panel.set_xticks(range(len(values)), [str(value) for value in values], rotation=30)
    return [float(i) for i in range(len(values))]


def _heat(table: SweepTable, column: Column, pairs: list[tuple[str, str]]) -> Figure:
    means = {(system, pair): _means(table, column, system, pair)
             for system in table.systems for pair in pairs}  # fmt: skip
    everything = np.concatenate([grid.ravel() for grid in means.values()])
    defined = everything[np.isfinite(everything)]
    low, high = (defined.min(), defined.max()) if defined.size else (0.0, 1.0)
    rows, columns = len(table.systems), len(pairs)
    size = (_PANEL * columns + 1, 0.85 * _PANEL * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel, ((system, pair), grid) in zip(panels.ravel(), means.items(), strict=True):
        image = panel.imshow(grid, vmin=low, vmax=high, origin="lower", aspect="auto")
        _label_cells(panel, grid, column, (low + high) / 2)
        for axis, key in zip((panel.yaxis, panel.xaxis), pair, strict=True):
            axis.set_ticks(range(len(table.values(key))), [str(v) for v in table.values(key)])
            axis.set_label_text(key)
        panel.set_title(system, fontsize="medium")
    figure.colorbar(image, ax=panels, label=column.title)
    return figure


def _means(table: SweepTable, column: Column, system: str, pair: tuple[str, str]) -> np.ndarray:
    """Mean scores, (values of the first key, values of the second)."""
    down, across = pair
    at = [[{down: a, across: b} for b in table.values(across)] for a in table.values(down)]
    return np.array([[table.score(system, column.name, p).mean for p in row] for row in at])


def _label_cells(panel: Axes, grid: np.ndarray, column: Column, middle: float) -> None:
    for (i, j), value in np.ndenumerate(grid):
        colour = "white" if value < middle else "black"
        panel.text(j, i, column.text(float(value)), ha="center", va="center", color=colour, size=8)


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110)
    return path
