"""Passes over a recording: an estimate of the talker, a beam that aims at it, a better estimate.

The mask network alone makes the first estimate, of some mics. Every pass after it beams towards the
estimate before and cleans the beam with a network. Offline, passes hand each other samples, because
the beam's window is longer than the network's; live, frames.

Axes: waveforms ``x (mics, samples)``, estimates ``s (estimates, samples)``, spectra ``X``, ``S``
with ``(freqs, frames)`` in place of the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from multichannel.aim import Aim, EstimateAim, PresenceAim
from multichannel.frontend import Beamed, FrontEndConfig, MaskNetwork, RecursiveBeam, spread_mics
from multichannel.gtcrn import GTCRN
from multichannel.look import Look
from multichannel.lookahead import Heard, Listener, LookaheadBeam
from multichannel.offline import AnyNet, ready_net
from multichannel.stft import STFT, STFTConfig, STFTStream


class Cleaner:
    """A network that cleans beams, frame by frame.

    Args:
        net: with the inputs of `Beamed`, or a mono network, which sees the beam alone.
    """

    def __init__(self, net: AnyNet) -> None:
        self.net = net
        self.state: Any = None

    def step(self, beamed: Beamed) -> Tensor:
        """The talker ``(1, freqs, frames)``."""
        if self.net.config.n_maps == 3:
            mask, self.state = self.net(beamed.beam[None].to(torch.complex64), state=self.state)
        else:
            inputs, cues = beamed.inputs.to(torch.complex64), beamed.cues.float()
            mask, self.state = self.net(inputs, cues, state=self.state)
        return (mask * beamed.beam)[None]


class LivePass:
    """Frames in, as many frames out."""

    def __init__(self, aim: Aim, reference_mic: int | None, net: AnyNet | None) -> None:
        self.beam = RecursiveBeam(aim, reference_mic)
        self.cleaner = None if net is None else Cleaner(net)

    def frames(self, X: Tensor, S: Tensor) -> Beamed:
        """The beam of ``X`` towards ``S``, and what a network should know."""
        return self.beam.step(X, S)

    def step(self, X: Tensor, S: Tensor) -> Tensor:
        """The next estimate ``(1, freqs, frames)``."""
        assert self.cleaner is not None
        return self.cleaner.step(self.frames(X, S))


class OfflinePass:
    """Samples in, samples out, up to two blocks later.

    Args:
        before: the pass whose choice of a reference mic this one follows.
    """

    def __init__(
        self,
        beam: LookaheadBeam,
        stft: STFT,
        net: AnyNet | None,
        before: OfflinePass | None = None,
    ) -> None:
        self.beam, self.before = beam, before
        self.cleaner = None if net is None else Cleaner(net)
        self.output = STFTStream(stft)

    def frames(self, heard: Heard, s: Tensor) -> list[Beamed]:
        """Beams that are ready; what was heard waits for ``s``, which may come later."""
        if self.before is not None:
            self.beam.reference_mic = self.before.beam.reference_mic
        return self.beam.step(heard, s)

    def last_frames(self, heard: Heard, s: Tensor) -> list[Beamed]:
        """All other beams, after what was heard and estimated last."""
        return self.frames(heard, s) + self.beam.flush()

    def step(self, heard: Heard, s: Tensor) -> Tensor:
        """Samples ``(1, n)`` of the next estimate that are ready."""
        return self._clean(self.frames(heard, s), s)

    def flush(self, heard: Heard, s: Tensor) -> Tensor:
        """The rest, after the last samples ``s`` of the estimate before."""
        return self._clean(self.last_frames(heard, s), s)

    def _clean(self, frames: list[Beamed], like: Tensor) -> Tensor:
        assert self.cleaner is not None
        samples = [self.output.synthesise(self.cleaner.step(one)) for one in frames]
        return torch.cat(samples, -1) if samples else like.new_zeros(1, 0)


def live_passes(
    nets: Sequence[AnyNet | None],
    stft: STFT,
    config: FrontEndConfig,
    mics: Tensor,
    reference_mic: int | None = None,
    look: Look | None = None,
) -> list[LivePass]:
    """One pass a network; the last may be None when only its beam is wanted."""
    aims = _aims(len(nets), stft, config, mics, look)
    return [LivePass(aim, reference_mic, net) for aim, net in zip(aims, nets, strict=True)]


def offline_passes(
    nets: Sequence[AnyNet | None],
    listener: Listener,
    config: FrontEndConfig,
    mics: Tensor,
    reference_mic: int | None = None,
    look: Look | None = None,
) -> list[OfflinePass]:
    """As `live_passes`, offline; ``listener`` hears for all of them."""
    passes: list[OfflinePass] = []
    aims = _aims(len(nets), listener.long, config, mics, look)
    for aim, net in zip(aims, nets, strict=True):
        beam = LookaheadBeam(aim, listener, reference_mic)
        passes.append(OfflinePass(beam, listener.stft, net, passes[-1] if passes else None))
    return passes


def _aims(
    n_passes: int, stft: STFT, config: FrontEndConfig, mics: Tensor, look: Look | None
) -> list[Aim]:
    """The first pass aims at what the mask network found, the others at the estimate before."""
    aims: list[Aim] = [PresenceAim(config, stft, mics, look)]
    aims += [EstimateAim(config) for _ in range(n_passes - 1)]
    return aims[:n_passes]


@torch.no_grad()
def front_end_frames(
    mono: GTCRN,
    nets: Sequence[GTCRN],
    mixture: Tensor,
    causal: bool = False,
    config: STFTConfig | None = None,
) -> Beamed:
    """What the network of the next pass sees of a clip, from mic 0: for training it.

    Args:
        mono: the mask network.
        nets: of the passes before: none for the first.
        mixture: ``(mics, samples)``.
        causal: as heard live.
        config: of the networks' transform.

    Returns:
        All frames of the clip.
    """
    stft, front_end = STFT(config), FrontEndConfig()
    n_frames = stft.config.n_frames(mixture.shape[-1])
    n_silence = (2 + len(nets)) * (2 * stft.config.n_fft + front_end.beam_n_fft)
    # in double precision where the live stream is
    x = torch.nn.functional.pad(mixture.double() if causal else mixture, (0, n_silence))
    network = MaskNetwork(ready_net(mono), spread_mics(x.shape[0], front_end.mask_mics))
    X = stft(x)
    S = network.step(X)
    every: list[AnyNet | None] = [*(ready_net(net) for net in nets), None]
    if causal:
        *before, last = live_passes(every, stft, front_end, network.mics, 0)
        for one in before:
            S = one.step(X, S)
        ready = [last.frames(X, S)]
    else:
        listener = Listener(stft, front_end)
        *earlier, final = offline_passes(every, listener, front_end, network.mics, 0)
        s = stft.inverse(S, x.shape[-1])
        heard, rest = listener.step(x, X), listener.flush(X)
        for pass_ in earlier:
            s = torch.cat([pass_.step(heard, s), pass_.flush(rest, s[..., :0])], -1)
        ready = final.frames(heard, s) + final.last_frames(rest, s[..., :0])
    kept = ([part for part in one if part is not None] for one in ready)
    parts = [torch.cat(part, -1)[..., :n_frames] for part in zip(*kept, strict=True)]
    return Beamed(
        *(part.to(torch.complex64 if part.is_complex() else torch.float32) for part in parts)
    )
