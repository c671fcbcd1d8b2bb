"""What is asked of a system, and which scores say how well it did: one class a task."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clearbeam.clips import Clip
from clearbeam.dnsmos import DNSMOS, RATINGS
from clearbeam.metrics import METRICS, attenuation
from clearbeam.report import Column

Estimate = NDArray[np.float32]


class Task(Protocol):
    """The columns that a task can fill, what a system must give, and how that fills them."""

    def columns(self, names: Sequence[str] | None) -> list[Column]:
        """The columns called `names`, or all that the installed packages allow."""

    def shape(self, clip: Clip) -> tuple[int, ...]:
        """The shape of an estimate."""

    def score(self, clip: Clip, estimate: Estimate, names: Sequence[str]) -> dict[str, float]:
        """The columns `names` for one estimate; NaN where undefined."""


class Enhancement:
    """One talker: an estimate (samples,) against the early image at the reference mic.

    dnsmos: the published network's ONNX file, without which those columns are not there.
    Raises ValueError or ImportError where it cannot be used.
    """

    # column -> the metric whose gain over the reference mic it is
    improvements: Mapping[str, str] = {"si_sdri": "si_sdr", "sdri": "sdr"}
    order = ("si_sdr", "si_sdri", "sdr", "sdri", "pesq_wb", "stoi", "estoi")
    ratings: Mapping[str, str] = {f"dnsmos_{name}": name for name in RATINGS}

    def __init__(self, dnsmos: Path | None = None) -> None:
        self.dnsmos = None if dnsmos is None else DNSMOS(dnsmos)

    def columns(self, names: Sequence[str] | None) -> list[Column]:
        """The columns called `names`, or all that the installed packages and files allow.

        `attenuation` is there when asked for: it says something of clips without speech only.
        Raises ValueError for an unknown name, ImportError for one whose package is missing.
        """
        if names is None:
            found = [name for name in self.order if self._available(name)]
            return [self._column(n) for n in (*found, *(self.ratings if self.dnsmos else ()))]
        for name in names:
            self._check(name)
        return [self._column(name) for name in dict.fromkeys(names)]

    def shape(self, clip: Clip) -> tuple[int, ...]:
        """(samples,)"""
        return (clip.mixture.shape[-1],)

    def score(self, clip: Clip, estimate: Estimate, names: Sequence[str]) -> dict[str, float]:
        """The columns `names` for one estimate; NaN where undefined."""
        reference, noisy = clip.reference.numpy(), clip.mixture[clip.reference_mic].numpy()
        metrics = {self.improvements.get(name, name) for name in names} & set(METRICS)
        values = {name: METRICS[name].measure(estimate, reference) for name in metrics}
        for name in set(names) & set(self.improvements):
            metric = self.improvements[name]
            values[name] = values[metric] - METRICS[metric].measure(noisy, reference)
        if "attenuation" in names:
            values["attenuation"] = attenuation(estimate, noisy)
        if self.dnsmos is not None and set(names) & set(self.ratings):
            rated = self.dnsmos(estimate)
            values |= {name: rated[rating] for name, rating in self.ratings.items()}
        return {name: values[name] for name in names}

    def _check(self, name: str) -> None:
        known = (*self.order, *self.ratings, "attenuation")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"expected metrics among {', '.join(known)}, found {name}{hint}")
        if name in self.ratings and self.dnsmos is None:
            raise ValueError(f"expected the DNSMOS model's file for {name}, found none given")
        if name in self.order:
            METRICS[self.improvements.get(name, name)].require()

    def _column(self, name: str) -> Column:
        if name in self.ratings:
            return Column(name, f"DNSMOS {self.ratings[name].upper()}", 2)
        if name == "attenuation":
            return Column(name, "attenuation (dB)", 1)
        metric = METRICS[self.improvements.get(name, name)]
        gain = name in self.improvements
        return Column(name, metric.title + "i" * gain, metric.digits, gain)

    def _available(self, name: str) -> bool:
        metric = METRICS[self.improvements.get(name, name)]
        if not metric.available:
            warnings.warn(f"{metric.title} left out: it needs {metric.package}", stacklevel=4)
        return metric.available


TASKS = {"enhance": Enhancement}


def find_task(name: str, dnsmos: Path | None = None) -> Task:
    """The task of that name; raises ValueError for an unknown one, and what the task raises."""
    if name not in TASKS:
        raise ValueError(f"expected a task among {', '.join(TASKS)}, found {name}")
    return TASKS[name](dnsmos)
