"""A recording that is turned down is turned up again inside, until all has got used to it.

What a beam and the networks know of a recording is mostly what was loud in it. Where all mics are
suddenly turned down, what comes then is too quiet to change that for many seconds. So it is made as
loud as before, by a gain that slowly becomes 1 again, and what comes out is divided by that gain.

Sound may become quiet by itself, but seldom quieter than it was in its quietest tenth; and if it
does, because a noise has ended, it is as good to forget how loud that was.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from multichannel import compiled_ops

# What is so far below the quietest tenth of the hops is too quiet; after so much of that all is
# turned up, if that much was known before.
_BELOW_DB, _LASTS_S, _KNOWN_S = 12.0, 0.5, 2.0
_FORGIVEN = 0.1  # of a hop that was too quiet, by one that is not
_QUIETEST, _STEP_DB = 0.1, 3.0  # the share that counts as quietest, and how fast it is learned
_USUAL_S = 5.0  # of which the mean level is as loud as before
_UP_DB_S, _BACK_DB_S = 400.0, 1.0  # of the gain
_MOST_DB = 60.0
_SILENT = 1e-9  # power, the rounding of 16 bits


class SteadyLevel:
    """Hops in as loud as before, and out as loud as they came in.

    Args:
        hop: samples that are judged together.
        sample_rate: in Hz.
    """

    def __init__(self, hop: int, sample_rate: int = 16000) -> None:
        self.hop, self._hop_s = hop, hop / sample_rate
        self.quietest_db = self.usual_db = 0.0
        self.n_known = self.n_too_quiet = self.now_db = 0.0  # hops; mean level of the second
        self.gain_db = self.target_db = 0.0
        # at the borders of the hops that have not come out; samples of the first of them that have
        self.gains_db, self.n_out = [0.0], 0.0

    def raised(self, x: Tensor) -> Tensor:
        """Take whole hops ``x (mics, samples)``, zero where a mic is not to be believed."""
        heard, n_hops = x.cpu().contiguous(), x.shape[-1] // self.hop
        compiled = compiled_ops.fits(heard)
        found = compiled_ops.hop_levels_db if compiled else _levels_db
        for level_db in found(heard, self.hop, _SILENT):
            self._judge(level_db)
            self.gains_db.append(self.gain_db)
        gains_db = self.gains_db[-n_hops - 1 :]
        return x * self._gain(gains_db).to(x) if any(gains_db) else x

    def lowered(self, y: Tensor) -> Tensor:
        """The next samples ``y (..., samples)`` that come out."""
        start, end = int(self.n_out), int(self.n_out) + y.shape[-1]
        gains_db = self.gains_db[: -(-end // self.hop) + 1]
        self.gains_db, self.n_out = self.gains_db[end // self.hop :], float(end % self.hop)
        return y / self._gain(gains_db)[start:end].to(y) if any(gains_db) else y

    def state(self) -> dict[str, Tensor]:
        """All that is remembered."""
        return {name: torch.tensor(getattr(self, name), dtype=torch.float64) for name in _STATE}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from there; KeyError where something is missing."""
        for name in _STATE:
            setattr(self, name, state[name].tolist())

    def _judge(self, level_db: float) -> None:
        """Move the gain over a hop; silence, minus infinity, tells nothing."""
        level_db += self.gain_db
        if level_db == -math.inf:
            pass
        elif self.n_known and level_db < self.quietest_db - _BELOW_DB:
            self.n_too_quiet += 1
            self.now_db += (level_db - self.now_db) / self.n_too_quiet
        else:
            self._learn(level_db)
            self.n_too_quiet = max(self.n_too_quiet - _FORGIVEN, 0)
        if self.n_too_quiet * self._hop_s > _LASTS_S:
            if self.n_known * self._hop_s > _KNOWN_S:
                self.target_db = min(self.gain_db + self.usual_db - self.now_db, _MOST_DB)
            else:
                self.n_known = 0.0
            self.n_too_quiet = 0.0
        self.target_db = max(self.target_db - _BACK_DB_S * self._hop_s, 0.0)
        self.gain_db += min(self.target_db - self.gain_db, _UP_DB_S * self._hop_s)

    def _learn(self, level_db: float) -> None:
        """What is usual, by a hop that is."""
        if not self.n_known:
            self.quietest_db = level_db
        self.quietest_db += _STEP_DB * (_QUIETEST - (level_db < self.quietest_db))
        self.n_known += 1
        self.usual_db += (level_db - self.usual_db) / min(self.n_known, _USUAL_S / self._hop_s)

    def _gain(self, gains_db: list[float]) -> Tensor:
        """Of every sample between the borders of hops."""
        n = (len(gains_db) - 1) * self.hop
        borders = np.arange(len(gains_db)) * self.hop
        return torch.from_numpy(10 ** (np.interp(np.arange(n), borders, gains_db) / 20))


_STATE = "quietest_db usual_db n_known n_too_quiet now_db gain_db target_db gains_db n_out".split()


def _levels_db(x: Tensor, hop: int, silent: float) -> list[float]:
    """As `compiled_ops.hop_levels_db`."""
    power = x.double().unflatten(-1, (-1, hop)).square().mean(-1).T
    heard = ([10 * math.log10(p) for p in mics if p > silent] for mics in power.tolist())
    return [sum(mics) / len(mics) if mics else -math.inf for mics in heard]
