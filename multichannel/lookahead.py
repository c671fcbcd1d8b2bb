"""The offline front-end: each block's beam from its own statistics and its neighbours'.

Axes: waveform ``(mics, samples)``, spectrum ``X (mics, freqs, frames)``; ``s`` and ``S`` are of the
estimates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from multichannel.aim import Aim, without_mics
from multichannel.beamform import apply_beamformer
from multichannel.changes import ChangeFinder
from multichannel.frontend import Beamed, FrontEndConfig
from multichannel.spatial import CovarianceState
from multichannel.stft import STFT, STFTConfig, STFTStream, join_frames
from multichannel.usable import mics_out


class Block(NamedTuple):
    """Frames of the beam's window, and the mics ``(mics,)`` that fail or change in any of them."""

    X: Tensor
    out: Tensor


class Heard(NamedTuple):
    """The mics' spectra, the same for all passes: frames of the network's window, blocks of the
    beam's."""

    X: Tensor
    blocks: list[Block]


class Listener:
    """Transforms the mics into the beam's window, once for all passes.

    Args:
        stft: the network's transform.
        config: the beam's window and the length of blocks.
    """

    def __init__(self, stft: STFT, config: FrontEndConfig, sample_rate: int = 16000) -> None:
        self.stft = stft
        self.long = STFT(STFTConfig(config.beam_n_fft, config.beam_hop))
        self.long.to(stft.analysis_window.device)
        self.block_frames = round(config.block_s * sample_rate / config.beam_hop)
        self.fade_frames = round(config.crossfade_s * sample_rate / config.beam_hop)
        self._stream, self._blocks = STFTStream(self.long), Blocks(self.block_frames)
        self._changes = ChangeFinder(self.long.config, sample_rate)

    def step(self, x: Tensor, X: Tensor) -> Heard:
        """Samples ``x`` and the network's frames ``X`` that they complete."""
        return Heard(X, self._watched(self._blocks.add(self._stream.analyse(x))))

    def flush(self, X: Tensor) -> Heard:
        """The last block, and no frame of ``X``."""
        return Heard(X[..., :0], self._watched(self._blocks.rest()))

    def _watched(self, blocks: list[Tensor]) -> list[Block]:
        out = [mics_out(X) for X in blocks]
        return [Block(X, o | self._changes.step(X, o)) for X, o in zip(blocks, out, strict=True)]


class Blocks:
    """Frames gathered into blocks of ``n_frames``."""

    def __init__(self, n_frames: int) -> None:
        self.n_frames, self._n_collected = n_frames, 0
        self._collected: list[Tensor] = []

    def add(self, X: Tensor) -> list[Tensor]:
        """The blocks that ``X (channels, freqs, frames)`` completes."""
        whole: list[Tensor] = []
        while X.shape[-1]:
            part = X[..., : self.n_frames - self._n_collected]
            X = X[..., part.shape[-1] :]
            self._collected.append(part)
            self._n_collected += part.shape[-1]
            if self._n_collected == self.n_frames:
                whole += self.rest()
        return whole

    def rest(self) -> list[Tensor]:
        """What is left of a block, if anything."""
        parts, self._collected, self._n_collected = self._collected, [], 0
        return [join_frames(parts)] if parts else []


class FrameQueue:
    """Frames that wait, first come first out."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def put(self, X: Tensor) -> None:
        if X.shape[-1]:
            self._parts.append(X)

    @property
    def n_frames(self) -> int:
        return sum(part.shape[-1] for part in self._parts)

    @property
    def n_together(self) -> int:
        """Frames that come out without being copied."""
        return self._parts[0].shape[-1]

    def take(self, n: int) -> Tensor:
        """The first ``n`` of those together."""
        first = self._parts.pop(0)
        if n < first.shape[-1]:
            self._parts.insert(0, first[..., n:])
        return first[..., :n]


class _Block(NamedTuple):
    """A block that waits for its right neighbour, and its statistics."""

    X: Tensor
    out: Tensor
    sums: CovarianceState


class LookaheadBeam:
    """Offline front-end: the beam of each block from its own statistics and its neighbours'.

    A clip of up to two blocks sees all of its frames; a recording of hours sees three blocks at a
    time and its beam follows. From block to block the weights fade over.

    Args:
        aim: what it aims at, with the statistics of the long window.
        listener: whose frames it gets.
        reference_mic: whose view of the talker is kept; None lets the aim choose.
    """

    def __init__(self, aim: Aim, listener: Listener, reference_mic: int | None = None) -> None:
        self.aim, self.reference_mic = aim, reference_mic
        self.fade_frames = listener.fade_frames
        self.short_stream = STFTStream(listener.stft)  # of the estimates, as is the next
        self.long_stream = STFTStream(listener.long)
        self.beam_streams = STFTStream(listener.long), STFTStream(listener.stft)
        self.estimated = Blocks(listener.block_frames)
        self.heard: list[Block] = []  # blocks of the mics that wait for their estimate
        self.blocks: list[_Block] = []
        self.weights: Tensor | None = None
        self.mics, self.estimates = FrameQueue(), FrameQueue()  # short frames without a beam yet

    def step(self, heard: Heard, s: Tensor) -> list[Beamed]:
        """Frames that the mics and estimates ``s (estimates, samples)`` complete: those of the last
        whole block but one. The estimates may lag behind the mics."""
        self.mics.put(heard.X)
        self.heard += heard.blocks
        self.estimates.put(self.short_stream.analyse(s))
        return self._close(self.estimated.add(self.long_stream.analyse(s)))

    def flush(self) -> list[Beamed]:
        """The frames of the last two blocks."""
        ready = self._close(self.estimated.rest())
        return ready + self._beam_block(last=True) if self.blocks else ready

    def _close(self, blocks: list[Tensor]) -> list[Beamed]:
        """Pair blocks of the estimates with those of the mics."""
        ready = []
        for S in blocks:
            X, out = self.heard.pop(0)
            X = X[..., : S.shape[-1]]
            known = X.masked_fill(out[:, None, None], 0) if out.any() else X
            self.blocks.append(_Block(X, out, self.aim.sums(known, S)))
            if len(self.blocks) > 1:
                ready += self._beam_block()
        return ready

    def _beam_block(self, last: bool = False) -> list[Beamed]:
        """Beam the newest block but one, which now has both neighbours; or the last one."""
        index = len(self.blocks) - (1 if last else 2)
        out, sums = self.blocks[index].out, self.blocks[index].sums
        for block in self.blocks[:index] + self.blocks[index + 1 :]:
            if not (block.out & ~out).any():  # all mics of the beam are known there
                sums = sums + block.sums
        if out.any():
            sums = without_mics(sums, out)
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
        long, short = self.beam_streams
        B = short.analyse(long.synthesise(beam))
        ready = []
        while B.shape[-1]:
            n = min(self.mics.n_together, self.estimates.n_together, B.shape[-1])
            X, S = self.mics.take(n), self.estimates.take(n)
            ready.append(self.aim.beamed(B[..., :n], X, S, self.reference_mic))
            B = B[..., n:]
        return ready
