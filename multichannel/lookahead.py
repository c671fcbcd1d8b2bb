"""The offline front-end: each block's beam from its own statistics and its neighbours'.

Axes: waveform ``(mics, samples)``, spectrum ``X (mics, freqs, frames)``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from multichannel.aim import Aim
from multichannel.beamform import apply_beamformer
from multichannel.frontend import Beamed, FrontEndConfig
from multichannel.spatial import CovarianceState
from multichannel.stft import STFT, STFTStream


class _Block(NamedTuple):
    """A block of the long STFT, waiting for its right neighbour."""

    X: Tensor
    sums: CovarianceState


class LookaheadBeam:
    """Offline front-end: the beam of each block from its own statistics and its neighbours'.

    A clip of up to two blocks sees all of its frames; a recording of hours sees three blocks at a
    time and its beam follows. From block to block the weights fade over.

    Args:
        aim: what it aims at, with the statistics of the long window.
        stft, long: the network's transform and the beam's.
        config: length of blocks and fades.
        reference_mic: whose view of the talker is kept; None lets the aim choose.
    """

    def __init__(
        self,
        aim: Aim,
        stft: STFT,
        long: STFT,
        config: FrontEndConfig,
        reference_mic: int | None = None,
        sample_rate: int = 16000,
    ) -> None:
        self.aim, self.stft, self.long, self.config = aim, stft, long, config
        self.reference_mic = reference_mic
        self.block_frames = round(config.block_s * sample_rate / config.beam_hop)
        self.fade_frames = round(config.crossfade_s * sample_rate / config.beam_hop)
        self.short_stream, self.long_stream = STFTStream(stft), STFTStream(long)
        self.beam_stream = STFTStream(stft)
        self.collected: list[Tensor] = []  # long frames of the block being filled
        self.n_collected = 0
        self.blocks: list[_Block] = []
        self.weights: Tensor | None = None
        self.frames: list[Tensor] = []  # short frames whose beam is not there yet

    def step(self, x: Tensor, s: Tensor) -> list[Beamed]:
        """Frames that mics ``x (mics, samples)`` and estimates ``s (estimates, samples)`` complete:
        those of the last whole block but one."""
        self.n_mics = x.shape[0]
        channels = torch.cat([x, s])
        self.frames.append(self.short_stream.analyse(channels))
        return self._collect(self.long_stream.analyse(channels))

    def flush(self) -> list[Beamed]:
        """The frames of the last two blocks."""
        ready = self._close_block() if self.n_collected else []
        return ready + self._beam_block(last=True) if self.blocks else ready

    def _collect(self, Z: Tensor) -> list[Beamed]:
        """Gather long frames ``(channels, freqs, frames)``; close every block that is full."""
        ready = []
        while Z.shape[-1]:
            part = Z[..., : self.block_frames - self.n_collected]
            Z = Z[..., part.shape[-1] :]
            self.collected.append(part)
            self.n_collected += part.shape[-1]
            if self.n_collected == self.block_frames:
                ready += self._close_block()
        return ready

    def _close_block(self) -> list[Beamed]:
        X, S = self._split(torch.cat(self.collected, -1))
        self.collected, self.n_collected = [], 0
        self.blocks.append(_Block(X, self.aim.sums(X, S)))
        return self._beam_block() if len(self.blocks) > 1 else []

    def _split(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        """Mics and estimates."""
        return Z[: self.n_mics], Z[self.n_mics :]

    def _beam_block(self, last: bool = False) -> list[Beamed]:
        """Beam the newest block but one, which now has both neighbours; or the last one."""
        index = len(self.blocks) - (1 if last else 2)
        sums = self.blocks[0].sums
        for block in self.blocks[1:]:
            sums = sums + block.sums
        w, self.reference_mic = self.aim.block_weights(sums, self.reference_mic)
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

    def _to_network_frames(self, beam: Tensor) -> list[Beamed]:
        """From the long window to the network's: the beam's frames beside those that wait."""
        assert self.reference_mic is not None
        B = self.beam_stream.analyse(self.long_stream.synthesise(beam))
        ready = []
        while B.shape[-1]:
            n = min(self.frames[0].shape[-1], B.shape[-1])
            X, S = self._split(self.frames[0][..., :n])
            if n:
                ready.append(self.aim.beamed(B[..., :n], X, S, self.reference_mic))
            B = B[..., n:]
            self.frames[0] = self.frames[0][..., n:]
            if not self.frames[0].shape[-1]:
                self.frames.pop(0)
        return ready
