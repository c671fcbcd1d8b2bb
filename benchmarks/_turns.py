"""Systems that take turns on one thread: what the benchmarks of whole blocks share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from rich.table import Table


def take_turns(systems: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of processor time of every system, after one round unmeasured."""
    times: dict[str, list[float]] = {name: [] for name in systems}
    for round_ in range(rounds + 1):
        for name, system in systems.items():
            start = time.process_time()
            system()
            if round_:
                times[name].append(time.process_time() - start)
    return {name: median(one) for name, one in times.items()}


def table_of(title: str, times: Mapping[str, float], errors: Mapping[str, float]) -> Table:
    """The first system is ours; errors are relative to the largest value."""
    table = Table(title=title)
    for column in ("system", "median ms", "times ours", "largest error"):
        table.add_column(column, justify="left" if column == "system" else "right")
    ours = next(iter(times.values()))
    for name, one in times.items():
        error = f"{errors[name]:.0e}" if name in errors else ""
        table.add_row(name, f"{1e3 * one:.1f}", f"{one / ours:.2f}", error)
    return table
