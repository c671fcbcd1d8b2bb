"""The front-end: from the mics' spectra to one beam and what the post-filter should know beside it.

Both forms take samples of any number with `step` and give the frames that are ready; the sum of
what goes in equals the sum of what comes out after `flush`.

* `LookaheadBeam` (offline): statistics of a block and its neighbours, in a long window.
* `RecursiveBeam` (live): statistics up to each frame, in the network's own window.

Axes: waveform ``(mics, samples)``, spectrum ``X (mics, freqs, frames)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from multichannel.beamform import apply_beamformer, choose_reference_mic, mvdr_souden
from multichannel.gtcrn import GTCRN, GTCRNState
from multichannel.loading import loading_for_frames
from multichannel.look import Look
from multichannel.spatial import (
    CovarianceState,
    covariance_sums,
    recursive_covariance,
)
from multichannel.stft import STFT, STFTConfig, STFTStream

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


class _Block(NamedTuple):
    """A block of the long STFT, waiting for its right neighbour."""

    X: Tensor
    sums: CovarianceState  # (2 classes, freqs, mics, mics): speech and noise


class LookaheadBeam:
    """Offline front-end: the beam of each block from its own statistics and its neighbours'.

    A clip of up to two blocks sees all of its frames; a recording of hours sees three blocks at a
    time and its beam follows. From block to block the weights fade over.
    """

    def __init__(
        self,
        net: GTCRN,
        stft: STFT,
        config: FrontEndConfig,
        n_mics: int,
        reference_mic: int | None = None,
        look: Look | None = None,
        sample_rate: int = 16000,
    ) -> None:
        self.stft, self.config, self.look = stft, config, look
        self.long = STFT(STFTConfig(config.beam_n_fft, config.beam_hop)).to(
            stft.analysis_window.device
        )
        self.reference_mic = reference_mic
        self.network = MaskNetwork(net, n_mics, config.mask_mics)
        self.n_mics = n_mics
        self.block_frames = round(config.block_s * sample_rate / config.beam_hop)
        self.fade_frames = round(config.crossfade_s * sample_rate / config.beam_hop)
        self.short_stream, self.long_stream = STFTStream(stft), STFTStream(self.long)
        self.beam_stream = STFTStream(stft)
        self.waiting_x: Tensor | None = None  # samples whose speech estimate is not there yet
        self.collected: list[tuple[Tensor, Tensor]] = []  # long frames of the block being filled
        self.n_collected = 0
        self.blocks: list[_Block] = []
        self.weights: Tensor | None = None
        self.frames: list[tuple[Tensor, Tensor]] = []  # (X, presence) whose beam is not there yet

    def step(self, x: Tensor) -> list[Beamed]:
        """Frames that ``x (mics, samples)`` completes: those of the last whole block but one."""
        X = self.short_stream.analyse(x)
        S, X_chosen = self.network.step(X)
        self.frames.append((X, presence_of(S, X_chosen)))
        s = self.short_stream.synthesise(S)
        waiting = x if self.waiting_x is None else torch.cat([self.waiting_x, x], -1)
        aligned = torch.cat([waiting[..., : s.shape[-1]], s])
        self.waiting_x = waiting[..., s.shape[-1] :]
        return self._collect(self.long_stream.analyse(aligned))

    def flush(self) -> list[Beamed]:
        """The frames of the last two blocks."""
        ready = self._close_block() if self.n_collected else []
        return ready + self._beam_block(last=True) if self.blocks else ready

    def _collect(self, Z: Tensor) -> list[Beamed]:
        """Gather long frames ``(mics + chosen, freqs, frames)``; close every block that is full."""
        ready = []
        while Z.shape[-1]:
            part = Z[..., : self.block_frames - self.n_collected]
            Z = Z[..., part.shape[-1] :]
            X, S = part[: self.n_mics], part[self.n_mics :]
            self.collected.append((X, presence_of(S, X[self.network.mics])))
            self.n_collected += part.shape[-1]
            if self.n_collected == self.block_frames:
                ready += self._close_block()
        return ready

    def _close_block(self) -> list[Beamed]:
        X = torch.cat([X for X, _ in self.collected], -1)
        presence = torch.cat([presence for _, presence in self.collected], -1)
        self.collected, self.n_collected = [], 0
        if self.look is not None:
            presence = presence * self.look.gate(X, self.long)
        sums = covariance_sums(X, torch.stack([presence, 1 - presence]))
        self.blocks.append(_Block(X, sums))
        return self._beam_block() if len(self.blocks) > 1 else []

    def _beam_block(self, last: bool = False) -> list[Beamed]:
        """Beam the newest block but one, which now has both neighbours; or the last one."""
        index = len(self.blocks) - (1 if last else 2)
        sums = self.blocks[0].sums
        for block in self.blocks[1:]:
            sums = sums + block.sums
        w = self._weights(sums)
        X = self.blocks[index].X
        beam = apply_beamformer(w, X)
        if self.weights is not None:
            n_fade = min(self.fade_frames, X.shape[-1])
            before = apply_beamformer(self.weights, X[..., :n_fade])
            fade = torch.linspace(0, 1, n_fade + 2, device=X.device)[1:-1]
            beam[..., :n_fade] = before + fade * (beam[..., :n_fade] - before)
        self.weights = w
        self.blocks = self.blocks[-2:]
        return self._to_network_frames(beam)

    def _weights(self, sums: CovarianceState) -> Tensor:
        psd_speech, psd_noise = sums.mean().unbind(-4)
        n_noise_frames = sums.weight[1, :, 0, 0]
        loading = self.config.loading + loading_for_frames(n_noise_frames, self.n_mics)
        power = sums.total.sum(0).diagonal(dim1=-2, dim2=-1).real.sum(0)
        if self.reference_mic is not None and self.reference_mic != living_mic(
            power, self.reference_mic
        ):
            self.reference_mic = None  # dead: any other is better
        if self.reference_mic is None:
            self.reference_mic = int(choose_reference_mic(psd_speech, psd_noise, loading))
        if self.look is not None:
            psd_mixture = CovarianceState(sums.total.sum(0), sums.weight.sum(0)).mean()
            return self.look.weights(psd_noise, self.long, self.reference_mic, psd_mixture)
        return mvdr_souden(psd_speech, psd_noise, self.reference_mic, loading)

    def _to_network_frames(self, beam: Tensor) -> list[Beamed]:
        """From the long window to the network's: the beam's frames beside those that wait."""
        assert self.reference_mic is not None
        B = self.beam_stream.analyse(self.long_stream.synthesise(beam))
        ready = []
        while B.shape[-1]:
            X, presence = self.frames[0]
            n = min(X.shape[-1], B.shape[-1])
            part = X[..., :n]
            ready.append(
                Beamed(
                    B[..., :n],
                    part[self.reference_mic],
                    presence[..., :n],
                    array_gain(B[..., :n], part),
                )
            )
            B = B[..., n:]
            self.frames[0] = (X[..., n:], presence[..., n:])
            if n == X.shape[-1]:
                self.frames.pop(0)
        return ready
