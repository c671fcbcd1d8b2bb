"""Which stream is whose: the assignment of estimates to talkers that serves them best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clearbeam.metrics import si_sdr

Waveforms = NDArray[np.floating]


def matched(estimates: Waveforms, references: Waveforms, heard: Waveforms) -> Waveforms:
    """Estimates in the order of the references, those whose SI-SDR adds up to the most.

    A talker for whom no stream is left has what the microphone heard for one, so a system that
    finds too few has improved nothing for him; streams too many are left out.

    Args:
        estimates: ``(streams, samples)``, any number of them.
        references: ``(talkers, samples)``.
        heard: by the reference mic ``(samples,)``.

    Returns:
        ``(talkers, samples)``.
    """
    missing = max(0, len(references) - len(estimates))
    streams = np.concatenate([estimates, np.repeat(heard[None], missing, axis=0)])
    return streams[best_order(streams, references)]


def best_order(streams: Waveforms, references: Waveforms) -> NDArray[np.intp]:
    """Number of the stream of each reference ``(talkers,)``; there are at least as many streams."""
    gains = np.array([[si_sdr(stream, one) for one in references] for stream in streams])
    # a silent reference has no score, and takes what the others leave
    rows, columns = linear_sum_assignment(np.nan_to_num(gains), maximize=True)
    return rows[np.argsort(columns)]
