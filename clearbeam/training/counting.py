"""How talkers are counted with a network: a rule fitted to recordings whose talkers are known.

A logistic regression on the levels of `separation.count`: is there a second talker, is there a
third? One rule answers both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from separation.count import CountRule, levels_db
from separation.kmeans import energetic
from separation.network import SeparationNet
from separation.separate import Separator
from simulate.sound_files import read_sound

_FOLDS = 5
_RIDGE = 1e-3  # keeps the rule finite where all clips can be told apart


class Heard(NamedTuple):
    """``levels (clips, talkers - 1, 2)`` of a network, and how many talk ``n_talkers (clips,)``."""

    levels: NDArray[np.float64]
    n_talkers: NDArray[np.int64]

    def some(self, which: NDArray[np.bool_]) -> Heard:
        """Some of the clips."""
        return Heard(self.levels[which], self.n_talkers[which])


@torch.no_grad()
def heard_by(
    net: SeparationNet, records: Sequence[dict], seen: Callable[[int], object] = lambda done: None
) -> Heard:
    """What a network hears of the clips of a data set."""
    separator, found = Separator(net).eval(), []
    for done, record in enumerate(records, 1):
        x, _ = read_sound(record["paths"]["mixture"])
        found.append(_levels(separator, torch.from_numpy(x.T.copy())))
        seen(done)
    return Heard(np.stack(found), np.array([len(record["talkers"]) for record in records]))


def _levels(separator: Separator, x: Tensor) -> NDArray[np.float64]:
    X = separator.stft(x)
    masks, V = separator.heard(x, X)
    return levels_db(masks[:-1], V, X[0], energetic(X[0])).double().numpy()


def fit_rule(heard: Heard) -> CountRule:
    """The rule of the greatest likelihood whose weights are not negative.

    Every number of talkers counts the same, however rare its clips are.
    """
    levels, there = _questions(heard)
    rarity = 1 / np.bincount(heard.n_talkers)[heard.n_talkers]
    weight = np.repeat(rarity / rarity.sum(), heard.levels.shape[1])
    sign = np.where(there, 1.0, -1.0)
    inputs = np.column_stack([levels, np.full(len(levels), 10.0)])

    def loss(w: NDArray[np.float64]) -> float:
        return float(weight @ np.logaddexp(0, -sign * (inputs @ w)) + _RIDGE * w @ w)

    found = minimize(loss, [0.1, 0.1, 0.1], bounds=[(0, None), (0, None), (None, None)])
    mask, direction, bias = found.x
    return CountRule(float(mask), float(direction), 10.0 * float(bias))


def counted(heard: Heard, rule: CountRule) -> NDArray[np.int64]:
    """How many talk by a rule ``(clips,)``, at most as many as there are masks."""
    evidence = heard.levels @ [rule.mask, rule.direction] + rule.bias
    return 1 + np.cumprod(evidence > 0, axis=-1).sum(-1)


def unseen(heard: Heard) -> NDArray[np.int64]:
    """Counts of clips by rules that were fitted to other clips."""
    n_talkers = np.zeros_like(heard.n_talkers)
    fold = np.arange(len(n_talkers)) % _FOLDS
    for k in range(_FOLDS):
        rule = fit_rule(heard.some(fold != k))
        n_talkers[fold == k] = counted(heard.some(fold == k), rule)
    return n_talkers


def _questions(heard: Heard) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Levels ``(questions, 2)``, and whether there is that talker."""
    n_more = heard.levels.shape[1]
    there = heard.n_talkers[:, None] >= 2 + np.arange(n_more)
    return heard.levels.reshape(-1, 2), there.reshape(-1)
