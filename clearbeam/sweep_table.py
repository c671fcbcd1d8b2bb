"""The result of a sweep: one tidy table, and the scores with their intervals drawn from it."""

from __future__ import annotations

import csv
import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clearbeam.files import replacing
from clearbeam.report import Column, Report
from clearbeam.scores import Score, mean_of
from clearbeam.tables import Table

Value = float | int | str


def require_parquet() -> None:
    """Raise ImportError, saying what to install, where Parquet cannot be written."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ImportError(
            "expected the package pyarrow for Parquet, found none: pip install 'clearbeam[sweep]'"
        )


@dataclass(frozen=True)
class SweepTable:
    """What a sweep found: keys of the grid, the value of each at every point, a report a point."""

    keys: tuple[str, ...]
    points: tuple[tuple[Value, ...], ...]
    reports: tuple[Report, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The metrics."""
        return self.reports[0].columns

    @property
    def systems(self) -> tuple[str, ...]:
        """The systems, the baseline among them."""
        return self.reports[0].systems

    def values(self, key: str) -> list[Value]:
        """The different values of a key, in the grid's order."""
        place = self.keys.index(key)
        return list(dict.fromkeys(point[place] for point in self.points))

    def score(self, system: str, metric: str, at: Mapping[str, Value] | None = None) -> Score:
        """The score at the points with the values `at`, all others averaged over.

        Points share their seed, so mixtures of one number have much in common from point to point
        (room, talker, noise): they are one draw. So a mixture is averaged over the points first,
        and the interval is over mixtures; as if independent, it would come out too narrow.
        """
        found: dict[str, list[float]] = {}
        for values in self._at(at or {}):
            for clip, value in values[system, metric].items():
                found.setdefault(clip, []).append(value)
        return Score(tuple(found), tuple(mean_of(v) for v in found.values()))

    def gain(self, system: str, metric: str, at: Mapping[str, Value] | None = None) -> Score:
        """The paired differences to the baseline, at the points with the values `at`."""
        return self.score(system, metric, at) - self.score(self.reports[0].baseline, metric, at)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The tidy table: keys of the grid, mixture, system, metric, value (NaN: undefined)."""
        for point, report in zip(self.points, self.reports, strict=True):
            for row in report.rows:
                for metric, value in row.values.items():
                    yield dict(zip(self.keys, point, strict=True)) | {
                        "mixture": row.clip,
                        "system": row.system,
                        "metric": metric,
                        "value": value,
                    }

    def summary(self) -> Iterator[dict[str, Any]]:
        """A row for each point, system and metric: mean and interval, and those of the gain."""
        for point in self.points:
            at = dict(zip(self.keys, point, strict=True))
            for system in self.systems:
                for column in self.columns:
                    score = self.score(system, column.name, at)
                    gain = self.gain(system, column.name, at)
                    yield at | {
                        "system": system,
                        "metric": column.name,
                        **_numbers(score, ""),
                        "count": score.count,
                        "undefined": score.undefined,
                        **_numbers(gain, "gain_"),
                    }

    def tables(self) -> list[Table]:
        """One table a key of the grid: scores by its values, all else averaged over."""
        return [self._by(key) for key in self.keys]

    def write(self, out: Path) -> None:
        """Write results.parquet, results.csv and summary.csv into `out`."""
        import pyarrow
        import pyarrow.parquet

        rows = list(self.rows())
        names = list(rows[0])
        with replacing(out / "results.csv") as path:
            _write_csv(path, names, rows)
        with replacing(out / "results.parquet") as path:
            columns = {name: _column([row[name] for row in rows]) for name in names}
            pyarrow.parquet.write_table(pyarrow.table(columns), path)
        summary = list(self.summary())
        with replacing(out / "summary.csv") as path:
            _write_csv(path, list(summary[0]), summary)

    def _by(self, key: str) -> Table:
        header = (key, "system", *(column.title for column in self.columns))
        rows = []
        for value in self.values(key):
            for i, system in enumerate(self.systems):
                scores = [(c, self.score(system, c.name, {key: value})) for c in self.columns]
                cells = [_cell(column, score) for column, score in scores]
                rows.append((str(value) if i == 0 else "", system, *cells))
        note = "mean ± half the width of its 95% bootstrap interval over mixtures"
        return Table(f"by {key}", header, rows, note)

    def _at(self, at: Mapping[str, Value]) -> list[dict[tuple[str, str], dict[str, float]]]:
        places = {self.keys.index(key): value for key, value in at.items()}
        return [
            values
            for point, values in zip(self.points, self._lookup, strict=True)
            if all(point[place] == value for place, value in places.items())
        ]

    @cached_property
    def _lookup(self) -> list[dict[tuple[str, str], dict[str, float]]]:
        """For each point (system, metric) -> mixture -> value."""
        found = []
        for report in self.reports:
            values: dict[tuple[str, str], dict[str, float]] = {}
            for row in report.rows:
                for metric, value in row.values.items():
                    values.setdefault((row.system, metric), {})[row.clip] = value
            found.append(values)
        return found


def _numbers(score: Score, prefix: str) -> dict[str, float]:
    low, high = score.interval()
    return {f"{prefix}mean": score.mean, f"{prefix}low": low, f"{prefix}high": high}


def _cell(column: Column, score: Score) -> str:
    low, high = score.interval()
    return f"{column.text(score.mean)} ± {column.text((high - low) / 2)}"


def _write_csv(path: Path, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """An empty cell is an undefined score."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            cells = [row[name] for name in names]
            writer.writerow("" if isinstance(c, float) and math.isnan(c) else c for c in cells)


def _column(cells: list[Any]) -> list[Any]:
    """Cells of one type: numbers where all are, else text; None for an undefined score."""
    if not all(isinstance(cell, (int, float)) for cell in cells):
        return [str(cell) for cell in cells]
    if all(isinstance(cell, int) for cell in cells):
        return cells
    return [None if math.isnan(cell) else float(cell) for cell in cells]
