"""The diarisation error: by hand, against a count of instants, and in its limits."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from clearbeam.diarisation import DiarisationError, diarisation_error
from simulate.meeting_text import Said

TRUTH = [Said("ann", 0, 10), Said("bob", 8, 20), Said("ann", 30, 31)]


@pytest.mark.parametrize(
    ("found", "missed", "false", "confused"),
    [
        (TRUTH, 0, 0, 0),
        ([], 23, 0, 0),
        ([Said("2", 0, 10), Said("1", 8, 20), Said("2", 30, 31)], 0, 0, 0),
        ([Said("1", 0, 20), Said("1", 30, 31)], 2, 0, 9),  # one for both
        ([Said("1", 0, 10), Said("2", 8, 20), Said("3", 30, 31)], 0, 0, 1),  # came back as another
        ([*TRUTH, Said("ann", 22, 25), Said("ann", 5, 9)], 0, 3, 0),  # his own overlap is nothing
        ([*TRUTH, Said("cat", 5, 9)], 0, 4, 0),
    ],
)
def test_errors_are_what_they_are_by_hand(found, missed, false, confused):
    error = diarisation_error(found, TRUTH)
    assert (error.speech_s, error.missed_s, error.false_s, error.confused_s) == pytest.approx(
        (23, missed, false, confused)
    )
    assert error.rate == pytest.approx((missed + false + confused) / 23)


def drawn(seed: int, n_talkers: int) -> list[Said]:
    rng = np.random.default_rng(seed)
    starts, lengths = rng.integers(0, 50, 12), rng.integers(1, 12, 12)
    talkers = rng.integers(0, n_talkers, 12)
    return [Said(f"{k}", s, s + n) for k, s, n in zip(talkers, starts, lengths, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_the_error_is_the_least_count_of_wrong_instants(seed):
    found, truth = drawn(seed, 2), drawn(seed + 100, 3)
    second = np.arange(64) + 0.5
    on = [
        np.array([[any(s.speaker == f"{k}" and s.start_s < t < s.end_s for s in one)
                   for t in second] for k in range(3)])
        for one in (found, truth)
    ]  # fmt: skip
    wrong = []
    for order in permutations(range(3)):
        f, t = on[0][list(order)], on[1]
        right = (f & t).sum(0)
        wrong.append((np.maximum(f.sum(0), t.sum(0)) - right).sum())
    error = diarisation_error(found, truth)
    assert error.rate * error.speech_s == pytest.approx(min(wrong))


def test_errors_of_meetings_add():
    one, other = diarisation_error([], TRUTH), diarisation_error(TRUTH, TRUTH)
    assert (one + other).rate == 0.5
    assert np.isnan(DiarisationError(0, 0, 0, 0).rate) and np.isnan(diarisation_error([], []).rate)
