"""When a stream talks: against its own floor, against the others, in stretches as people talk."""

from __future__ import annotations

import numpy as np
import pytest

from separation.activity import FRAME_S, Levels, spoken

SECONDS = 30.0


def levels(*talks: list[tuple[float, float]], speech_db=-25.0, floor_db=-60.0) -> np.ndarray:
    """Levels of streams that talk in the given stretches."""
    out = np.full((len(talks), round(SECONDS / FRAME_S)), floor_db)
    for row, stretches in zip(out, talks, strict=True):
        for start_s, end_s in stretches:
            row[round(start_s / FRAME_S) : round(end_s / FRAME_S)] = speech_db
    return out


def close(found, expected, tolerance_s=0.45) -> bool:
    return len(found) == len(expected) and np.allclose(found, expected, atol=tolerance_s)


def test_stretches_are_where_it_is_loud():
    own = [(2.0, 5.0), (9.0, 9.6), (20.0, 28.0)]
    other = [(4.0, 10.0)]
    found = spoken(levels(own, other))
    assert close(found[0], own) and close(found[1], other)


@pytest.mark.parametrize("gain_db", [-40.0, 20.0])
def test_the_level_of_the_recording_does_not_matter(gain_db):
    own = [(2.0, 5.0), (9.0, 9.6)]
    assert spoken(levels(own) + gain_db) == spoken(levels(own))


def test_short_pauses_are_closed_and_clicks_are_nobody():
    (found,) = spoken(levels([(2.0, 4.0), (4.3, 6.0), (12.0, 12.04)]))
    assert close(found, [(2.0, 6.0)])


def test_what_was_left_of_another_talker_is_not_talking():
    x = levels([(2.0, 10.0)], [(15.0, 20.0)])
    x[1, round(2 / FRAME_S) : round(10 / FRAME_S)] = -43.0
    found = spoken(x)
    assert close(found[0], [(2.0, 10.0)]) and close(found[1], [(15.0, 20.0)])


@pytest.mark.parametrize("leak_db", [-20.0, -10.0])
def test_how_much_is_left_of_another_talker_is_found_out(leak_db):
    own, other = [(2.0, 12.0)], [(10.0, 25.0)]
    x = levels(own, other)
    x[1, round(2 / FRAME_S) : round(10 / FRAME_S)] = -25.0 + leak_db
    x[0, round(12 / FRAME_S) : round(25 / FRAME_S)] = -25.0 + leak_db
    found = spoken(x)
    assert close(found[0], own) and close(found[1], other)


def test_windows_without_a_stream_say_nothing_of_what_is_left():
    x = levels([(2.0, 6.0), (8.0, 25.0)], [(26.0, 29.0)])
    x[1] = np.where(x[1] > -60, x[1], -200.0)
    x[1, round(2 / FRAME_S) : round(6 / FRAME_S)] = -37.0
    assert close(spoken(x)[1], [(26.0, 29.0)])


def test_a_soft_end_belongs_to_what_was_loud_before():
    x = levels([(2.0, 4.0)])
    x[0, round(4 / FRAME_S) : round(4.4 / FRAME_S)] = -58.0 + 4.0
    assert spoken(x)[0][0][1] == pytest.approx(4.4, abs=0.45)


def test_a_stream_that_is_silent_never_talks():
    x = levels([(2.0, 4.0)], [])
    x[1] = -200.0
    assert spoken(x)[1] == []
    assert spoken(np.full((1, 100), -200.0)) == [[]]


def test_who_talks_all_the_time_is_heard_all_the_time():
    assert close(spoken(levels([(0.0, SECONDS)]))[0], [(0.0, SECONDS)])


def test_levels_do_not_depend_on_the_blocks_they_come_in():
    x = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    whole, cut = Levels(16_000), Levels(16_000)
    passed = np.concatenate([*cut.of(x[i : i + 333] for i in range(0, 5000, 333))])
    assert np.array_equal(np.concatenate([*whole.of([x])]), x) and np.array_equal(passed, x)
    assert np.allclose(whole.db(), cut.db(), atol=1e-4) and len(whole.db()) == 5000 // 320
