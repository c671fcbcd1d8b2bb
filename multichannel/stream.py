"""One recording on its way through an enhancer, in pieces of any length.

Live and offline alike: the mask network's estimate, then the passes over it (passes.py).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multichannel.frontend import MaskNetwork, spread_mics
from multichannel.lookahead import Listener
from multichannel.mics import MicGuard
from multichannel.mics import MicWarning as MicWarning
from multichannel.offline import ready_net
from multichannel.passes import LivePass, OfflinePass, live_passes, offline_passes
from multichannel.steady import SteadyLevel
from multichannel.stft import STFTStream

if TYPE_CHECKING:
    from multichannel.enhance import Enhancer
    from multichannel.look import Look

MAX_MICS = 16
_FRAMES_AT_ONCE = 64  # of recursive covariances: bounds the memory


class Stream:
    """One recording on its way through an enhancer: samples in, the samples now ready out.

    Args:
        enhancer: the networks.
        n_mics: of the recording.
        reference_mic, look: as `Enhancer.forward`.
        causal: recursive statistics instead of those of the block and its neighbours.
        backend: of the networks, as `ready_net`.

    Raises:
        ValueError: too many mics, no such reference mic, and as `ready_net`.
    """

    def __init__(
        self,
        enhancer: Enhancer,
        n_mics: int,
        reference_mic: int | None = None,
        causal: bool = False,
        look: Look | None = None,
        backend: str = "auto",
    ) -> None:
        if not 1 <= n_mics <= MAX_MICS:
            raise ValueError(f"expected 1 to {MAX_MICS} mics, found {n_mics}")
        if reference_mic is not None and not 0 <= reference_mic < n_mics:
            found = f"expected reference_mic from 0 to {n_mics - 1}, found {reference_mic}"
            raise ValueError(found)
        self.enhancer, self.n_mics, self.look, self.causal = enhancer, n_mics, look, causal
        self.n_in = self.n_out = 0
        self.guard = MicGuard(n_mics, enhancer.stft.config.hop, enhancer.sample_rate)
        self.level = SteadyLevel(enhancer.stft.config.hop, enhancer.sample_rate)
        self.out = torch.zeros(n_mics, dtype=torch.bool)  # in the newest frame
        stft, config = enhancer.stft, enhancer.config
        self.input, self.output = STFTStream(stft), STFTStream(stft)
        single = n_mics == 1 or enhancer.single
        mics = spread_mics(n_mics, config.mask_mics)
        self.nets = [] if single else enhancer.cleaners(look, causal)
        mono, *nets = [ready_net(net, backend) for net in (enhancer.mono, *self.nets)]
        self.network = MaskNetwork(mono, torch.tensor([reference_mic or 0]) if single else mics)
        self.live: list[LivePass] = []
        self.offline: list[OfflinePass] = []
        # live, all but the networks computes in float64: a beam of mics that nearly agree is a
        # small difference of large numbers
        self.dtype = torch.float64 if causal else torch.float32
        if causal:
            self.live = live_passes(nets, stft, config, mics, reference_mic, look)
        else:
            self.listener = Listener(stft, config)
            self.offline = offline_passes(nets, self.listener, config, mics, reference_mic, look)

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """Take ``x (mics, samples)``, return the enhanced samples that are ready.

        Raises:
            ValueError: another shape; offline, a piece without a mic that is finite.
        """
        check_chunk(x, self.n_mics)
        self.n_in += x.shape[-1]
        if not self.causal and x.shape[-1] and not torch.isfinite(x).all(-1).any():
            raise ValueError(
                "expected a mic with finite samples, found NaN or infinity in every mic"
            )
        y = self._enhance(x)
        self.n_out += y.shape[-1]
        return y

    @torch.no_grad()
    def flush(self) -> Tensor:
        """The samples still to come when the recording ends; the stream is used up."""
        # Silence pushes the last samples through every window on the way.
        n_windows = 2 * self.enhancer.stft.config.n_fft + self.enhancer.config.beam_n_fft
        n_silence = (1 + len(self.offline)) * n_windows + self.guard.hop
        tail = [self._enhance(torch.zeros(self.n_mics, n_silence))]
        if self.offline:
            s = tail[0].new_zeros(self.network.mics.numel(), 0)
            last = self.listener.flush(s.new_zeros(self.n_mics, 1, 0))
            for one in self.offline:
                s = one.flush(last, s)
            tail.append(self.level.lowered(s[0]))
        return torch.cat(tail)[: self.n_in - self.n_out]

    def _enhance(self, x: Tensor) -> Tensor:
        """The samples ``(n,)`` that ``x`` completes."""
        x, out = self.guard.step(x)
        x = self.level.raised(x)
        x = x.to(self.enhancer.mono.erb.erb_fc.weight)
        X = self.input.analyse(x.to(self.dtype))
        parts = zip(X.split(_FRAMES_AT_ONCE, -1), out.split(_FRAMES_AT_ONCE, -1), strict=True)
        s = torch.cat([self.output.synthesise(self._estimate(*one)) for one in parts], -1)
        if self.offline:
            heard = self.listener.step(x, X)
            for one in self.offline:
                s = one.step(heard, s)
        return self.level.lowered(s[0].to(x.dtype))

    def _estimate(self, X: Tensor, out: Tensor) -> Tensor:
        """What the mask network makes of frames ``X``, and live the passes after it.

        A mic that is ``out (mics, frames)`` is silent then, and live it is forgotten: a beam for
        the other mics needs nothing else, and what was known of the mic is not true any more.
        """
        if not X.shape[-1]:
            return X[: 1 if self.live else self.network.mics.numel()]
        if not out.any() and not self.out.any():
            return self._estimate_run(X)
        X = torch.where(out.unsqueeze(1).to(X.device), 0, X)
        runs = _runs(out) if self.live else [X.shape[-1]]
        estimates = []
        for x, gone in zip(X.split(runs, -1), out.split(runs, -1), strict=True):
            back = bool((self.out & ~gone[:, 0]).any())
            for one in self.live:
                one.beam.aim.forget(gone[:, 0], back)
            estimates.append(self._estimate_run(x))
            self.out = gone[:, -1].clone()
        return torch.cat(estimates, -1)

    def _estimate_run(self, X: Tensor) -> Tensor:
        """The same of frames in all of which the same mics are out."""
        S = self.network.step(X)
        for one in self.live:
            S = one.step(X, S)
        return S


def _runs(out: Tensor) -> list[int]:
    """Lengths of the runs of equal columns."""
    changes = (out[:, 1:] != out[:, :-1]).any(0).nonzero().flatten() + 1
    borders = [0, *changes.tolist(), out.shape[-1]]
    return [b - a for a, b in itertools.pairwise(borders)]


def check_chunk(x: Tensor, n_mics: int) -> None:
    """Raise ValueError where ``x`` is not ``(n_mics, samples)``."""
    if x.ndim != 2 or x.shape[0] != n_mics:
        raise ValueError(f"expected x of shape ({n_mics}, samples), found {tuple(x.shape)}")
