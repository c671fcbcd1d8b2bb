"""Everything that can be evaluated, by name: our systems and the baselines beside them.

    noisy                              the reference mic as recorded
    delay-and-sum, superdirective      a beam towards the talker's true direction
    oracle-mvdr, oracle-mvdr-2048      Souden MVDR with the mask of the true early image, at an STFT
                                       of 512/256 or 2048/512
    clearbeam, clearbeam-streaming     the shipped chain, with the whole clip in view or causal
    mono                               the same on the reference mic alone
    clearbeam:MODEL and so on          the same with the weights of that name or path
    gtcrn:PATH                         a one-input GTCRN, such as the published one, on that mic
    BEAM+gtcrn:PATH                    that network after one of the beams above
    mvdr+gtcrn:PATH, mvdr-2048+...     that network makes the mask, Souden MVDR the beam, and the
                                       network cleans the beam

A system is `(mixture (mics, samples), clip) -> estimate (samples,)`, float32 at 16 kHz. A blind one
asks the clip for nothing but its reference mic.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from clearbeam.clips import Clip
from clearbeam.metrics import SAMPLE_RATE
from multichannel.beamform import apply_beamformer, mvdr_souden
from multichannel.gtcrn import GTCRNConfig
from multichannel.spatial import masked_covariance
from multichannel.steered import delay_and_sum, superdirective
from multichannel.steering import diffuse_covariance, steering_vector
from multichannel.stft import STFT, STFTConfig
from multichannel.weights import find_weights, load_gtcrn

DEFAULT_SYSTEMS = (
    "noisy", "delay-and-sum", "superdirective", "oracle-mvdr", "oracle-mvdr-2048", "mono",
    "clearbeam-streaming", "clearbeam",
)  # fmt: skip

SHORT = STFTConfig()
LONG = STFTConfig(n_fft=2048, hop=512)  # what a beam likes, and a network cannot wait for


class System(Protocol):
    """From what the mics heard to one clean talker."""

    def __call__(self, mixture: Tensor, clip: Clip, /) -> Tensor:
        """mixture (mics, samples) -> estimate (samples,)."""


# ------------------------------------------------------------------------------------- the names


def make_system(name: str) -> System:
    """The system of that name, on the CPU.

    Raises ValueError for an unknown name, saying which is nearest, and for weights that are none.
    """
    front, weights, model = _parse(name)
    if weights is not None:
        network = OneInputNetwork(weights)
        if front in BLIND_BEAMS:
            return Chain(partial(BLIND_BEAMS[front], network), network)
        return Chain(BEAMS[front], network)
    return BEAMS[front] if front in BEAMS else OURS[front](model)


def check_system(name: str) -> None:
    """Raise ValueError if `make_system` certainly would, without loading anything."""
    front, weights, model = _parse(name)
    if weights is not None and not weights.is_file():
        raise ValueError(f"expected GTCRN weights, found no file {weights}")
    if front in OURS:
        find_weights(model)


def system_files(name: str) -> list[Path]:
    """The user's own files that the system's output depends on: weights and their config."""
    _, weights, model = _parse(name)
    brought = weights or Path(model)
    if brought.suffix != ".safetensors":
        return []
    return [path for path in (brought, brought.with_suffix(".json")) if path.is_file()]


def _parse(name: str) -> tuple[str, Path | None, str]:
    """A name as its front (a key of the tables), the weights of a GTCRN, and our own model."""
    head, found, path = name.partition("gtcrn:")
    if found and path and (not head or head.endswith("+")):
        front = head.removesuffix("+") or "noisy"
        if front in BEAMS or front in BLIND_BEAMS:
            return front, Path(path), ""
    front, found, model = name.partition(":")
    if front in OURS and bool(found) == bool(model):
        return front, None, model or ("mono" if front == "mono" else "default")
    if name in BEAMS:
        return name, None, ""
    raise ValueError(f"expected a system's name, found {name}: {_nearest(name)}")


def _nearest(name: str) -> str:
    known = [*BEAMS, *OURS, "gtcrn:PATH", *(f"{beam}+gtcrn:PATH" for beam in BLIND_BEAMS)]
    longer = [other for other in known if other.startswith(name)]
    close = longer or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


# --------------------------------------------------------------------------------------- the beams


def noisy(mixture: Tensor, clip: Clip) -> Tensor:
    """The reference mic as recorded."""
    return mixture[clip.reference_mic]


def steered_beam(design: Callable[..., Tensor], mixture: Tensor, clip: Clip) -> Tensor:
    """A beam of fixed `design` towards the first talker, in phase with the reference mic."""
    centre = clip.mics_m.mean(0)
    towards = clip.talkers_m[0] - centre
    azimuth = torch.rad2deg(torch.atan2(towards[1], towards[0]))
    elevation = torch.rad2deg(torch.asin(towards[2] / towards.norm()))
    stft = STFT(LONG)
    freqs_hz = stft.config.freqs_hz(SAMPLE_RATE)
    positions = clip.mics_m - centre
    steering = steering_vector(
        positions, freqs_hz, azimuth, elevation, reference_mic=clip.reference_mic
    )
    w = design(steering, positions, freqs_hz)
    return stft.inverse(apply_beamformer(w, stft(mixture)), mixture.shape[-1])


def souden_beam(config: STFTConfig, mixture: Tensor, speech: Tensor, reference_mic: int) -> Tensor:
    """Souden MVDR whose mask is the share of `speech` in the power of the mics.

    speech: estimates of the talker at the same mics, (mics, samples), or (1, samples) at the
    reference mic only. The masks of several mics are averaged.
    """
    stft = STFT(config)
    Y, S = stft(mixture), stft(speech)
    N = (Y if len(S) == len(Y) else Y[reference_mic, None]) - S
    power, rest = S.abs().square(), N.abs().square()
    mask = torch.nan_to_num(power / (power + rest)).mean(0)
    psd_speech, psd_noise = masked_covariance(Y, torch.stack([mask, 1 - mask]))
    w = mvdr_souden(psd_speech, psd_noise, reference_mic)
    return stft.inverse(apply_beamformer(w, Y), mixture.shape[-1])


def oracle_beam(config: STFTConfig, mixture: Tensor, clip: Clip) -> Tensor:
    """Souden MVDR with the mask of the true early image at the reference mic."""
    early = clip.early.sum(0)[clip.reference_mic, None]
    return souden_beam(config, mixture, early, clip.reference_mic)


def blind_beam(config: STFTConfig, network: OneInputNetwork, mixture: Tensor, clip: Clip) -> Tensor:
    """Souden MVDR with the mask of what the network makes of each mic."""
    return souden_beam(config, mixture, network(mixture), clip.reference_mic)


def _delay_and_sum(steering: Tensor, positions_m: Tensor, freqs_hz: Tensor) -> Tensor:
    return delay_and_sum(steering)


def _superdirective(steering: Tensor, positions_m: Tensor, freqs_hz: Tensor) -> Tensor:
    return superdirective(diffuse_covariance(positions_m, freqs_hz), steering)


BEAMS: dict[str, System] = {
    "noisy": noisy,
    "delay-and-sum": partial(steered_beam, _delay_and_sum),
    "superdirective": partial(steered_beam, _superdirective),
    "oracle-mvdr": partial(oracle_beam, SHORT),
    "oracle-mvdr-2048": partial(oracle_beam, LONG),
}
BLIND_BEAMS: dict[str, Callable[..., Tensor]] = {
    "mvdr": partial(blind_beam, SHORT),
    "mvdr-2048": partial(blind_beam, LONG),
}


# ------------------------------------------------------------------------------------- the networks


class OneInputNetwork:
    """A one-input GTCRN that the user brings: (..., samples) -> (..., samples).

    Raises ValueError when the file holds anything else.
    """

    def __init__(self, path: Path) -> None:
        self.stft, self.network = STFT(), load_gtcrn(path)
        if self.network.config.n_maps != GTCRNConfig().n_maps:
            raise ValueError(
                f"expected a GTCRN of one input, found {self.network.config.n_maps} maps in {path}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        X = self.stft(x)
        mask, _ = self.network(X.unsqueeze(-3))
        return self.stft.inverse(mask * X, x.shape[-1])


class Chain:
    """A beam, then a network on the beam."""

    def __init__(self, beam: System, network: OneInputNetwork) -> None:
        self.beam, self.network = beam, network

    def __call__(self, mixture: Tensor, clip: Clip) -> Tensor:
        return self.network(self.beam(mixture, clip))


class Ours:
    """The shipped chain, or the one of a model the user trained."""

    def __init__(self, model: str, *, streaming: bool = False, mono: bool = False) -> None:
        # Imported late: the baselines need no weights of ours.
        from multichannel.enhance import Enhancer

        self.enhancer = Enhancer.from_pretrained(model, device="cpu")
        self.streaming, self.mono = streaming, mono

    def __call__(self, mixture: Tensor, clip: Clip) -> Tensor:
        mic = clip.reference_mic
        if self.mono:
            mixture, mic = mixture[mic, None], 0
        return self.enhancer(mixture, reference_mic=mic, streaming=self.streaming)


OURS: dict[str, Callable[[str], System]] = {
    "clearbeam": Ours,
    "clearbeam-streaming": partial(Ours, streaming=True),
    "mono": partial(Ours, mono=True),
}
