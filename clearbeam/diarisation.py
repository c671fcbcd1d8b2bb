"""Who talked when, scored: missed speech, false speech, and speech given to the wrong talker.

The diarisation error rate of NIST, without a collar and with overlaps: "The 2009 (RT-09) Rich
Transcription Meeting Recognition Evaluation Plan", section 6.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from simulate.meeting_text import Said


@dataclass(frozen=True)
class DiarisationError:
    """Seconds of speech, of all talkers together, and of each kind of error; they add."""

    speech_s: float
    missed_s: float
    false_s: float
    confused_s: float

    def __add__(self, other: DiarisationError) -> DiarisationError:
        return DiarisationError(
            self.speech_s + other.speech_s,
            self.missed_s + other.missed_s,
            self.false_s + other.false_s,
            self.confused_s + other.confused_s,
        )

    @property
    def rate(self) -> float:
        """All errors over the speech; NaN without any."""
        wrong = self.missed_s + self.false_s + self.confused_s
        return wrong / self.speech_s if self.speech_s else np.nan


def diarisation_error(found: Sequence[Said], truth: Sequence[Said]) -> DiarisationError:
    """Errors under the assignment of found to true talkers that makes them least.

    Where several talk at once each counts by himself. A talker's segments may overlap.
    """
    edges = np.unique([t for said in (*found, *truth) for t in (said.start_s, said.end_s)])
    if len(edges) < 2:
        return DiarisationError(0.0, 0.0, 0.0, 0.0)
    seconds = np.diff(edges)
    f, t = (_talking(segments, edges) for segments in (found, truth))
    shared = (f * seconds) @ t.T
    rows, columns = linear_sum_assignment(shared, maximize=True)
    n_found, n_true = f.sum(0), t.sum(0)
    return DiarisationError(
        float(n_true @ seconds),
        float(np.maximum(n_true - n_found, 0) @ seconds),
        float(np.maximum(n_found - n_true, 0) @ seconds),
        float(np.minimum(n_found, n_true) @ seconds - shared[rows, columns].sum()),
    )


def _talking(segments: Sequence[Said], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where a talker talks, else 0: ``(talkers, stretches between edges)``."""
    speakers = sorted({said.speaker for said in segments})
    talking = np.zeros((len(speakers), len(edges) - 1))
    for said in segments:
        first, last = np.searchsorted(edges, [said.start_s, said.end_s])
        talking[speakers.index(said.speaker), first:last] = 1
    return talking
