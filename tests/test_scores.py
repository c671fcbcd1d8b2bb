"""Scores add, pair and bound as sums do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clearbeam.scores import Score, Speed


def score(values, start=0):
    return Score(tuple(f"clip{start + i}" for i in range(len(values))), tuple(values))


def test_the_whole_is_the_sum_of_unequal_parts():
    values = np.random.default_rng(0).standard_normal(11).tolist()
    parts = score(values[:2]) + score(values[2:9], 2) + score(values[9:], 9)
    whole = score(values)
    assert parts == whole
    assert parts.mean == pytest.approx(np.mean(values))
    mean_of_means = np.mean([np.mean(values[:2]), np.mean(values[2:9]), np.mean(values[9:])])
    assert abs(parts.mean - mean_of_means) > 1e-3


def test_undefined_clips_are_counted_and_left_out():
    found = score([1.0, math.nan, 3.0])
    assert (found.count, found.undefined, found.mean) == (2, 1, 2.0)
    assert found.standard_error == pytest.approx(1.0)


def test_nothing_defined_gives_nan_not_an_error():
    for empty in (Score(), score([math.nan])):
        assert math.isnan(empty.mean) and math.isnan(empty.standard_error)
        assert all(math.isnan(bound) for bound in empty.interval())


def test_paired_differences_match_clips_by_name():
    ours, theirs = score([5.0, 6.0, 7.0]), Score(("clip2", "clip0", "other"), (1.0, 2.0, 9.0))
    assert ours - theirs == Score(("clip0", "clip2"), (3.0, 6.0))


def test_pairing_removes_what_clips_share():
    rng = np.random.default_rng(1)
    hardness = 10 * rng.standard_normal(40)
    ours, theirs = score(hardness + 1 + 0.1 * rng.standard_normal(40)), score(hardness)
    low, high = (ours - theirs).interval()
    assert 0.9 < low < 1 < high < 1.1
    assert ours.interval()[0] < theirs.interval()[1]


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = sum(
        low <= 3.0 <= high
        for low, high in (score(rng.normal(3, 2, 50)).interval(0.9) for _ in range(200))
    )
    # 200 trials at 0.9: a standard deviation of 4.2; the percentile method runs a little narrow.
    assert 165 <= covered <= 193


def test_the_interval_is_the_same_in_any_order_and_again():
    values = np.random.default_rng(3).standard_normal(20).tolist()
    forward, backward = score(values), score(values[::-1])
    assert forward.interval() == backward.interval() == forward.interval()
    assert forward.mean == backward.mean


def test_a_ratio_of_means_pairs_the_clips_and_covers_the_truth():
    rng = np.random.default_rng(4)
    base = score(rng.uniform(1, 9, 60))
    ours = score(0.8 * np.array(base.values) + 0.05 * rng.standard_normal(60))
    ratio, low, high = ours.ratio_to(base)
    assert ratio == pytest.approx(ours.mean / base.mean)
    assert low < 0.8 < high and high - low < 0.02, "clips drawn apart would give a wide interval"
    backwards = Score(base.clips[::-1], base.values[::-1])
    assert ours.ratio_to(backwards) == ours.ratio_to(base)


def test_a_ratio_leaves_out_clips_that_only_one_has_or_that_are_undefined():
    ours = score([2.0, math.nan, 4.0, 50.0])
    theirs = Score(("clip0", "clip1", "clip2", "other"), (4.0, 1.0, 8.0, 9.0))
    assert ours.ratio_to(theirs) == (0.5, 0.5, 0.5)
    assert all(math.isnan(v) for v in ours.ratio_to(Score()))


def test_a_clip_counted_twice_is_refused():
    with pytest.raises(ValueError, match="expected each clip once, found twice: clip0"):
        score([1.0]) + score([2.0])
    with pytest.raises(ValueError, match="expected a value for each clip"):
        Score(("a",), ())


def test_speed_adds_before_it_divides():
    both = Speed(1.0, 10.0) + Speed(1.0, 2.0)
    assert both.rtf == pytest.approx(2 / 12)
    assert math.isnan(Speed().rtf)
