"""The beams that systems are built from: baselines that know the truth, and blind ones.

A beam is `(mixture (mics, samples), clip) -> (samples,)`, in phase with the clip's reference mic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from clearbeam.clips import Clip
from clearbeam.metrics import SAMPLE_RATE
from multichannel.beamform import apply_beamformer, mvdr_souden
from multichannel.spatial import masked_covariance
from multichannel.steered import delay_and_sum, superdirective
from multichannel.steering import diffuse_covariance, steering_vector
from multichannel.stft import STFT, STFTConfig

SHORT = STFTConfig()
MIDDLE = STFTConfig(n_fft=1024, hop=256)
LONG = STFTConfig(n_fft=2048, hop=512)  # what a beam likes, and a network cannot wait for


class System(Protocol):
    """From what the mics heard to one clean talker."""

    def __call__(self, mixture: Tensor, clip: Clip, /) -> Tensor:
        """mixture (mics, samples) -> estimate (samples,)."""


def noisy(mixture: Tensor, clip: Clip) -> Tensor:
    """The reference mic as recorded."""
    return mixture[clip.reference_mic]


def steered_beam(design: Callable[..., Tensor], mixture: Tensor, clip: Clip) -> Tensor:
    """A beam of fixed `design` towards the first talker.

    Raises ValueError where positions are not known, as in measured rooms.
    """
    if clip.mics_m is None or clip.talkers_m is None:
        raise ValueError("expected known positions for a steered beam, found none")
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
    mask = ratio_mask(S, (Y if len(S) == len(Y) else Y[reference_mic, None]) - S).mean(0)
    psd_speech, psd_noise = masked_covariance(Y, torch.stack([mask, 1 - mask]))
    w = mvdr_souden(psd_speech, psd_noise, reference_mic)
    return stft.inverse(apply_beamformer(w, Y), mixture.shape[-1])


def ratio_mask(S: Tensor, N: Tensor) -> Tensor:
    """The share of speech in the power of speech and noise; 0 where there is neither."""
    power, rest = S.abs().square(), N.abs().square()
    return torch.nan_to_num(power / (power + rest))


def oracle_beam(config: STFTConfig, mixture: Tensor, clip: Clip) -> Tensor:
    """Souden MVDR with the mask of the true image at the reference mic."""
    return souden_beam(config, mixture, clip.reference[None], clip.reference_mic)


def oracle_mask(mixture: Tensor, clip: Clip) -> Tensor:
    """The reference mic under the ratio mask of the true image, at 512/256."""
    stft = STFT(SHORT)
    Y, S = stft(mixture[clip.reference_mic]), stft(clip.reference)
    return stft.inverse(ratio_mask(S, Y - S) * Y, mixture.shape[-1])


def blind_beam(
    config: STFTConfig, network: Callable[[Tensor], Tensor], mixture: Tensor, clip: Clip
) -> Tensor:
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
    "oracle-mvdr-1024": partial(oracle_beam, MIDDLE),
    "oracle-mvdr-2048": partial(oracle_beam, LONG),
    "oracle-mask": oracle_mask,
}
BLIND_BEAMS: dict[str, Callable[..., Tensor]] = {
    "mvdr": partial(blind_beam, SHORT),
    "mvdr-2048": partial(blind_beam, LONG),
}
