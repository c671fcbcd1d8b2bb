"""The front-end: from the mics' spectra to one beam and what the post-filter should know beside it.

Both forms take samples of any number with `step` and give the frames that are ready; the sum of
what goes in equals the sum of what comes out after `flush`.

* `LookaheadBeam` (offline, lookahead.py): from a block and its neighbours, in a long window.
* `RecursiveBeam` (live, here): from the frames so far, in the network's own window.

Axes: waveform ``(mics, samples)``, spectrum ``X (mics, freqs, frames)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from multichannel.beamform import apply_beamformer, mvdr_souden
from multichannel.gtcrn import GTCRN, GTCRNState
from multichannel.look import Look
from multichannel.spatial import (
    CovarianceState,
    recursive_covariance,
)
from multichannel.stft import STFT, STFTStream

BEAM_INPUTS = (2, 1, 2)  # spectra, magnitudes and cues of `Beamed`
_TINY = 1e-20
_FRAMES_AT_ONCE = 64  # of recursive covariances: bounds the memory


@dataclass(frozen=True)
class FrontEndConfig:
    """How the beam is made.

    Args:
        beam_n_fft, beam_hop: long window of the offline beam (longer than the network's: the room's
            echoes then fall inside a frame).
        mask_mics: mics that the mask network listens to, spread over the array.
        block_s: offline, statistics come from a block and both its neighbours.
        crossfade_s: from the beam of one block to the next.
        speech_forgetting, noise_forgetting: live, per frame of 16 ms.
        loading, live_loading: relative diagonal loading of the noise covariance. What a simulated
            compact array could resolve below it drowns in the noise of real mics.
    """

    beam_n_fft: int = 2048
    beam_hop: int = 512
    mask_mics: int = 2
    block_s: float = 15.0
    crossfade_s: float = 1.0
    speech_forgetting: float = 0.99
    noise_forgetting: float = 0.995
    loading: float = 1e-3
    live_loading: float = 1e-2


class Beamed(NamedTuple):
    """Frames of the network's STFT: all ``(freqs, frames)``.

    ``beam`` and ``reference`` are spectra, ``presence`` the pooled speech presence and ``gain`` how
    much of the mics' mean magnitude is left in the beam, both in 0..1.
    """

    beam: Tensor
    reference: Tensor
    presence: Tensor
    gain: Tensor

    @property
    def inputs(self) -> Tensor:
        """Spectra of the multi-input network: beam, reference mic, noise reference."""
        return torch.stack([self.beam, self.reference, self.reference - self.beam])

    @property
    def cues(self) -> Tensor:
        """Real maps of the multi-input network."""
        return torch.stack([self.presence, self.gain])


def presence_of(S: Tensor, X: Tensor) -> Tensor:
    """Speech presence pooled over mics: the share of the power that is speech.

    Args:
        S: estimated speech ``(mics, freqs, frames)``.
        X: mixture of the same shape.

    Returns:
        ``(freqs, frames)`` in 0..1; 0 in silence.
    """
    speech = S.abs().square().sum(-3)
    rest = (X - S).abs().square().sum(-3)
    return speech / (speech + rest + _TINY)


def array_gain(beam: Tensor, X: Tensor) -> Tensor:
    """Magnitude of the beam over the mics' root mean square, ``(freqs, frames)``, at most 1."""
    power = X.abs().square().mean(-3)
    return (beam.abs().square() / (power + _TINY)).sqrt().clamp(max=1)


def living_mic(power: Tensor, reference_mic: int) -> int:
    """The reference mic, or the first that has any power in ``power (mics,)`` where it has none."""
    if power[reference_mic] > 0 or not power.max() > 0:
        return reference_mic
    return int((power > 0).int().argmax())


class MaskNetwork:
    """The mono network on some of the mics, frame by frame."""

    def __init__(self, net: GTCRN, n_mics: int, mask_mics: int) -> None:
        self.net = net
        chosen = torch.linspace(0, n_mics, min(n_mics, mask_mics) + 1)[:-1].round().long()
        self.mics = chosen.unique()
        self.state: GTCRNState | None = None

    def step(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Estimated speech and mixture of the chosen mics, both ``(chosen, freqs, frames)``."""
        X = X[self.mics]
        mask, self.state = self.net(X.unsqueeze(1), state=self.state)
        return mask * X, X


class RecursiveBeam:
    """Causal front-end: each frame's beam from the frames so far."""

    def __init__(
        self,
        net: GTCRN,
        stft: STFT,
        config: FrontEndConfig,
        n_mics: int,
        reference_mic: int | None = None,
        look: Look | None = None,
    ) -> None:
        self.stft, self.config, self.look = stft, config, look
        self.reference_mic = reference_mic or 0
        self.network = MaskNetwork(net, n_mics, config.mask_mics)
        self.stream = STFTStream(stft)
        self.speech: CovarianceState | None = None
        self.noise: CovarianceState | None = None

    def step(self, x: Tensor) -> list[Beamed]:
        """Frames that ``x (mics, samples)`` completes."""
        X = self.stream.analyse(x)
        return [self._beam(part) for part in X.split(_FRAMES_AT_ONCE, -1) if part.shape[-1]]

    def flush(self) -> list[Beamed]:
        return []

    def _beam(self, X: Tensor) -> Beamed:
        presence = presence_of(*self.network.step(X))
        target = presence if self.look is None else presence * self.look.gate(X, self.stft)
        config = self.config
        reference = living_mic(X.abs().sum((-1, -2)), self.reference_mic)
        psd_speech, self.speech = recursive_covariance(
            X, target, config.speech_forgetting, self.speech
        )
        psd_noise, self.noise = recursive_covariance(
            X, 1 - target, config.noise_forgetting, self.noise
        )
        if self.look is None:
            w = mvdr_souden(psd_speech, psd_noise, reference, config.live_loading)
        else:
            w = self.look.weights(psd_noise, self.stft, reference)
        beam = apply_beamformer(w, X)
        return Beamed(beam, X[reference], presence, array_gain(beam, X))
