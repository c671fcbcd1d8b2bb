"""Claims: numbers with their intervals, beside what they should reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clearbeam.report import Column
from clearbeam.scores import Score
from clearbeam.tables import Table


@dataclass(frozen=True)
class Found:
    """A number with its 95% interval, and the least that it should be, if anything."""

    mean: float
    low: float
    high: float
    least: float | None = None

    @staticmethod
    def of(score: Score, least: float | None = None) -> Found:
        """The mean of a score."""
        return Found(score.mean, *score.interval(), least)

    @property
    def met(self) -> bool:
        """Whether the mean reaches what it should; what nothing is asked of is met."""
        return self.least is None or self.mean >= self.least

    def text(self, column: Column, sign: str = "") -> str:
        """`mean (low to high, ≥ least)` with the digits of a column."""
        low, mean, high = (column.text(v, sign) for v in (self.low, self.mean, self.high))
        least = "" if self.least is None else f", ≥ {self.least:g}"
        return f"{mean} ({low} to {high}{least})"


@dataclass(frozen=True)
class Claim:
    """What is claimed, and what was found by the name of each metric; sign "+" for differences."""

    title: str
    found: Mapping[str, Found]
    sign: str = ""

    @property
    def verdict(self) -> str:
        """yes or no; empty where nothing is asked."""
        judged = [found for found in self.found.values() if found.least is not None]
        return ("yes" if all(found.met for found in judged) else "no") if judged else ""

    def to_json(self) -> list[dict[str, Any]]:
        """Plain data: a record a metric."""
        return [
            {"claim": self.title, "metric": name, **vars(found), "met": found.met}
            for name, found in self.found.items()
        ]


def claims_table(title: str, claims: Sequence[Claim], columns: Sequence[Column]) -> Table:
    """Claims as rows, metrics as columns; a metric that a claim says nothing of is empty."""
    rows = []
    for claim in claims:
        found = [(column, claim.found.get(column.name)) for column in columns]
        cells = [f.text(column, claim.sign) if f is not None else "" for column, f in found]
        rows.append((claim.title, *cells, claim.verdict))
    header = ("system", *(column.title for column in columns), "met")
    note = (
        "mean (95% bootstrap interval over clips, ≥ what it should reach); differences are paired"
    )
    return Table(title, header, rows, note)
