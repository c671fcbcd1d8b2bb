"""Proof that an exported file does what the model does: the same sound, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clearbeam.export.live import Part
from multichannel import STFT, Enhancer
from multichannel.passes import front_end_frames
from simulate import SceneConfig, render, sample_scene

SECONDS = 3.0
# float32 is no more exact than this: where mics nearly agree, a beam is a small difference of large
# numbers, and the model in float32 is up to 4e-4 of the peak (70 dB) from itself in
# float64.
TOLERANCE = 1e-3
SNR_DB = 60.0

Frame = Callable[..., tuple[Any, Any]]


@dataclass(frozen=True)
class Agreement:
    """How far the file's sound is from the model's: largest sample error over the peak, and SNR."""

    error: float
    snr_db: float


def room_recording(n_mics: int, seconds: float | None = None) -> Tensor:
    """A built-in talker in a simulated noisy room, ``(mics, samples)``; None is `SECONDS`."""
    scene = SceneConfig.load("quickstart").model_dump(exclude_unset=True)
    # wide, so that no two mics are so alike that rounding decides whether one is left out
    scene["array"] = {"random": {"mics": n_mics, "kinds": ["circular"], "aperture_m": 0.3}}
    config = SceneConfig.model_validate({**scene, "duration_s": seconds or SECONDS})
    return torch.from_numpy(render(sample_scene(config, 0, 0)).mixture).float()


@torch.no_grad()
def inputs_of(enhancer: Enhancer, which: str, mixture: Tensor) -> list[Tensor]:
    """What a part sees of a recording, every tensor ``(..., 257, frames)``.

    Args:
        enhancer: whose parts they are.
        which: pipeline, mono, multi or refine.
        mixture: ``(mics, samples)``.
    """
    X = STFT()(mixture)
    if which == "pipeline":
        return [X]
    if which == "mono":
        return [X[:1]]
    before = [enhancer.multi] if which == "refine" and enhancer.multi is not None else []
    beamed = front_end_frames(enhancer.mono, before, mixture, causal=True)
    return [beamed.inputs, beamed.cues]


@torch.no_grad()
def by_model(part: Part, inputs: Sequence[Tensor]) -> Tensor:
    """The model's own output for all frames, one at a time: ``(257, frames)``."""
    frames = zip(*(x.split(1, -1) for x in inputs), strict=True)
    return torch.cat([part.step(*frame) for frame in frames], -1)


@torch.no_grad()
def by_file(frame: Frame, inputs: Sequence[Tensor]) -> Tensor:
    """The same by an exported file, whose ``frame`` takes and gives real arrays."""
    outputs = [frame(*one) for one in frames_of(inputs)]
    parts = (np.concatenate(part, -1) for part in zip(*outputs, strict=True))
    return torch.complex(*(torch.from_numpy(part) for part in parts))


def frames_of(inputs: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """The real tensors of each frame of a part's inputs."""
    real = [part for x in inputs for part in _parts(x)]
    return zip(*(x.split(1, -1) for x in real), strict=True)


def agreement(expected: Tensor, found: Tensor) -> Agreement:
    """Compare two spectra ``(257, frames)`` as sounds."""
    x, y = (STFT().inverse(S).double() for S in (expected, found))
    error = y - x
    noise = error.square().sum().clamp(min=1e-30)
    return Agreement(
        float(error.abs().max() / x.abs().max()), float(10 * torch.log10(x.square().sum() / noise))
    )


def as_spectrum(which: str, output: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """A network's mask applied to its first spectrum; the pipeline's output as it is."""
    return output if which == "pipeline" else output * inputs[0][0]


def _parts(x: Tensor) -> list[Tensor]:
    return [x.real.contiguous(), x.imag.contiguous()] if x.is_complex() else [x]
