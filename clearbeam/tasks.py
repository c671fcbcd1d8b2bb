"""What is asked of a system, and which scores say how well it did: one class a task."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clearbeam import separators, systems
from clearbeam.clips import Clip
from clearbeam.dnsmos import DNSMOS, RATINGS
from clearbeam.matching import matched
from clearbeam.metrics import METRICS, attenuation
from clearbeam.report import Column
from clearbeam.scores import mean_of

Estimate = NDArray[np.float32]


class Systems(Protocol):
    """What can be asked to do a task, by name: the modules `systems` and `separators`."""

    DEFAULT_SYSTEMS: tuple[str, ...]
    make_system: Any
    check_system: Any
    system_files: Any


class Task(Protocol):
    """The columns that a task can fill, what a system must give, and how that fills them.

    systems: which there are. images: those of the talkers that are the truth, "early" or "image".
    """

    systems: Systems
    images: str

    def columns(self, names: Sequence[str] | None) -> list[Column]:
        """The columns called `names`, or all that the installed packages allow."""

    def shape(self, clip: Clip) -> tuple[int | None, ...]:
        """The shape of an estimate; None is any number from 1 on."""

    def score(self, clip: Clip, estimate: Estimate, names: Sequence[str]) -> dict[str, float]:
        """The columns `names` for one estimate; NaN where undefined."""


class _Scored:
    """Columns of metrics, of their gains over the reference mic, and a few of a task's own."""

    # column -> the metric whose gain over the reference mic it is
    improvements: Mapping[str, str] = {"si_sdri": "si_sdr", "sdri": "sdr"}
    order: tuple[str, ...] = ("si_sdr", "si_sdri", "sdr", "sdri", "pesq_wb", "stoi", "estoi")
    own: Mapping[str, Column] = {}  # columns that are no metric's

    def columns(self, names: Sequence[str] | None) -> list[Column]:
        """The columns called `names`, or all that the installed packages and files allow.

        Raises ValueError for an unknown name, ImportError for one whose package is missing.
        """
        if names is None:
            names = [name for name in self.order if self._available(name)] + self._others()
        for name in names:
            self._check(name)
        return [self._column(name) for name in dict.fromkeys(names)]

    def _others(self) -> list[str]:
        """Columns of its own that are there without being asked for."""
        return list(self.own)

    def _check(self, name: str) -> None:
        known = (*self.order, *self.own)
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"expected metrics among {', '.join(known)}, found {name}{hint}")
        if name in self.order:
            METRICS[self.improvements.get(name, name)].require()

    def _column(self, name: str) -> Column:
        if name in self.own:
            return self.own[name]
        metric = METRICS[self.improvements.get(name, name)]
        gain = name in self.improvements
        return Column(name, metric.title + "i" * gain, metric.digits, gain)

    def _available(self, name: str) -> bool:
        metric = METRICS[self.improvements.get(name, name)]
        if not metric.available:
            warnings.warn(f"{metric.title} left out: it needs {metric.package}", stacklevel=4)
        return metric.available

    def _measured(
        self, estimate: Estimate, reference: Estimate, noisy: Estimate, names: Sequence[str]
    ) -> dict[str, float]:
        """Those of the columns that are metrics or gains, of one waveform."""
        metrics = {self.improvements.get(name, name) for name in names} & set(METRICS)
        values = {name: METRICS[name].measure(estimate, reference) for name in metrics}
        for name in set(names) & set(self.improvements):
            metric = self.improvements[name]
            values[name] = values[metric] - METRICS[metric].measure(noisy, reference)
        return values


class Enhancement(_Scored):
    """One talker: an estimate (samples,) against the early image at the reference mic.

    `attenuation` is there when asked for: it says something of clips without speech only.

    dnsmos: the published network's ONNX file, without which those columns are not there.
    Raises ValueError or ImportError where it cannot be used.
    """

    systems: Systems = systems
    images = "early"
    ratings: Mapping[str, str] = {f"dnsmos_{name}": name for name in RATINGS}
    own: Mapping[str, Column] = {
        **{name: Column(name, f"DNSMOS {rating.upper()}", 2) for name, rating in ratings.items()},
        "attenuation": Column("attenuation", "attenuation (dB)", 1),
    }

    def __init__(self, dnsmos: Path | None = None) -> None:
        self.dnsmos = None if dnsmos is None else DNSMOS(dnsmos)

    def shape(self, clip: Clip) -> tuple[int | None, ...]:
        """(samples,)"""
        return (clip.mixture.shape[-1],)

    def score(self, clip: Clip, estimate: Estimate, names: Sequence[str]) -> dict[str, float]:
        """The columns `names` for one estimate; NaN where undefined."""
        noisy = clip.mixture[clip.reference_mic].numpy()
        values = self._measured(estimate, clip.reference.numpy(), noisy, names)
        if "attenuation" in names:
            values["attenuation"] = attenuation(estimate, noisy)
        if self.dnsmos is not None and set(names) & set(self.ratings):
            rated = self.dnsmos(estimate)
            values |= {name: rated[rating] for name, rating in self.ratings.items()}
        return {name: values[name] for name in names}

    def _others(self) -> list[str]:
        return list(self.ratings) if self.dnsmos else []

    def _check(self, name: str) -> None:
        super()._check(name)
        if name in self.ratings and self.dnsmos is None:
            raise ValueError(f"expected the DNSMOS model's file for {name}, found none given")


class Separation(_Scored):
    """Several talkers: streams (streams, samples) against their images at the reference mic, with
    all of the room, in the best assignment; a clip's score is the mean over its talkers.

    `count` is 1 where there are as many streams as talkers. Raises ValueError for a DNSMOS file:
    what it rates is one voice.
    """

    systems: Systems = separators
    images = "image"
    own: Mapping[str, Column] = {"count": Column("count", "count right", 2)}

    def __init__(self, dnsmos: Path | None = None) -> None:
        if dnsmos is not None:
            raise ValueError("expected DNSMOS with the task enhance only, found it with separate")

    def shape(self, clip: Clip) -> tuple[int | None, ...]:
        """(streams, samples)"""
        return None, clip.mixture.shape[-1]

    def score(self, clip: Clip, estimate: Estimate, names: Sequence[str]) -> dict[str, float]:
        """The columns `names` for one estimate; NaN where undefined."""
        noisy, references = clip.mixture[clip.reference_mic].numpy(), clip.references.numpy()
        pairs = zip(matched(estimate, references, noisy), references, strict=True)
        scores = [self._measured(stream, one, noisy, names) for stream, one in pairs]
        values = {name: mean_of(score[name] for score in scores) for name in scores[0]}
        values["count"] = float(len(estimate) == len(references))
        return {name: values[name] for name in names}


TASKS: dict[str, Callable[[Path | None], Task]] = {"enhance": Enhancement, "separate": Separation}


def find_task(name: str, dnsmos: Path | None = None) -> Task:
    """The task of that name; raises ValueError for an unknown one, and what the task raises."""
    if name not in TASKS:
        raise ValueError(f"expected a task among {', '.join(TASKS)}, found {name}")
    return TASKS[name](dnsmos)
