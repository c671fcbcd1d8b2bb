"""Which mics can be believed right now: one that fails is silent until it has recovered.

A beam whose statistics know a mic that has died, clips or has been turned up is worse than a beam
without it, and so are statistics of what such a mic says. So samples of a mic that fails never get
that far: from the hop in which it fails until it has been good for a second it is silent. What is
made of the other mics then is in stream.py and lookahead.py.

A fault is a change, or nothing that sound can do. A mic that is quieter or noisier than the others
all the time is none: beamformers know what to do with it.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from multichannel import compiled_ops

HOLD_S = 1.0  # that a mic has to be good for, unless it was only silent
# Peak to peak of a hop: above it another mic does not round to zero (some 30 steps of 16 bits) ...
_AUDIBLE = 1e-3
# ... and above that rounding does not look like clipping.
_LOUD = 1e-2
# A hop clips when this share of it lies within a thousandth of its ends, where a tone has 4%.
_FLAT, _AT_THE_END = 0.4, 1e-3
# A power that leaves that of the other mics by more has been changed: talkers who come near and
# noises of the mics themselves move them apart by less.
_JUMP, _OWN_JUMP = 1e3, 1e1
_FAST, _SLOW = 0.3, 0.005  # a hop of 16 ms, of the running mean powers
_RISE = 30.0  # to which the slow one takes a power seriously: it must not follow a jump at once
# Samples beyond this are as good as infinite; so few of a hop count as silence and no more.
_ENDLESS, _FEW = 1e15, 0.1
_QUIETEST = 1e-9  # power, the rounding of 16 bits
_LIMITS = np.array([_LOUD, _FLAT, _JUMP, _FAST, _SLOW, _RISE, _QUIETEST, _ENDLESS])

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


class MicWarning(UserWarning):
    """A microphone was left out."""


class MicGuard:
    """Samples in, whole hops out, in which a mic that fails is silent; each mic is reported once.

    Args:
        n_mics: of the recording.
        hop: samples that are judged together.
        sample_rate: in Hz.
    """

    def __init__(self, n_mics: int, hop: int, sample_rate: int = 16000) -> None:
        self.n_mics, self.hop = n_mics, hop
        self.hold = round(HOLD_S * sample_rate / hop)
        self.pending = np.zeros((n_mics, 0), np.float32)
        self.wait = np.zeros(n_mics, np.int64)  # hops for which a mic still has to be good
        self.waiting = False
        self._never = np.zeros(n_mics, np.int64)
        self.jumped = self._never  # hops since its level changed
        self.powers = np.zeros((2, n_mics))  # running means, a fast one and a slow one
        self.gain = np.ones(n_mics)  # that brings a mic back to where it was
        self.reported: set[int] = set()

    def step(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Take ``x (mics, samples)``, any number of them.

        Returns:
            The hops that it completes ``(mics, hops * hop)``, and whether a mic is out in them
            ``(mics, hops)``: silent while another mic is not.
        """
        x = x.detach().to("cpu", torch.float32).contiguous()
        if self._all_calm(x):
            return x, torch.zeros(self.n_mics, x.shape[-1] // self.hop, dtype=torch.bool)
        samples = x.numpy()
        samples = np.concatenate([self.pending, samples], -1) if self.pending.size else samples
        n_hops = samples.shape[-1] // self.hop
        self.pending = samples[:, n_hops * self.hop :].copy()
        hops = samples[:, : n_hops * self.hop].reshape(self.n_mics, n_hops, self.hop)
        hops, out = self._guarded(hops)
        return torch.from_numpy(hops.reshape(self.n_mics, -1)), torch.from_numpy(out)

    def _guarded(self, raw: NDArray[np.float32]) -> tuple[NDArray[np.float32], Flags]:
        """The hops ``(mics, hops, hop)`` and who is out ``(mics, hops)``."""
        gain = self.gain
        hops = raw if (gain == 1).all() else raw * gain[:, None, None].astype(np.float32)
        out = np.zeros(hops.shape[:2], np.bool_)

        def suspicious_from(t: int) -> int:
            return t + self._n_calm(torch.from_numpy(hops[:, t:]).flatten(1))

        t = suspicious_from(0)
        while t < hops.shape[1]:
            broken = ~(np.abs(hops[:, t]) < _ENDLESS)
            if broken.any():
                hops = np.array(hops)
                hops[:, t][broken] = 0
            silent = self._judge(hops[:, t], broken.mean(-1))
            if silent.any():
                hops = hops.copy() if hops.base is not None else hops
                hops[silent, t] = 0
            heard = hops[:, t].any(-1)
            out[:, t] = ~heard & heard.any()
            if self.gain is not gain:
                rest, rest_out = self._guarded(raw[:, t + 1 :])
                hops = np.concatenate([hops[:, : t + 1], rest], 1)
                return hops, np.concatenate([out[:, : t + 1], rest_out], 1)
            t = suspicious_from(t + 1)
        return hops, out

    def leave_out(self, mics: Tensor, seconds: float) -> None:
        """Mics ``(mics,)`` that are not to be believed for so long from now on."""
        n_hops = round(seconds * self.hold / HOLD_S)
        self.wait = np.where(mics.cpu().numpy(), np.maximum(self.wait, n_hops), self.wait)
        self.waiting = bool(self.wait.any())

    def state(self) -> dict[str, Tensor]:
        """All that is remembered, as copies; not who was reported."""
        return {name: torch.from_numpy(np.array(getattr(self, name))) for name in _STATE}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from there; KeyError where something is missing."""
        for name in _STATE:
            setattr(self, name, state[name].numpy().copy())
        self.waiting = bool(self.wait.any())

    def _all_calm(self, x: Tensor) -> bool:
        """Whether nothing is to be done with samples, as nearly always."""
        if self.waiting or self.pending.size or x.shape[-1] % self.hop or (self.gain != 1).any():
            return False
        before = self.powers.copy()
        if self._n_calm(x) == x.shape[-1] // self.hop:
            return True
        self.powers[:] = before
        return False

    def _n_calm(self, x: Tensor) -> int:
        """How many hops of ``x (mics, samples)`` come before the first in which something may be
        wrong, from sums over the samples of each mic: what `_judge` finds in full, for a tenth of
        the time."""
        if self.waiting or not x.shape[-1]:
            return 0
        if not compiled_ops.ready():
            parts = map(_sums, x.unflatten(-1, (-1, self.hop)).numpy().swapaxes(0, 1))
            return sum(1 for _ in itertools.takewhile(lambda sums: self._calm(*sums), parts))
        places = _LIMITS.ctypes.data, self.powers.ctypes.data
        n_calm, heard = compiled_ops.calm_hops(x, self.hop, *places)
        if heard:
            self.jumped = self._never
        return n_calm

    def _calm(
        self, power: list[float], total: list[float], top: list[float], bottom: list[float]
    ) -> bool:
        """As native/calm.h, for one hop; lists, which are quicker than arrays of a few numbers."""
        if not any(power):  # no sound at all
            return True
        for square, mean, high, low in zip(power, total, top, bottom, strict=True):
            height, middle = high - low, (high + low) / 2
            # with much at the ends there is this power at least about the middle between them
            about = square - 2 * middle * mean + middle**2
            if not height > 0 or not max(high, -low) <= _ENDLESS:
                return False
            if height > _LOUD and not about < _FLAT * height**2 / 4:
                return False
        fast, slow = self.powers.tolist()
        fast = [old + _FAST * (new - old) for new, old in zip(power, fast, strict=True)]
        jumps = [(f + _QUIETEST) / (s + _QUIETEST) for f, s in zip(fast, slow, strict=True)]
        if not max(jumps) < _JUMP * min(jumps) or 0 in slow:
            return False
        self.jumped = self._never
        pairs = zip(power, slow, strict=True)
        self.powers[:] = fast, [old + _SLOW * (min(new, _RISE * old) - old) for new, old in pairs]
        return True

    def _judge(self, x: NDArray[np.float32], missing: Array) -> Flags:
        """Which mics ``(mics,)`` are to be silent in a hop ``(mics, hop)`` of which the share
        ``missing (mics,)`` is not finite, and zero here."""
        broken = missing > _FEW
        top, bottom = x.max(-1, keepdims=True), x.min(-1, keepdims=True)
        height = (top - bottom)[:, 0]
        dead = ~broken & (height == 0) & (height.max() > _AUDIBLE)
        from_middle = np.abs(x - (top + bottom) / 2)
        at_ends = from_middle >= (0.5 - _AT_THE_END) * height[:, None]
        clips = _minority((height > _LOUD) & (at_ends.mean(-1) > _FLAT))
        louder_db = self._louder_db(_power(x), broken | dead)
        jumps = _minority((louder_db != 0) & ~broken & ~dead)
        failed = broken | clips | jumps
        self.wait = np.where(failed, self.hold, np.maximum(self.wait - 1, 0))
        self.waiting = bool(self.wait.any())
        for mic in np.flatnonzero(failed | dead):
            kinds = (broken, "holds NaN or infinity"), (clips, "clips"), (dead, "is dead")
            much = f"{abs(louder_db[mic]):.0f} dB {'louder' if louder_db[mic] > 0 else 'quieter'}"
            faults = [text for flags, text in kinds if flags[mic]]
            self._report(int(mic), *faults[:1] or [f"is suddenly {much}"])
        for mic in np.flatnonzero(missing):
            self._report(int(mic), "holds NaN or infinity")
        silent = failed | dead | (self.wait > 0)
        return failed | dead if silent.all() else silent  # better one not yet sure than none

    def _louder_db(self, power: Array, unknown: Flags) -> Array:
        """How much louder each mic has become beside the others, 0 unless that is a jump."""
        fast, slow = self.powers
        new = ~unknown & (slow == 0)
        slow, fast = np.where(new, power, slow), np.where(new, power, fast)
        fast = np.where(unknown, fast, fast + _FAST * (power - fast))
        louder = 10 * np.log10((fast + _QUIETEST) / (slow + _QUIETEST))
        others = louder[::-1] if self.n_mics == 2 else np.full(self.n_mics, np.median(louder))
        jumps = np.abs(louder - others) > 10 * np.log10(_JUMP)
        jumps &= np.abs(louder) > 10 * np.log10(_OWN_JUMP)
        self.jumped = np.where(jumps, self.jumped + 1, 0)
        risen = slow + _SLOW * (np.minimum(power, _RISE * slow) - slow)
        slow = np.where(jumps | unknown, slow, risen)
        settled = self.jumped > self.hold  # so loud is this mic now
        if settled.any():
            # turned down, as a loud mic outweighs all the others in what they say together; what
            # a quiet one says may be nothing but its own noise
            too_loud = np.where(settled & (louder > others), 10 ** ((louder - others) / 10), 1)
            self.gain, fast = self.gain / np.sqrt(too_loud), fast / too_loud
            slow = np.where(settled, fast * 10 ** (-others / 10), slow)
        self.powers[:] = fast, slow
        return np.where(jumps, louder - others, 0.0)

    def _report(self, mic: int, fault: str) -> None:
        if mic not in self.reported:
            self.reported.add(mic)
            text = f"mic {mic} {fault}; left out until it recovers"
            warnings.warn(text, MicWarning, stacklevel=2)


def without_failing(x: Tensor, hop: int = 256) -> Tensor:
    """A clip with silence for the mics that fail somewhere in it, each with a warning.

    Where all do, those that fail the least keep the rest.

    Args:
        x: ``(mics, samples)``.
        hop: samples that are judged together.

    Raises:
        ValueError: no sample is finite.
    """
    if not torch.isfinite(x).any():
        raise ValueError("expected a mic with finite samples, found NaN or infinity in every mic")
    n_mics, n_samples = x.shape
    guarded, out = MicGuard(n_mics, hop).step(nn.functional.pad(x, (0, -n_samples % hop)))
    n_out = out.sum(-1)
    kept = n_out == n_out.min()
    return torch.where(kept[:, None], guarded[:, :n_samples], 0).to(x)


_STATE = ("pending", "wait", "jumped", "powers", "gain")


def _sums(x: NDArray[np.float32]) -> list[list[float]]:
    """Power, mean, largest and smallest sample of each mic in a hop ``(mics, samples)``."""
    with np.errstate(invalid="ignore", over="ignore"):
        sums = _power(x), x.sum(-1) / x.shape[-1], x.max(-1), x.min(-1)
    return [one.tolist() for one in sums]


def _power(x: NDArray[np.float32]) -> Array:
    return np.einsum("...s,...s->...", x, x) / x.shape[-1]


def _minority(faults: Flags) -> Flags:
    """What most of the mics have at once is the sound's, and no fault of theirs."""
    return faults & (2 * np.count_nonzero(faults) <= len(faults))
