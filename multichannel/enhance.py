"""The enhancer: what the mics of any array hear in, one clean talker out.

waveforms -> STFT -> mask network -> covariances -> MVDR -> multi-input GTCRN -> ISTFT

One mic alone goes through the mask network only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from multichannel.frontend import (
    BEAM_INPUTS,
    Beamed,
    FrontEndConfig,
    RecursiveBeam,
)
from multichannel.gtcrn import GTCRN, GTCRNConfig, GTCRNState
from multichannel.look import Look
from multichannel.lookahead import LookaheadBeam
from multichannel.stft import STFT, STFTStream
from multichannel.weights import find_weights, load_gtcrn, pick_device

SAMPLE_RATE = 16000
MAX_MICS = 16
_BLOCK_SAMPLES = 15 * SAMPLE_RATE  # fed at once: bounds the memory of long clips


class MicWarning(UserWarning):
    """A microphone was left out."""


class Enhancer(nn.Module):
    """Enhances one talker heard by 1 to 16 mics of any geometry, at 16 kHz.

    Args:
        mono: one-input GTCRN: estimates the speech in the mics, and is all there is for one mic.
        multi: multi-input GTCRN that cleans the beam, fed by `Beamed`; None leaves that to the
            mono network.
        config: how the beam is made.

    Raises:
        ValueError: ``multi`` takes other inputs.
    """

    def __init__(
        self, mono: GTCRN, multi: GTCRN | None = None, config: FrontEndConfig | None = None
    ) -> None:
        super().__init__()
        if multi is not None and multi.config.inputs != BEAM_INPUTS:
            raise ValueError(
                f"expected a network with {BEAM_INPUTS} spectra, magnitudes and cues as inputs, "
                f"found {multi.config.inputs}"
            )
        self.mono, self.multi = mono, multi
        self.single = False  # True listens to the reference mic alone
        self.config = config or FrontEndConfig()
        self.stft = STFT()
        self.sample_rate = SAMPLE_RATE

    @classmethod
    def from_pretrained(cls, model: str | Path = "default", device: str = "auto") -> Enhancer:
        """The enhancer with weights of the package (by name) or of a file.

        ``default`` is the multi-mic enhancer, ``mono`` the mask network alone on the reference mic.
        A file with several inputs replaces the multi-input network of ``default``; one with one
        input (such as the published weights) is used for the masks and to clean the beam.

        Raises:
            ValueError: no such model or device, or the file holds another network.
        """
        where = pick_device(device)
        net = load_gtcrn(find_weights(model))
        if net.config.inputs == GTCRNConfig().inputs:
            enhancer = cls(net)
        else:
            enhancer = cls(load_gtcrn("mono"), net)
        enhancer.single = str(model) == "mono"
        return enhancer.to(where).eval()

    @torch.no_grad()
    def forward(
        self,
        x: Tensor,
        *,
        reference_mic: int | None = None,
        streaming: bool = False,
        positions_m: Tensor | None = None,
        look_azimuth_deg: float | None = None,
    ) -> Tensor:
        """Clean talker ``(..., samples)`` of the mixture ``x (..., mics, samples)``.

        Args:
            x: float waveforms at 16 kHz, 1 to 16 mics.
            reference_mic: whose view of the talker is wanted; None chooses the best one.
            streaming: causal: each output sample depends on the past and one window only.
            positions_m: of the mics ``(mics, 3)``, needed with a look direction.
            look_azimuth_deg: listen there, counter-clockwise from the array's x axis.

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
                stream = Stream(self, x.shape[0], reference_mic, streaming, look)
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

    Raises:
        ValueError: too many mics, or no such reference mic.
    """

    def __init__(
        self,
        enhancer: Enhancer,
        n_mics: int,
        reference_mic: int | None = None,
        causal: bool = False,
        look: Look | None = None,
    ) -> None:
        if not 1 <= n_mics <= MAX_MICS:
            raise ValueError(f"expected 1 to {MAX_MICS} mics, found {n_mics}")
        if reference_mic is not None and not 0 <= reference_mic < n_mics:
            found = f"expected reference_mic from 0 to {n_mics - 1}, found {reference_mic}"
            raise ValueError(found)
        self.enhancer, self.n_mics, self.reference_mic = enhancer, n_mics, reference_mic
        self.stft = enhancer.stft
        self.n_in = self.n_out = 0
        self.left_out: set[int] = set()
        self.net_state: GTCRNState | None = None
        self.input, self.output = STFTStream(self.stft), STFTStream(self.stft)
        self.beam: RecursiveBeam | LookaheadBeam | None = None
        if n_mics > 1 and not enhancer.single:
            kind = RecursiveBeam if causal else LookaheadBeam
            self.beam = kind(enhancer.mono, self.stft, enhancer.config, n_mics, reference_mic, look)

    def step(self, x: Tensor) -> Tensor:
        """Take ``x (mics, samples)``, return the enhanced samples that are ready."""
        if x.ndim != 2 or x.shape[0] != self.n_mics:
            raise ValueError(
                f"expected x of shape ({self.n_mics}, samples), found {tuple(x.shape)}"
            )
        self.n_in += x.shape[-1]
        return self._finish(self._frames(self._usable(x)))

    def flush(self) -> Tensor:
        """The samples still to come when the recording ends; the stream is used up."""
        # Silence pushes the last samples through every window on the way.
        config = self.enhancer.config
        n_silence = 3 * self.stft.config.n_fft + 2 * config.beam_n_fft
        x = self._device_tensor(torch.zeros(self.n_mics, n_silence))
        n_missing = self.n_in - self.n_out
        tail = [self._finish(self._frames(x))]
        if self.beam is not None:
            tail.append(self._finish(self.beam.flush()))
        return torch.cat(tail)[:n_missing]

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

    def _frames(self, x: Tensor) -> list[Beamed]:
        if self.beam is not None:
            return self.beam.step(x)
        X = self.input.analyse(x[self.reference_mic or 0])
        ones = torch.ones_like(X.real)
        return [Beamed(X, X, ones, ones)] if X.shape[-1] else []

    def _finish(self, frames: list[Beamed]) -> Tensor:
        """Mask the beam and go back to samples."""
        samples = [self.output.synthesise(self._mask(one) * one.beam) for one in frames]
        y = torch.cat(samples) if samples else torch.zeros(0)
        self.n_out += y.shape[-1]
        return y

    def _mask(self, beamed: Beamed) -> Tensor:
        enhancer = self.enhancer
        if self.beam is None or enhancer.multi is None:
            mask, self.net_state = enhancer.mono(beamed.beam[None], state=self.net_state)
        else:
            mask, self.net_state = enhancer.multi(beamed.inputs, beamed.cues, state=self.net_state)
        return mask


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
