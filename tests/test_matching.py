"""Streams are given to the talkers they serve best, whatever their number."""

from __future__ import annotations

import numpy as np
import pytest

from clearbeam.matching import matched
from clearbeam.metrics import sdr, si_sdr

RNG = np.random.default_rng(0)
TALKERS = RNG.standard_normal((3, 8000))
NOISE = RNG.standard_normal((3, 8000))
HEARD = TALKERS.sum(0)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_any_order_of_the_streams_is_the_same_to_it(order):
    streams = TALKERS + 0.3 * NOISE
    assert np.array_equal(matched(streams[list(order)], TALKERS, HEARD), streams)


def test_the_sum_of_all_counts_not_the_best_of_one():
    first = TALKERS[0] + 0.5 * TALKERS[1]  # serves the first talker best, but he has another
    second = TALKERS[0] + 0.6 * NOISE[0]
    found = matched(np.stack([first, second]), TALKERS[:2], HEARD)
    assert np.array_equal(found, np.stack([second, first]))


def test_a_talker_without_a_stream_has_what_was_heard():
    found = matched(TALKERS[[1]], TALKERS, HEARD)
    assert np.array_equal(found[1], TALKERS[1])
    assert np.array_equal(found[0], HEARD) and np.array_equal(found[2], HEARD)


def test_streams_too_many_are_left_out():
    streams = np.concatenate([0.1 * NOISE[:1], TALKERS[::-1]])
    assert np.array_equal(matched(streams, TALKERS, HEARD), TALKERS)


def test_a_silent_reference_takes_what_is_left():
    references = np.stack([0 * TALKERS[0], TALKERS[1]])
    found = matched(TALKERS[:2], references, HEARD)
    assert np.array_equal(found, TALKERS[:2])


def test_agreement_with_mir_eval_and_fast_bss_eval():
    separation = pytest.importorskip("mir_eval.separation")
    fast_bss_eval = pytest.importorskip("fast_bss_eval")
    streams = (0.9 * TALKERS + 0.2 * TALKERS[[1, 2, 0]] + 0.1 * NOISE)[[2, 0, 1]]
    found = matched(streams, TALKERS, HEARD)
    with pytest.warns(FutureWarning):
        theirs, *_, order = separation.bss_eval_sources(TALKERS, streams)
    assert np.array_equal(found, streams[order])
    assert [sdr(s, r) for s, r in zip(found, TALKERS, strict=True)] == pytest.approx(theirs, 1e-3)
    theirs, *_, order = fast_bss_eval.si_bss_eval_sources(TALKERS, streams)
    assert np.array_equal(found, streams[order])
    ours = [si_sdr(s, r) for s, r in zip(found, TALKERS, strict=True)]
    assert ours == pytest.approx(theirs, 1e-6)
