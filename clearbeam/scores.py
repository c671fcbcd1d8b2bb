"""What a set of clips scored: a sum that adds, its uncertainty, and paired differences.

A mean over clips is taken once, from the values themselves, never from other means; so the score
of a whole set is the sum of the scores of its parts, however the parts were cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


def mean_of(values: Iterable[float]) -> float:
    """The mean of those that are defined, the same in any order; NaN where none is."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


@dataclass(frozen=True)
class Score:
    """The values of one metric over named clips; NaN marks a clip where it is undefined."""

    clips: tuple[str, ...] = ()
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.clips) != len(self.values):
            raise ValueError(
                f"expected a value for each clip, found {len(self.values)} for {len(self.clips)}"
            )
        if len(set(self.clips)) != len(self.clips):
            twice = sorted({clip for clip in self.clips if self.clips.count(clip) > 1})
            raise ValueError(f"expected each clip once, found twice: {', '.join(twice)}")

    def __add__(self, other: Score) -> Score:
        """The score over both sets of clips; raises ValueError when they share a clip."""
        return Score(self.clips + other.clips, self.values + other.values)

    def __sub__(self, other: Score) -> Score:
        """The paired differences over the clips that both have."""
        theirs = dict(zip(other.clips, other.values, strict=True))
        pairs = [(c, v) for c, v in zip(self.clips, self.values, strict=True) if c in theirs]
        return Score(tuple(c for c, _ in pairs), tuple(v - theirs[c] for c, v in pairs))

    @property
    def defined(self) -> np.ndarray:
        """The values that are not NaN, (count,)."""
        values = np.asarray(self.values, np.float64)
        return values[~np.isnan(values)]

    @property
    def count(self) -> int:
        """How many clips have a defined value."""
        return int(self.defined.size)

    @property
    def undefined(self) -> int:
        """How many clips were left out of the mean."""
        return len(self.values) - self.count

    @property
    def mean(self) -> float:
        """Of the defined values, the same in any order of the clips; NaN when nothing is."""
        return mean_of(self.values)

    @property
    def median(self) -> float:
        """The middle of the defined values, NaN when nothing is."""
        return float(np.median(self.defined)) if self.count else math.nan

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; NaN for fewer than two clips."""
        if self.count < 2:
            return math.nan
        return float(self.defined.std(ddof=1)) / math.sqrt(self.count)

    def interval(
        self, confidence: float = 0.95, seed: int = 0, median: bool = False
    ) -> tuple[float, float]:
        """Bootstrap confidence interval of the mean, or the median, by percentiles over resampled
        clips.

        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3. Seeded, and
        sorted before drawing, so that neither a second run nor the clips' order moves it.
        """
        if not self.count:
            return math.nan, math.nan
        values = np.sort(self.defined)
        middle = np.median if median else np.mean
        return _percentiles(middle(values[_draws(values.size, seed)], axis=1), confidence)

    def ratio_to(
        self, other: Score, confidence: float = 0.95, seed: int = 0
    ) -> tuple[float, float, float]:
        """(ratio of the means, its lower and upper bound) over the clips that both have.

        The bootstrap draws clips, each with both of its values. NaN where no clip is defined in
        both.
        """
        theirs = dict(zip(other.clips, other.values, strict=True))
        pairs = sorted((v, theirs[c]) for c, v in zip(self.clips, self.values, strict=True)
                       if c in theirs and not math.isnan(v + theirs[c]))  # fmt: skip
        if not pairs:
            return math.nan, math.nan, math.nan
        ours, base = np.array(pairs).T
        draws = _draws(len(pairs), seed)
        ratios = ours[draws].mean(axis=1) / base[draws].mean(axis=1)
        return float(ours.mean() / base.mean()), *_percentiles(ratios, confidence)


def _draws(count: int, seed: int) -> np.ndarray:
    """Numbers of the clips in each resample, (RESAMPLES, count)."""
    return np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class Speed:
    """Computing time spent on an amount of audio."""

    compute_s: float = 0.0
    audio_s: float = 0.0

    def __add__(self, other: Speed) -> Speed:
        return Speed(self.compute_s + other.compute_s, self.audio_s + other.audio_s)

    @property
    def rtf(self) -> float:
        """Real-time factor: seconds of computing for a second of audio."""
        return self.compute_s / self.audio_s if self.audio_s else math.nan
