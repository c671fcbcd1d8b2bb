"""The result of an evaluation: rows, and the scores, conditions and tables drawn from them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clearbeam.ledger import Row
from clearbeam.scores import Score, Speed
from clearbeam.tables import Table

# A condition drawn from a continuum is cut into bins of the given width.
_BIN_WIDTHS = {"snr_db": 5.0, "rt60_s": 0.2}
_MAX_VALUES = 6
_SPREAD = "mean ± half the width of its 95% bootstrap interval over clips"


@dataclass(frozen=True)
class Column:
    """A metric as a table shows it; `gain` if it is one over the reference mic itself."""

    name: str
    title: str
    digits: int
    gain: bool = False

    def text(self, value: float, sign: str = "") -> str:
        """`value` with this column's digits; a dash for NaN."""
        return "–" if math.isnan(value) else f"{value:{sign}.{self.digits}f}"


@dataclass(frozen=True)
class Report:
    """Every row of an evaluation, and what the clips were like.

    conditions: for each clip its name of each condition's value (number or text).
    systems: in the order asked for; baseline: the one that differences are taken against.
    """

    dataset: str
    task: str
    columns: tuple[Column, ...]
    systems: tuple[str, ...]
    baseline: str
    rows: tuple[Row, ...]
    conditions: Mapping[str, Mapping[str, float | str]]

    @property
    def clips(self) -> tuple[str, ...]:
        """The clips evaluated."""
        return tuple(self.conditions)

    def score(self, system: str, metric: str, clips: Iterable[str] | None = None) -> Score:
        """The score of a system by a metric, over all clips or the given ones."""
        wanted = set(self.clips if clips is None else clips)
        found = [r for r in self.rows if r.system == system and r.clip in wanted]
        return Score(tuple(r.clip for r in found), tuple(r.values[metric] for r in found))

    def gain(self, system: str, metric: str, clips: Iterable[str] | None = None) -> Score:
        """The paired differences of a system to the baseline."""
        clips = self.clips if clips is None else tuple(clips)
        return self.score(system, metric, clips) - self.score(self.baseline, metric, clips)

    def speed(self, system: str) -> Speed:
        """The computing time of a system over all clips, on one thread."""
        return sum((r.speed for r in self.rows if r.system == system), Speed())

    def groups(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Clips by condition and value (or bin of values), for conditions that vary."""
        names = dict.fromkeys(name for values in self.conditions.values() for name in values)
        found = {name: self._groups_of(name) for name in names}
        return {name: groups for name, groups in found.items() if len(groups) > 1}

    def _groups_of(self, name: str) -> dict[str, tuple[str, ...]]:
        values = {clip: c[name] for clip, c in self.conditions.items() if name in c}
        n_values = len(set(values.values()))
        # A few values, each met again and again, were chosen: they are the groups themselves.
        chosen = n_values <= _MAX_VALUES and 2 * n_values <= len(values)
        width = None if chosen else _BIN_WIDTHS.get(name)
        groups: dict[float | str, list[str]] = {}
        for clip, value in values.items():
            groups.setdefault(_bin(value, width), []).append(clip)
        return {_label(edge, width): tuple(groups[edge]) for edge in sorted(groups)}

    def tables(self) -> list[Table]:
        """Overall, differences to the baseline, then one table a condition."""
        tables = [self._overall()]
        if len(self.systems) > 1:
            tables.append(self._gains())
        return tables + [self._by(name, groups) for name, groups in self.groups().items()]

    def _overall(self) -> Table:
        header = ("system", *(c.title for c in self.columns), "RTF")
        rows = []
        for system in self.systems:
            scores = [(c, self.score(system, c.name)) for c in self.columns]
            cells = [_cell(column, score) for column, score in scores]
            rows.append((self._label(system), *cells, f"{self.speed(system).rtf:.3f}"))
        note = f"{_SPREAD}; ratios (SDR) in dB; RTF: CPU seconds per second of audio, one thread"
        return Table(f"{self.task}: {len(self.clips)} clips of {self.dataset}", header, rows, note)

    def _gains(self) -> Table:
        # Between two systems the difference of a gain is that of the metric itself.
        columns = [c for c in self.columns if not c.gain] or self.columns
        header = ("system", *(c.title for c in columns))
        rows = [
            (self._label(system), *(_cell(c, self.gain(system, c.name), "+") for c in columns))
            for system in self.systems
            if system != self.baseline
        ]
        title = f"paired difference to {self._label(self.baseline)}"
        return Table(title, header, rows, f"{_SPREAD}, each clip against itself")

    def _by(self, name: str, groups: Mapping[str, tuple[str, ...]]) -> Table:
        header = (name, "clips", "system", *(c.title for c in self.columns))
        rows = []
        for label, clips in groups.items():
            for i, system in enumerate(self.systems):
                cells = [_cell(c, self.score(system, c.name, clips)) for c in self.columns]
                first = (label, str(len(clips))) if i == 0 else ("", "")
                rows.append((*first, self._label(system), *cells))
        return Table(f"by {name}", header, rows)

    def _label(self, system: str) -> str:
        """A system's name with only the stem of a path, unless two would look alike."""
        short = {n: re.sub(r":.*/", ":", n).replace(".safetensors", "") for n in self.systems}
        return short[system] if list(short.values()).count(short[system]) == 1 else system

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data: summaries with intervals, by condition, and every clip."""
        return {
            "dataset": self.dataset,
            "task": self.task,
            "baseline": self.baseline,
            "clips": len(self.clips),
            "systems": {s: self._summary(s) | {"rtf": self.speed(s).rtf} for s in self.systems},
            "conditions": {
                name: {
                    label: {"clips": len(clips)}
                    | {"systems": {s: self._summary(s, clips) for s in self.systems}}
                    for label, clips in groups.items()
                }
                for name, groups in self.groups().items()
            },
            "rows": [r.to_json() | {"conditions": self.conditions[r.clip]} for r in self.rows],
        }

    def _summary(self, system: str, clips: Iterable[str] | None = None) -> dict[str, Any]:
        scores = {c.name: _numbers(self.score(system, c.name, clips)) for c in self.columns}
        if system == self.baseline:
            return {"scores": scores}
        gains = {c.name: _numbers(self.gain(system, c.name, clips)) for c in self.columns}
        return {"scores": scores, "difference_to_baseline": gains}

    def to_markdown(self) -> str:
        """All tables as Markdown text."""
        return "\n\n".join(table.to_markdown() for table in self.tables()) + "\n"


def _numbers(score: Score) -> dict[str, float | int | None]:
    low, high = score.interval()
    numbers = {"mean": score.mean, "low": low, "high": high, "se": score.standard_error}
    plain = {k: None if math.isnan(v) else v for k, v in numbers.items()}
    return {**plain, "count": score.count, "undefined": score.undefined}


def _cell(column: Column, score: Score, sign: str = "") -> str:
    low, high = score.interval()
    spread = f" ± {column.text((high - low) / 2)}" if score.count > 1 else ""
    omitted = f" ({score.undefined} undefined)" if score.undefined else ""
    return f"{column.text(score.mean, sign)}{spread}{omitted}"


def _bin(value: float | str, width: float | None) -> float | str:
    """The lower edge of the bin that `value` falls into; itself where there is no width."""
    if width is None or isinstance(value, str):
        return value
    # A hair is added so that 0.6, which is 0.5999..., opens the bin it names.
    return math.floor(value / width + 1e-9) * width


def _label(edge: float | str, width: float | None) -> str:
    if isinstance(edge, str):
        return edge
    return f"{edge:g}" if width is None else f"{edge:g} to {edge + width:g}"
