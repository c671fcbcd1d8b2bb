"""The enhancer: what the mics of any array hear in, one clean talker out.

waveforms -> STFT -> mask network -> covariances -> MVDR -> multi-input GTCRN
                  -> covariances with that estimate -> MVDR -> multi-input GTCRN, once or twice
                  -> ISTFT

One mic alone goes through the mask network only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from multichannel.frontend import (
    BEAM_INPUTS,
    REFINE_INPUTS,
    FrontEndConfig,
    MaskNetwork,
    spread_mics,
)
from multichannel.gtcrn import GTCRN, GTCRNConfig
from multichannel.look import Look
from multichannel.lookahead import Listener
from multichannel.offline import ready_net
from multichannel.passes import LivePass, OfflinePass, live_passes, offline_passes
from multichannel.stft import STFT, STFTConfig, STFTStream
from multichannel.weights import find_weights, latency_of, load_gtcrn, pick_device, shipped

if TYPE_CHECKING:
    from multichannel.live import LiveStream

SAMPLE_RATE = 16000
MAX_MICS = 16
SHORTEST_MS, LONGEST_MS = 18, 32  # latency: a hop of 16 ms and a little to fade over, to a window
_BLOCK_SAMPLES = 15 * SAMPLE_RATE  # fed at once: bounds the memory of long clips
_FRAMES_AT_ONCE = 64  # of recursive covariances: bounds the memory


class MicWarning(UserWarning):
    """A microphone was left out."""


class Enhancer(nn.Module):
    """Enhances one talker heard by 1 to 16 mics of any geometry, at 16 kHz.

    Args:
        mono: one-input GTCRN: estimates the speech in the mics, and is all there is for one mic.
        multi: multi-input GTCRN that cleans the beam, fed by `Beamed`; None leaves that to the
            mono network.
        refine: the same for the beams after it, each of which aims at what was found before; None
            ends with the first.
        config: how the beams are made.
        stft: the networks' transform, 512/256 when left out; a shorter synthesis lowers the latency
            of streaming.

    Raises:
        ValueError: ``multi`` or ``refine`` takes other inputs, or ``refine`` stands alone.
    """

    def __init__(
        self,
        mono: GTCRN,
        multi: GTCRN | None = None,
        refine: GTCRN | None = None,
        config: FrontEndConfig | None = None,
        stft: STFTConfig | None = None,
    ) -> None:
        super().__init__()
        for net, inputs in ((multi, BEAM_INPUTS), (refine, REFINE_INPUTS)):
            if net is not None and net.config.inputs != inputs:
                raise ValueError(
                    f"expected a network with {inputs} spectra, magnitudes and cues as inputs, "
                    f"found {net.config.inputs}"
                )
        if refine is not None and multi is None:
            raise ValueError("expected a network for the first beam beside one for the second")
        self.mono, self.multi, self.refine = mono, multi, refine
        self.single = False  # True listens to the reference mic alone
        self.config = config or FrontEndConfig()
        self.stft = STFT(stft)
        self.sample_rate = SAMPLE_RATE

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "default",
        device: str = "auto",
        latency_ms: float | None = None,
    ) -> Enhancer:
        """The enhancer with weights of the package (by name) or of a file.

        ``default`` is the multi-mic enhancer, ``mono`` the mask network alone on the reference mic.
        A file with several inputs replaces the network of `default` that has as many: the one of
        the first beam, which is then the only beam, or the one of the second. A file with one
        input (such as the published weights) is used for the masks and to clean the first beam.

        Args:
            model: name, or path of a ``.safetensors`` file.
            device: ``auto``, ``cpu`` or ``cuda``.
            latency_ms: of streaming, 18 to 32, with any networks; None is what the file was
                trained for, 32 for all that is shipped.

        Raises:
            ValueError: no such model, device or latency, or the file holds another network.
        """
        where, path = pick_device(device), find_weights(model)
        net = load_gtcrn(path)
        stft = stft_of_latency(latency_of(path) if latency_ms is None else latency_ms)
        if net.config.inputs == GTCRNConfig().inputs:
            enhancer = cls(net, stft=stft)
        elif net.config.inputs == REFINE_INPUTS:
            enhancer = cls(load_gtcrn("mono"), load_gtcrn("default"), net, stft=stft)
        elif str(model) == "default" and "refine" in shipped():
            enhancer = cls(load_gtcrn("mono"), net, load_gtcrn("refine"), stft=stft)
        else:
            enhancer = cls(load_gtcrn("mono"), net, stft=stft)
        enhancer.single = str(model) == "mono"
        return enhancer.to(where).eval()

    def cleaners(self, look: Look | None = None, causal: bool = False) -> list[GTCRN]:
        """The network that cleans the first beam, and those of the later ones if there are any.

        A beam that looks somewhere stays alone: the second would aim at whatever the first left.
        """
        first = self.mono if self.multi is None else self.multi
        if self.refine is None or look is not None:
            return [first]
        n_beams = self.config.live_beams if causal else self.config.beams
        return [first, *[self.refine] * (n_beams - 1)]

    def stream(
        self,
        n_mics: int,
        *,
        reference_mic: int | None = None,
        positions_m: Tensor | None = None,
        look_azimuth_deg: float | None = None,
        backend: str = "auto",
    ) -> LiveStream:
        """A live stream: ``step(chunk)`` takes any number of samples and returns those ready.

        Args and raises as `forward`; ``backend`` as `LiveStream`.
        """
        from multichannel.live import LiveStream

        look = _look(n_mics, positions_m, look_azimuth_deg)
        return LiveStream(self, n_mics, reference_mic, look, backend)

    @torch.no_grad()
    def forward(
        self,
        x: Tensor,
        *,
        reference_mic: int | None = None,
        streaming: bool = False,
        positions_m: Tensor | None = None,
        look_azimuth_deg: float | None = None,
        backend: str = "auto",
    ) -> Tensor:
        """Clean talker ``(..., samples)`` of the mixture ``x (..., mics, samples)``.

        Args:
            x: float waveforms at 16 kHz, 1 to 16 mics.
            reference_mic: whose view of the talker is wanted; None chooses the best one.
            streaming: causal: each output sample depends on the past and one window only.
            positions_m: of the mics ``(mics, 3)``, needed with a look direction.
            look_azimuth_deg: listen there, counter-clockwise from the array's x axis.
            backend: of the networks: ``native`` is compiled on first use, ``torch`` needs no
                compiler, ``auto`` takes the compiled one where it can do it.

        Raises:
            ValueError: shapes, number of mics or options that do not fit; no mic is finite.
        """
        if x.ndim < 2 or x.shape[-1] < 1:
            raise ValueError(f"expected x of shape (..., mics, samples), found {tuple(x.shape)}")
        enhanced = [
            self.enhance_blocks(
                clip.split(_BLOCK_SAMPLES, -1),
                reference_mic=reference_mic,
                streaming=streaming,
                positions_m=positions_m,
                look_azimuth_deg=look_azimuth_deg,
                backend=backend,
            )
            for clip in x.reshape(-1, *x.shape[-2:])
        ]
        y = torch.stack([torch.cat(list(blocks)) for blocks in enhanced])
        return y.reshape(*x.shape[:-2], x.shape[-1])

    @torch.no_grad()
    def enhance_blocks(
        self,
        blocks: Iterable[Tensor],
        *,
        reference_mic: int | None = None,
        streaming: bool = False,
        positions_m: Tensor | None = None,
        look_azimuth_deg: float | None = None,
        backend: str = "auto",
    ) -> Iterator[Tensor]:
        """Enhance a recording of any length block by block, in bounded memory.

        Args:
            blocks: waveforms ``(mics, samples)``, any number of samples each.
            others: as `forward`.

        Yields:
            Waveforms ``(samples,)`` that add up to the length of the input; no borders are heard.
        """
        stream = None
        for x in blocks:
            if stream is None:
                look = _look(x.shape[0], positions_m, look_azimuth_deg)
                stream = Stream(self, x.shape[0], reference_mic, streaming, look, backend)
            yield stream.step(x)
        if stream is not None:
            yield stream.flush()


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
        self.enhancer, self.n_mics, self.look = enhancer, n_mics, look
        self.n_in = self.n_out = 0
        self.left_out: set[int] = set()
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
        """Take ``x (mics, samples)``, return the enhanced samples that are ready."""
        if x.ndim != 2 or x.shape[0] != self.n_mics:
            raise ValueError(
                f"expected x of shape ({self.n_mics}, samples), found {tuple(x.shape)}"
            )
        self.n_in += x.shape[-1]
        y = self._enhance(self._usable(x))
        self.n_out += y.shape[-1]
        return y

    @torch.no_grad()
    def flush(self) -> Tensor:
        """The samples still to come when the recording ends; the stream is used up."""
        # Silence pushes the last samples through every window on the way.
        n_windows = 2 * self.enhancer.stft.config.n_fft + self.enhancer.config.beam_n_fft
        n_silence = (1 + len(self.offline)) * n_windows
        tail = [self._enhance(self._device_tensor(torch.zeros(self.n_mics, n_silence)))]
        if self.offline:
            s = tail[0].new_zeros(self.network.mics.numel(), 0)
            last = self.listener.flush(s.new_zeros(self.n_mics, 1, 0))
            for one in self.offline:
                s = one.flush(last, s)
            tail.append(s[0])
        return torch.cat(tail)[: self.n_in - self.n_out]

    def _usable(self, x: Tensor) -> Tensor:
        """Zeros for the mics that hold NaN or infinity; each is reported once."""
        x = self._device_tensor(x)
        broken = ~torch.isfinite(x).all(-1)
        if not broken.any():
            return x
        if broken.all():
            raise ValueError(
                "expected a mic with finite samples, found NaN or infinity in every mic"
            )
        for mic in broken.nonzero().flatten().tolist():
            if mic not in self.left_out:
                warnings.warn(
                    f"mic {mic} holds NaN or infinity; left out", MicWarning, stacklevel=3
                )
                self.left_out.add(mic)
        return torch.where(broken[:, None], torch.zeros_like(x), x)

    def _device_tensor(self, x: Tensor) -> Tensor:
        return x.to(self.enhancer.mono.erb.erb_fc.weight)

    def _enhance(self, x: Tensor) -> Tensor:
        """The samples ``(n,)`` that ``x`` completes."""
        X = self.input.analyse(x.to(self.dtype))
        frames = X.split(_FRAMES_AT_ONCE, -1)
        s = torch.cat([self.output.synthesise(self._estimate(one)) for one in frames], -1)
        if self.offline:
            heard = self.listener.step(x, X)
            for one in self.offline:
                s = one.step(heard, s)
        return s[0].to(x.dtype)

    def _estimate(self, X: Tensor) -> Tensor:
        """What the mask network makes of frames ``X``, and live the passes after it."""
        if not X.shape[-1]:
            return X[: 1 if self.live else self.network.mics.numel()]
        S = self.network.step(X)
        for one in self.live:
            S = one.step(X, S)
        return S


def stft_of_latency(latency_ms: float | None) -> STFTConfig:
    """The networks' own frames, of which only the newest part is put together again.

    Raises:
        ValueError: not 18 to 32 ms.
    """
    if latency_ms is None:
        return STFTConfig()
    if not SHORTEST_MS <= latency_ms <= LONGEST_MS:
        raise ValueError(
            f"expected a latency of {SHORTEST_MS} to {LONGEST_MS} ms, found {latency_ms:g}"
        )
    return STFTConfig(synthesis=2 * round(latency_ms * SAMPLE_RATE / 2000))


def _look(n_mics: int, positions_m: Tensor | None, azimuth_deg: float | None) -> Look | None:
    if azimuth_deg is None:
        return None
    if n_mics == 1:
        raise ValueError("expected at least two mics for a look direction, found 1")
    if positions_m is None:
        raise ValueError("expected the mics' positions with a look direction, found none")
    if len(positions_m) != n_mics:
        raise ValueError(f"expected positions of {n_mics} mics, found {len(positions_m)}")
    return Look(positions_m, azimuth_deg)
