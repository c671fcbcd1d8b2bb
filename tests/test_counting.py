"""Rules for counting talkers: fitted to what a network hears, kept beside its weights."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clearbeam.training.counting import Heard, counted, fit_rule, heard_by, unseen
from multichannel.data import records_of
from separation import SeparationConfig, SeparationNet, Separator
from separation.count import CountRule
from separation.weights import count_rule, save_separation, write_count_rule
from simulate import SceneConfig, write_dataset


def heard(n_clips: int, informative: int, seed: int = 0) -> Heard:
    """Levels of which one kind tells who is there, at about -5 dB, or is not, at about -25 dB."""
    rng = np.random.default_rng(seed)
    n_talkers = rng.integers(1, 4, n_clips)
    there = n_talkers[:, None] >= [2, 3]
    levels = rng.normal(-15, 5, (n_clips, 2, 2))
    levels[..., informative] = np.where(there, -5, -25) + rng.normal(0, 3, there.shape)
    return Heard(levels, n_talkers)


@pytest.mark.parametrize("informative", [0, 1])
def test_a_rule_listens_to_what_tells(informative):
    known = heard(200, informative)
    rule = fit_rule(known)
    assert rule[informative] > 5 * rule[1 - informative] >= 0
    assert -rule.bias / rule[informative] == pytest.approx(-15, abs=3)
    new = heard(200, informative, seed=1)
    assert np.mean(counted(new, rule) == new.n_talkers) > 0.97
    assert np.mean(unseen(known) == known.n_talkers) > 0.97


def test_rare_numbers_of_talkers_count_as_much_as_common_ones():
    rng = np.random.default_rng(2)
    n_talkers = np.repeat([1, 2], [500, 20])
    levels = np.full((520, 2, 2), -40.0)
    levels[:, 0] = np.where(n_talkers == 2, -10, -20)[:, None] + rng.normal(0, 6, (520, 1))
    found = counted(Heard(levels, n_talkers), fit_rule(Heard(levels, n_talkers)))
    shares = [np.mean(found[n_talkers == n] == n) for n in (1, 2)]
    assert abs(shares[0] - shares[1]) < 0.15


def test_what_can_be_told_for_sure_gives_a_finite_rule():
    sure = Heard(np.array([[[-1.0, -1.0]], [[-60.0, -60.0]]]), np.array([2, 1]))
    rule = fit_rule(sure)
    assert np.isfinite(rule).all() and counted(sure, rule).tolist() == [2, 1]


def test_a_rule_is_kept_beside_the_weights(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_separation(SeparationNet(SeparationConfig(blocks=1)), path, training={"step": 3})
    assert count_rule(path) == CountRule()
    rule = CountRule(0.1, 0.2, 3.0)
    write_count_rule(path, rule)
    assert count_rule(path) == rule
    assert Separator.from_pretrained(path, "cpu").config.count == rule
    assert json.loads(path.with_suffix(".json").read_text())["training"] == {"step": 3}
    path.with_suffix(".json").write_text('{"network": {}, "count": {"ears": 2}}')
    with pytest.raises(ValueError, match="expected a rule of counting"):
        count_rule(path)


def test_levels_are_heard_of_every_clip(tmp_path):
    scene = SceneConfig.load("quickstart").model_copy(update={"duration_s": 1.0, "method": "fast"})
    write_dataset(scene, tmp_path / "clips", 2, seed=1)
    net = SeparationNet(SeparationConfig(width=4, outer=4, blocks=1)).eval()
    found = heard_by(net, records_of(tmp_path / "clips"))
    assert found.levels.shape == (2, 2, 2) and np.isfinite(found.levels).all()
    assert found.n_talkers.tolist() == [1, 1] and (found.levels <= 0).all()
