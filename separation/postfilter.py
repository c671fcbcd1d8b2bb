"""What a post-filter sees of a talker: his stream, and what could have got into it or been lost.

The post-filter is a multi-input GTCRN that masks the stream. Its inputs are those of the network of
the second beam in `multichannel`, with the other talkers added, so it can begin with its weights.

Axes: waveforms ``x (mics, samples)`` and ``streams (talkers, samples)``; spectra with ``(freqs,
frames)`` in place of the samples.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from multichannel.aim import EstimateAim
from multichannel.beamform import apply_beamformer
from multichannel.frontend import FrontEndConfig, array_gain, presence_of
from multichannel.gtcrn import GTCRN
from multichannel.stft import STFT

# Spectra, magnitudes and cues of `PostInputs`.
POST_INPUTS = (4, 1, 2)


class PostInputs(NamedTuple):
    """Of every talker, in the network's STFT, all ``(talkers, freqs, frames)``.

    ``stream`` is what is masked. ``reference`` is the mic, ``beam`` an MVDR beam towards the
    stream, from which nothing of the talker is missing, ``others`` the sum of the other streams;
    ``presence`` the stream's share of the mic's power, ``gain`` how much of the mics' mean
    magnitude is left in the stream, both in 0..1.
    """

    stream: Tensor
    reference: Tensor
    beam: Tensor
    others: Tensor
    presence: Tensor
    gain: Tensor

    @property
    def spectra(self) -> Tensor:
        """Those that are kept for training ``(talkers, 4, freqs, frames)``."""
        return torch.stack([self.stream, self.reference, self.beam, self.others], 1)

    @property
    def inputs(self) -> Tensor:
        """Spectra for the network, with what the stream leaves of the mic as the last."""
        return with_rest(self.spectra)

    @property
    def cues(self) -> Tensor:
        """Real maps for the network ``(talkers, 2, freqs, frames)``."""
        return torch.stack([self.presence, self.gain], 1)


def with_rest(spectra: Tensor) -> Tensor:
    """The inputs of the network from the spectra that are kept ``(..., 4, freqs, frames)``."""
    rest = spectra[..., 1:2, :, :] - spectra[..., :1, :, :]
    return torch.cat([spectra, rest], -3)


def post_inputs(
    x: Tensor, streams: Tensor, stft: STFT, long: STFT, reference_mic: int = 0
) -> PostInputs:
    """What the post-filter sees of a recording that was separated.

    Args:
        x: ``(mics, samples)``.
        streams: ``(talkers, samples)``.
        stft, long: the network's transform and the beam's.
        reference_mic: whose view of the talkers is kept.
    """
    X, S = stft(x), stft(streams)
    B = stft(beams_towards(x, streams, long, reference_mic))
    reference = X[reference_mic].expand_as(S)
    presence = torch.stack([presence_of(s[None], X[reference_mic, None]) for s in S])
    gain = torch.stack([array_gain(s, X) for s in S])
    return PostInputs(S, reference, B, S.sum(0) - S, presence, gain)


def beams_towards(x: Tensor, streams: Tensor, long: STFT, reference_mic: int = 0) -> Tensor:
    """MVDR beams towards the streams ``(talkers, samples)``."""
    aim = EstimateAim(FrontEndConfig())
    Z, beams = long(x), []
    for S in long(streams):
        w, _ = aim.block_weights(aim.sums(Z, S[None]), reference_mic)
        beams.append(apply_beamformer(w, Z))
    return long.inverse(torch.stack(beams), x.shape[-1])


def cleaned(net: GTCRN, seen: PostInputs, stft: STFT, n_samples: int) -> Tensor:
    """The streams ``(talkers, samples)`` after the network."""
    mask, _ = net(seen.inputs, seen.cues)
    return stft.inverse(mask * seen.stream, n_samples)
