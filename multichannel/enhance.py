"""The enhancer: what the mics of any array hear in, one clean talker out.

waveforms -> STFT -> mask network -> covariances -> MVDR -> multi-input GTCRN
                  -> covariances with that estimate -> MVDR -> multi-input GTCRN, once or twice
                  -> ISTFT

One mic alone goes through the mask network only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from multichannel.frontend import BEAM_INPUTS, REFINE_INPUTS, FrontEndConfig
from multichannel.gtcrn import GTCRN, GTCRNConfig
from multichannel.look import Look
from multichannel.stft import STFT, STFTConfig
from multichannel.stream import Stream
from multichannel.weights import find_weights, latency_of, load_gtcrn, pick_device, shipped

if TYPE_CHECKING:
    from multichannel.live import LiveStream

SAMPLE_RATE = 16000
SHORTEST_MS, LONGEST_MS = 18, 32  # latency: a hop of 16 ms and a little to fade over, to a window
_BLOCK_SAMPLES = 15 * SAMPLE_RATE  # fed at once: bounds the memory of long clips


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
