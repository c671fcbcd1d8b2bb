"""Separation as the sound comes: blocks of it in, a stream for each of the network's talkers out.

waveforms -> long STFT -> running classes of the spatial mixture model
          -> STFT -> causal network, shown those -> masks
          -> long STFT -> spatial mixture model of the last seconds, beginning from the masks
          -> recursive covariances -> beams

A block is worked on when it is complete, so it does not matter in what chunks it came, and a beam
knows the block it is for. Whoever the network first heard as its number k stays stream k.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multichannel.aim import forgetting
from multichannel.cacgmm import spatial_posteriors
from multichannel.changes import ChangeFinder
from multichannel.mics import MicGuard
from multichannel.spatial import CovarianceState, covariance_sums
from multichannel.steady import SteadyLevel
from multichannel.stft import STFT, STFTStream
from multichannel.stream import MAX_MICS, check_chunk
from multichannel.usable import mics_out
from separation.beams import BEAMS
from separation.network import SeparationNet, SeparationState
from separation.running import BLOCK, LIVE_LONG, N_KNOWN, RunningClasses, heard_mics
from separation.wiener import shares_of

_N_EM = 2
_LEFT_OUT_S = 4.0  # as the classes remember
_FORGETTING = 0.997  # of what was heard a frame of this before: half of it in 15 s


class LiveSeparator:
    """One recording of 1 to 16 mics at 16 kHz on its way through a causal network and beams.

    Args:
        net: causal and guided.
        n_mics: of the recording.
        reference_mic: whose view of the talkers is kept.
        beam: as `SeparatorConfig`.

    Raises:
        ValueError: another network, too many mics, or no such reference mic.
    """

    def __init__(
        self,
        net: SeparationNet | None,
        n_mics: int,
        reference_mic: int = 0,
        beam: str = "wiener",
    ) -> None:
        if net is None or not (net.config.causal and net.config.guided):
            raise ValueError("expected a causal, guided network for a live stream, found none")
        if not 1 <= n_mics <= MAX_MICS:
            raise ValueError(f"expected 1 to {MAX_MICS} mics, found {n_mics}")
        if not 0 <= reference_mic < n_mics:
            found = f"expected reference_mic from 0 to {n_mics - 1}, found {reference_mic}"
            raise ValueError(found)
        self.net, self.n_mics, self.reference_mic = net, n_mics, reference_mic
        self.n_talkers = net.config.n_talkers
        device = next(net.parameters()).device
        self.stft, self.long = STFT().to(device), STFT(LIVE_LONG).to(device)
        self._beam = BEAMS[beam]
        self._block = BLOCK * self.long.config.hop
        self.reset()

    @property
    def latency_samples(self) -> int:
        """How far the output lags the input: a block and the overlaps of the transforms."""
        return self._block + self.stft.delay + 2 * self.long.delay

    def reset(self) -> None:
        """Forget all that was heard."""
        self.n_in = self.n_out = 0
        self.sums: CovarianceState | None = None  # of the classes
        self._state: SeparationState | None = None
        self._classes = RunningClasses()
        self._class_stft, self._last = STFTStream(self.long), STFTStream(self.long)
        self._first = STFTStream(self.stft)
        silence = self.long.analysis_window.new_zeros(self.n_mics, 0, dtype=torch.float32)
        self._waiting = silence  # samples of a block that is not complete
        self._unclassed, self._unmasked = _Queue(silence), _Queue(silence)
        self._guard = MicGuard(self.n_mics, self.stft.config.hop)
        self._level = SteadyLevel(self.stft.config.hop)
        self._changes = ChangeFinder(self.long.config)
        self._out: Tensor | None = None  # the mics that were silent in the last block
        self._known: tuple[Tensor, Tensor] | None = None  # the last spectra and masks

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """Take ``x (mics, samples)``, any number of them; return streams ``(talkers, samples)``.

        A mic that fails is silent until it has recovered, and reported once.

        Raises:
            ValueError: another shape.
        """
        check_chunk(x, self.n_mics)
        self.n_in += x.shape[-1]
        streams = self._separate(x.to(self._waiting))
        self.n_out += streams.shape[-1]
        return streams

    @torch.no_grad()
    def flush(self) -> Tensor:
        """The samples still to come when the recording ends; `reset` before the next one."""
        silence = self._waiting.new_zeros(self.n_mics, 2 * self._block)
        return self._separate(silence)[:, : self.n_in - self.n_out]

    def _separate(self, x: Tensor) -> Tensor:
        """Streams of the blocks that ``x`` completes."""
        x = torch.cat([self._waiting, x], -1)
        n_done = x.shape[-1] // self._block * self._block
        self._waiting = x[:, n_done:].clone()
        blocks = x[:, :n_done].split(self._block, -1) if n_done else ()
        return torch.cat([x.new_zeros(self.n_talkers, 0), *map(self._streams, blocks)], -1)

    def _streams(self, x: Tensor) -> Tensor:
        """What a block completes."""
        x = self._level.raised(self._guard.step(x)[0]).to(x)
        classes = self._class_images(x)
        x = self._unclassed.through(x, classes.shape[-1])
        X, C = self._first.analyse(torch.cat([x, classes])).split([self.n_mics, len(classes)])
        (masks, _), self._state = self.net(
            X, self._state, self.reference_mic, shares_of(C), embed=False
        )
        s = self._first.synthesise(masks * X[self.reference_mic])
        x = self._unmasked.through(x, s.shape[-1])
        Z, S = self._last.analyse(torch.cat([x, s])).split([self.n_mics, len(s)])
        streams = self._last.synthesise(self._images(Z, shares_of(S)))[:-1]
        return self._level.lowered(streams)

    def _class_images(self, x: Tensor) -> Tensor:
        """Waveforms of the running classes ``(classes, samples)`` in the reference mic."""
        Z = self._class_stft.analyse(x[heard_mics(self.n_mics, self.reference_mic)])
        return self._class_stft.synthesise(self._classes.step(Z) * Z[0])

    def _posteriors(self, Z: Tensor, masks: Tensor) -> Tensor:
        """What the spatial mixture model makes of the masks of a block."""
        n_new = Z.shape[-1]
        if self._known is not None:
            pairs = zip(self._known, (Z, masks), strict=True)
            Z, masks = (torch.cat(pair, -1)[..., -N_KNOWN:] for pair in pairs)
        self._known = Z, masks
        if self.n_mics < 2:
            return masks[..., -n_new:]
        return spatial_posteriors(Z, masks, _N_EM, "masks")[..., -n_new:].contiguous()

    def _images(self, Z: Tensor, masks: Tensor) -> Tensor:
        """Of the classes ``(classes, freqs, frames)``, by all that was heard so far."""
        masks = self._posteriors(Z, masks)
        sums, out = covariance_sums(Z, masks), mics_out(Z)
        self._watch(Z, out)
        back = self._out is not None and bool((self._out & ~out).any())
        before, self._out = forgetting(self.sums, out, back), out
        if before is not None:
            kept = _FORGETTING ** Z.shape[-1]
            sums += CovarianceState(kept * before.total, kept * before.weight)
        self.sums = sums
        return self._beam(Z, masks, self.reference_mic, sums)

    def _watch(self, Z: Tensor, out: Tensor) -> None:
        """Leave out the mics that have changed until nothing that was known of them is used."""
        changed = self._changes.step(Z, out)
        changed[self.reference_mic] = False  # without which there is nothing to hear
        if changed.any():
            self._guard.leave_out(changed, _LEFT_OUT_S)


class _Queue:
    """Samples ``(mics, samples)`` on the wait for what is made of them."""

    def __init__(self, nothing: Tensor) -> None:
        self._samples = nothing

    def through(self, x: Tensor, n_ready: int) -> Tensor:
        """Put ``x`` in at the end, take so many out at the start."""
        samples = torch.cat([self._samples, x], -1)
        self._samples = samples[:, n_ready:].clone()
        return samples[:, :n_ready]
