"""What is asked of a system, and which scores say how well it did: one class a task."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clearbeam.clips import Clip
from clearbeam.metrics import METRICS
from clearbeam.report import Column

Estimate = NDArray[np.float32]


class Task(Protocol):
    """The columns that a task can fill, and how one estimate fills them."""

    def columns(self, names: Sequence[str] | None) -> list[Column]:
        """The columns called `names`, or all that the installed packages allow."""

    def score(self, clip: Clip, estimate: Estimate, names: Sequence[str]) -> dict[str, float]:
        """The columns `names` for one estimate; NaN where undefined."""


class Enhancement:
    """One talker: an estimate (samples,) against the early image at the reference mic."""

    # column -> the metric whose gain over the reference mic it is
    improvements: Mapping[str, str] = {"si_sdri": "si_sdr", "sdri": "sdr"}
    order = ("si_sdr", "si_sdri", "sdr", "sdri", "pesq_wb", "stoi", "estoi")

    def columns(self, names: Sequence[str] | None) -> list[Column]:
        """The columns called `names`, or all that the installed packages allow.

        Raises ValueError for an unknown name, ImportError for one whose package is missing.
        """
        if names is None:
            return [self._column(name) for name in self.order if self._available(name)]
        for name in names:
            if name not in self.order:
                raise ValueError(f"expected metrics among {', '.join(self.order)}, found {name}")
            METRICS[self._metric(name)].require()
        return [self._column(name) for name in dict.fromkeys(names)]

    def score(self, clip: Clip, estimate: Estimate, names: Sequence[str]) -> dict[str, float]:
        """The columns `names` for one estimate; NaN where undefined."""
        reference = clip.early.sum(0)[clip.reference_mic].numpy()
        noisy = clip.mixture[clip.reference_mic].numpy()
        values = {}
        for name in names:
            measure = METRICS[self._metric(name)].measure
            values[name] = measure(estimate, reference)
            if name in self.improvements:
                values[name] -= measure(noisy, reference)
        return values

    def _metric(self, name: str) -> str:
        return self.improvements.get(name, name)

    def _column(self, name: str) -> Column:
        metric = METRICS[self._metric(name)]
        title = metric.title + ("i" if name in self.improvements else "")
        return Column(name, title, metric.digits)

    def _available(self, name: str) -> bool:
        metric = METRICS[self._metric(name)]
        if not metric.available:
            warnings.warn(f"{metric.title} left out: it needs {metric.package}", stacklevel=4)
        return metric.available


TASKS: dict[str, Task] = {"enhance": Enhancement()}


def find_task(name: str) -> Task:
    """The task of that name; raises ValueError for an unknown one."""
    if name not in TASKS:
        raise ValueError(f"expected a task among {', '.join(TASKS)}, found {name}")
    return TASKS[name]
