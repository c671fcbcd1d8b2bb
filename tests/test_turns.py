"""Who speaks when in a meeting: the overlap asked for, turns as people take them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from simulate.corpus import Utterance
from simulate.quantity import Uniform
from simulate.turns import BackchannelConfig, TurnConfig, overlap_ratio, plan_turns


def material(n_talkers: int, shortest_s: float, longest_s: float) -> list[list[Utterance]]:
    """Utterances that need no files; each is 20 of a talker's, with words."""
    rng = np.random.default_rng(n_talkers)
    return [
        [Utterance(f"{k}-{i}", s, f"t{k}", f"words {i}") for i, s in enumerate(seconds)]
        for k, seconds in enumerate(rng.uniform(shortest_s, longest_s, (n_talkers, 20)).round(2))
    ]


def plan(ratio=0.2, n_talkers=4, duration_s=600.0, seed=0, spread=(1.0, 8.0), **turns):
    config = TurnConfig(**turns)
    rng = np.random.default_rng(seed)
    return plan_turns(material(n_talkers, *spread), config, duration_s, ratio, rng)


def on_a_grid(turns, duration_s=600.0, step_s=0.01) -> np.ndarray:
    """How many speak at each moment, by looking at each."""
    moments = np.arange(0, duration_s, step_s) + step_s / 2
    return sum(((moments > t.at_s) & (moments < t.end_s)).astype(int) for t in turns)


@pytest.mark.parametrize("spread", [(1, 4), (0.5, 12), (2, 15)])
@pytest.mark.parametrize("n_talkers", [2, 8])
def test_ten_minutes_have_the_overlap_asked_for_within_two_points(n_talkers, spread):
    errors = [
        overlap_ratio(plan(ratio, n_talkers, seed=seed, spread=spread)) - ratio
        for ratio in (0, 0.05, 0.2, 0.4)
        for seed in range(6)
    ]
    assert np.abs(errors).max() < 0.02


@pytest.mark.parametrize("seed", range(6))
def test_talkers_who_like_to_go_on_alone_still_overlap_as_asked(seed):
    turns = plan(0.4, 2, seed=seed, spread=(2, 15), hold=0.7)
    assert overlap_ratio(turns) == pytest.approx(0.4, abs=0.02)


def test_the_overlap_ratio_is_what_one_counts_by_looking_at_every_moment():
    turns = plan(0.3, seed=3)
    speaking = on_a_grid(turns)
    counted = (speaking >= 2).sum() / (speaking >= 1).sum()
    assert overlap_ratio(turns) == pytest.approx(counted, abs=2e-3)
    assert overlap_ratio([]) == 0


@pytest.mark.parametrize("seed", range(4))
def test_at_most_two_speak_at_once_and_nobody_with_himself(seed):
    turns = plan(0.4, 3, seed=seed)
    assert on_a_grid(turns).max() == 2
    for talker in range(3):
        own = [t for t in turns if t.talker == talker]
        assert all(a.end_s <= b.at_s + 1e-3 for a, b in pairwise(own))
    assert turns == sorted(turns, key=lambda t: t.at_s)
    assert min(t.at_s for t in turns) >= 0 and 580 < max(t.end_s for t in turns) <= 600


def test_without_overlap_all_gaps_are_pauses_of_the_config_and_nobody_cuts_in():
    turns = plan(0.0, seed=1, pause_s=Uniform(uniform=(0.5, 0.7)))
    gaps = [b.at_s - a.end_s for a, b in pairwise(turns)]
    assert 0.499 < min(gaps) < 0.52 and 0.68 < max(gaps) < 0.701
    assert not any(t.backchannel for t in turns)


def test_overlap_comes_in_pieces_worth_having_beside_pauses():
    least = Uniform(uniform=(0.8, 1.2))
    turns = plan(0.1, seed=2, overlap_s=least, backchannels=BackchannelConfig(probability=0))
    gaps = np.array([b.at_s - a.end_s for a, b in pairwise(turns)])
    assert np.mean(gaps > 0) > 0.3 and np.mean(gaps < 0) > 0.1
    # An utterance shorter than the overlap owed can pay no more than its length.
    assert np.all(gaps[gaps < 0] < -0.79)


def test_backchannels_are_short_words_of_somebody_else_inside_an_utterance():
    seconds = Uniform(uniform=(0.4, 0.9))
    turns = plan(0.2, backchannels=BackchannelConfig(probability=1, seconds=seconds))
    asides = [t for t in turns if t.backchannel]
    assert len(asides) > 20
    assert all(0.4 <= t.seconds <= 0.9 and t.text == "" for t in asides)
    for aside in asides:
        around = [t for t in turns if t.at_s <= aside.at_s and aside.end_s <= t.end_s + 1e-4]
        assert len({t.talker for t in around}) == 2


def test_a_short_utterance_makes_a_backchannel_with_its_words():
    known = [[*said, Utterance(f"mhm{k}", 0.5, f"t{k}", "mhm")] for k, said in enumerate(
        material(3, 3, 6))]  # fmt: skip
    turns = plan_turns(known, TurnConfig(), 300, 0.2, np.random.default_rng(0))
    asides = [t for t in turns if t.backchannel]
    assert asides and all(t.text == "mhm" and t.seconds == 0.5 for t in asides)


def test_nobody_repeats_himself_while_he_has_more_to_say():
    said = [t.path for t in plan(0.1, 2) if t.talker == 0 and not t.backchannel]
    assert len(said) > 20 and len(set(said[:20])) == 20


def test_what_cannot_be_planned_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least 2 talkers, found 1"):
        plan_turns(material(1, 1, 2), TurnConfig(), 60, 0.1, rng)
    with pytest.raises(ValueError, match="utterances shorter than 30 s"):
        plan_turns(material(2, 40, 50), TurnConfig(), 30, 0.1, rng)
