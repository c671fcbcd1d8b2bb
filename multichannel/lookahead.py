"""The offline front-end: each block's beam from its own statistics and its neighbours'.

Axes: waveform ``(mics, samples)``, spectrum ``X (mics, freqs, frames)``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from multichannel.beamform import apply_beamformer, choose_reference_mic, mvdr_souden
from multichannel.frontend import (
    Beamed,
    FrontEndConfig,
    MaskNetwork,
    array_gain,
    living_mic,
    presence_of,
)
from multichannel.gtcrn import GTCRN
from multichannel.loading import loading_for_frames
from multichannel.look import Look
from multichannel.spatial import CovarianceState, covariance_sums
from multichannel.stft import STFT, STFTConfig, STFTStream


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
