"""Claims: numbers with their intervals, beside what they should reach."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clearbeam.files import replacing
from clearbeam.ledger import fingerprint
from clearbeam.report import Column, Report
from clearbeam.scores import Score
from clearbeam.tables import Table


@dataclass(frozen=True)
class Found:
    """A number with its 95% interval, and the least that it should be, if anything."""

    value: float
    low: float
    high: float
    least: float | None = None

    @staticmethod
    def of(score: Score, least: float | None = None, median: bool = False) -> Found:
        """The mean of a score, or its median."""
        value = score.median if median else score.mean
        return Found(value, *score.interval(median=median), least)

    @property
    def met(self) -> bool:
        """Whether it reaches what it should; what nothing is asked of is met."""
        return self.least is None or self.value >= self.least

    def text(self, column: Column, sign: str = "") -> str:
        """`value (low to high)` with the digits of a column."""
        low, value, high = (column.text(v, sign) for v in (self.low, self.value, self.high))
        return f"{value} ({low} to {high})"


@dataclass(frozen=True)
class Claim:
    """What is claimed, and what was found by the name of each metric; sign "+" for differences."""

    title: str
    found: Mapping[str, Found]
    sign: str = ""

    @property
    def missed(self) -> list[str] | None:
        """The metrics that do not reach what they should; None where nothing is asked."""
        if all(found.least is None for found in self.found.values()):
            return None
        return [name for name, found in self.found.items() if not found.met]

    def to_json(self) -> list[dict[str, Any]]:
        """Plain data: a record a metric."""
        return [
            {"claim": self.title, "metric": name, **vars(found), "met": found.met}
            for name, found in self.found.items()
        ]


def claims_table(
    title: str,
    claims: Sequence[Claim],
    columns: Sequence[Column],
    note: str = "",
    middle: str = "mean",
) -> Table:
    """Claims as rows, metrics as columns, then what they should reach and whether they do.

    middle: what the numbers are, for the note.
    """
    rows = []
    for claim in claims:
        found = [(column, claim.found[column.name]) for column in columns]
        cells = [f.text(column, claim.sign) for column, f in found]
        rows.append((claim.title, *cells, _least([f for _, f in found]), _met(claim, columns)))
    header = ("system", *(column.title for column in columns), "at least", "met")
    means = f"{middle} (95% bootstrap interval over clips); differences are paired"
    return Table(title, header, rows, f"{note}; {means}" if note else means)


def _least(found: Sequence[Found]) -> str:
    """What a row should reach: one number, or one for each metric."""
    texts = ["–" if f.least is None else f"{f.least:g}" for f in found]
    return "" if set(texts) == {"–"} else " / ".join(texts if len(set(texts)) > 1 else texts[:1])


def _met(claim: Claim, columns: Sequence[Column]) -> str:
    """yes, or the metrics that do not reach it; empty where nothing is asked."""
    if claim.missed is None:
        return ""
    titles = [column.title for column in columns if column.name in claim.missed]
    return f"no: {', '.join(titles)}" if titles else "yes"


def facts(
    asked: Mapping[str, str | int], weights: Sequence[Path], packages: Sequence[str]
) -> dict[str, str | int]:
    """What numbers depend on besides the code: what was asked for, weights, machine, packages."""
    return {
        **asked,
        "weights": fingerprint(*weights)[:12],
        "CPU cores": os.cpu_count() or 1,
        **{package: version(package) for package in packages},
    }


def write_claims(
    out: Path,
    about: Mapping[str, str | int],
    tables: Sequence[Table],
    claims: Sequence[Claim],
    reports: Sequence[Report],
) -> Path:
    """Write `out`/claims.md, with every table of the reports below, and `out`/claims.json.

    Returns the former.
    """
    parts = [
        ", ".join(f"{name} {value}" for name, value in about.items()),
        *(table.to_markdown() for table in tables),
        *(report.to_markdown() for report in reports),
    ]
    with replacing(out / "claims.md") as file:
        file.write_text("\n\n".join(part.rstrip() for part in parts) + "\n", encoding="utf-8")
    numbers = [number for claim in claims for number in claim.to_json()]
    with replacing(out / "claims.json") as file:
        text = json.dumps({"run": dict(about), "claims": numbers}, indent=1)
        file.write_text(text, encoding="utf-8")
    return out / "claims.md"
