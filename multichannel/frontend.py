"""The front-end: from the mics' spectra to one beam and what the network should know beside it.

* what a beam aims at, aim.py: speech that the mask network found, then an estimate of the talker;
* `LookaheadBeam` (offline, lookahead.py): from a block and its neighbours, in a long window;
* `RecursiveBeam` (live, here): from the frames so far, in the network's own window.

Axes: waveform ``(mics, samples)``, spectrum ``X (mics, freqs, frames)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from multichannel.beamform import apply_beamformer
from multichannel.offline import AnyNet
from multichannel.spatial import total_power
from multichannel.usable import standing_in

if TYPE_CHECKING:
    from multichannel.aim import Aim

# Spectra, magnitudes and cues of `Beamed`: of the first beam, and of one that has an estimate.
BEAM_INPUTS = (2, 1, 2)
REFINE_INPUTS = (3, 1, 2)
_TINY = 1e-20


@dataclass(frozen=True)
class FrontEndConfig:
    """How the beam is made.

    Args:
        beam_n_fft, beam_hop: long window of the offline beam (longer than the network's: the room's
            echoes then fall inside a frame).
        beams, live_beams: one after the other, each towards the estimate before.
        mask_mics: mics that the mask network listens to, spread over the array.
        block_s: offline, statistics come from a block and both its neighbours.
        crossfade_s: from the beam of one block to the next.
        speech_forgetting, noise_forgetting, estimate_forgetting: live, per frame of 16 ms: of the
            first beam's two covariances and of the second beam's one.
        loading, live_loading: relative diagonal loading of the noise covariance. What a simulated
            compact array could resolve below it drowns in the noise of real mics.
    """

    beam_n_fft: int = 2048
    beam_hop: int = 512
    beams: int = 3
    live_beams: int = 2
    mask_mics: int = 2
    block_s: float = 15.0
    crossfade_s: float = 1.0
    speech_forgetting: float = 0.99
    noise_forgetting: float = 0.995
    estimate_forgetting: float = 0.995
    loading: float = 1e-3
    live_loading: float = 1e-2


class Beamed(NamedTuple):
    """Frames of the network's STFT: all ``(freqs, frames)``.

    ``beam`` and ``reference`` are spectra, ``presence`` the pooled speech presence and ``gain`` how
    much of the mics' mean magnitude is left in the beam, both in 0..1. ``estimate`` is the spectrum
    that a second beam aims at.
    """

    beam: Tensor
    reference: Tensor
    presence: Tensor
    gain: Tensor
    estimate: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """Spectra for the network: beam, reference mic, estimate if any, noise reference."""
        estimate = [] if self.estimate is None else [self.estimate]
        return torch.stack([self.beam, self.reference, *estimate, self.reference - self.beam])

    @property
    def cues(self) -> Tensor:
        """Real maps for the network."""
        return torch.stack([self.presence, self.gain])


def presence_of(S: Tensor, X: Tensor) -> Tensor:
    """Speech presence pooled over mics: the share of the power that is speech.

    Args:
        S: estimated speech ``(mics, freqs, frames)``.
        X: mixture of the same shape.

    Returns:
        ``(freqs, frames)`` in 0..1; 0 in silence.
    """
    speech, rest = total_power(S), total_power(X - S)
    return speech / (speech + rest + _TINY)


def array_gain(beam: Tensor, X: Tensor) -> Tensor:
    """Magnitude of the beam over the mics' root mean square, ``(freqs, frames)``, at most 1."""
    power = total_power(X) / X.shape[-3]
    return (total_power(beam.unsqueeze(-3)) / (power + _TINY)).sqrt().clamp(max=1)


def living_mic(power: Tensor, reference_mic: int) -> Tensor:
    """The reference mic, or the first that has any power in ``power (mics,)`` where it has none.

    An index ``()`` on the device of ``power``, which need not be waited for.
    """
    return standing_in(power > 0, reference_mic)


def spread_mics(n_mics: int, n_chosen: int) -> Tensor:
    """Indices of that many mics, spread over the array."""
    chosen = torch.linspace(0, n_mics, min(n_mics, n_chosen) + 1)[:-1].round().long()
    mics: Tensor = chosen.unique()
    return mics


class MaskNetwork:
    """The mono network on some of the mics, frame by frame.

    Args:
        net: one-input GTCRN.
        mics: that it listens to.
    """

    def __init__(self, net: AnyNet, mics: Tensor) -> None:
        self.net, self.mics = net, mics
        self.state: Any = None

    def step(self, X: Tensor) -> Tensor:
        """Estimated speech ``(chosen, freqs, frames)`` in ``X (mics, freqs, frames)``."""
        X = X[self.mics]
        mask, self.state = self.net(X.unsqueeze(1).to(torch.complex64), state=self.state)
        return mask * X


class RecursiveBeam:
    """Causal front-end: each frame's beam from the frames so far.

    Args:
        aim: what it aims at.
        reference_mic: whose view of the talker is kept, unless it is dead.
    """

    def __init__(self, aim: Aim, reference_mic: int | None = None) -> None:
        self.aim, self.reference_mic = aim, reference_mic or 0

    def step(self, X: Tensor, S: Tensor) -> Beamed:
        """The beam of frames ``X (mics, freqs, frames)`` with estimates ``S`` of the talker."""
        alive = X.abs().sum(-2).mT
        if len(alive) == 1 or bool((alive[:, self.reference_mic] > 0).all()):
            return self._step(X, S, living_mic(alive[0], self.reference_mic))
        # each frame's own living mic, so that frames may come one by one or all at once
        frames = zip(alive, X.split(1, -1), S.split(1, -1), strict=True)
        parts = [self._step(x, s, living_mic(power, self.reference_mic)) for power, x, s in frames]
        fields = zip(*parts, strict=True)
        return Beamed(*(torch.cat(one, -1) for one in fields if one[0] is not None))

    def _step(self, X: Tensor, S: Tensor, reference_mic: Tensor) -> Beamed:
        w = self.aim.live_weights(X, S, reference_mic)
        return self.aim.beamed(apply_beamformer(w, X), X, S, reference_mic)
