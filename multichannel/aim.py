"""What a beam aims at: the speech that a mask found, or an estimate of the talker.

An aim turns spectra of the mics and of an estimate into statistics, statistics into beamformer
weights, and the beam into what the network after it sees. Offline its statistics are sums over a
block, which add; live they are running means.

Axes: mics ``X (mics, freqs, frames)``, estimates ``S (estimates, freqs, frames)``.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from multichannel.beamform import choose_reference_mic, mvdr_souden
from multichannel.cacgmm import spatial_posteriors
from multichannel.frontend import Beamed, FrontEndConfig, array_gain, living_mic, presence_of
from multichannel.loading import loading_for_frames
from multichannel.look import Look
from multichannel.spatial import (
    CovarianceState,
    covariance_sums,
    recursive_covariance,
    total_power,
)
from multichannel.stft import STFT

_TINY = 1e-30
# Iterations of the mixture model: more make it surer, not better. With fewer frames a mic, or fewer
# than a second has, what it learns of directions is worth less than the presence it began with.
_N_EM, _FRAMES_PER_MIC, _FEWEST_FRAMES = 2, 5, 30
# Nor where less than this of a frame a mic, or of all power, is speech: next to nothing makes any
# sound a talker.
_SPEECH_PER_MIC, _SPEECH_OF_POWER = 0.05, 0.02
_STRENGTH = 1.5  # of what the mics say beside the presence; 1 gives two mics 0.04 dB less
# This share of what the estimate explains counts as noise: without any, a mixture that is explained
# to the last bit would leave rounding errors as its noise. A fit to n frames explains 1/n anyway.
_UNEXPLAINED = 1e-3
# Live, of the statistics when a mic comes back: one that was absent from most of them looks like
# one that often hears nothing, and a beam that thinks so costs 2 dB for seconds.
_KEPT = 0.1


class Aim(Protocol):
    """What `LookaheadBeam` and `RecursiveBeam` ask for."""

    def sums(self, X: Tensor, S: Tensor) -> CovarianceState:
        """Statistics of a block of frames; those of several blocks add."""

    def block_weights(self, sums: CovarianceState, reference_mic: int | None) -> tuple[Tensor, int]:
        """Weights ``(freqs, mics)`` and the reference mic, chosen here where it is None."""

    def live_weights(self, X: Tensor, S: Tensor, reference_mic: int | Tensor) -> Tensor:
        """Weights ``(freqs, frames, mics)`` from all frames so far."""

    def forget(self, out: Tensor, back: bool) -> None:
        """Live: forget the mics that are ``out (mics,)``, of which nothing known is true any more;
        and most of what is older than one that comes ``back``, which was not in it."""

    def beamed(self, beam: Tensor, X: Tensor, S: Tensor, reference_mic: int | Tensor) -> Beamed:
        """What the network sees of a beam ``(freqs, frames)``."""


class PresenceAim:
    """MVDR (Souden) from the presence of speech; or steered by a look.

    Args:
        config: loading and forgetting.
        stft: of the spectra that come in.
        mics: which of them ``S`` are estimates of ``(estimates,)``.
        look: direction to listen to.
    """

    def __init__(
        self, config: FrontEndConfig, stft: STFT, mics: Tensor, look: Look | None = None
    ) -> None:
        self.config, self.stft, self.mics, self.look = config, stft, mics, look
        self.speech: CovarianceState | None = None
        self.noise: CovarianceState | None = None

    def _target(self, X: Tensor, S: Tensor) -> Tensor:
        presence = presence_of(S, X[self.mics])
        return presence if self.look is None else presence * self.look.gate(X, self.stft)

    def sums(self, X: Tensor, S: Tensor) -> CovarianceState:
        target = heard_presence(X, self._target(X, S)).mT
        return covariance_sums(X, torch.stack([target, 1 - target]).mT)

    def block_weights(self, sums: CovarianceState, reference_mic: int | None) -> tuple[Tensor, int]:
        psd_speech, psd_noise = sums.mean().unbind(-4)
        n_mics, n_noise_frames = psd_noise.shape[-1], sums.weight[1, :, 0, 0]
        loading = self.config.loading + loading_for_frames(n_noise_frames, n_mics)
        power = sums.total.sum(0).diagonal(dim1=-2, dim2=-1).real.sum(0)
        if reference_mic is None or reference_mic != living_mic(power, reference_mic):
            reference_mic = int(choose_reference_mic(psd_speech, psd_noise, loading))
        if self.look is None:
            return mvdr_souden(psd_speech, psd_noise, reference_mic, loading), reference_mic
        psd_mixture = CovarianceState(sums.total.sum(0), sums.weight.sum(0)).mean()
        return self.look.weights(psd_noise, self.stft, reference_mic, psd_mixture), reference_mic

    def live_weights(self, X: Tensor, S: Tensor, reference_mic: int | Tensor) -> Tensor:
        target, config = self._target(X, S), self.config
        psd_speech, self.speech = recursive_covariance(
            X, target, config.speech_forgetting, self.speech
        )
        psd_noise, self.noise = recursive_covariance(
            X, 1 - target, config.noise_forgetting, self.noise
        )
        if self.look is None:
            return mvdr_souden(psd_speech, psd_noise, reference_mic, config.live_loading)
        return self.look.weights(psd_noise, self.stft, reference_mic)

    def forget(self, out: Tensor, back: bool) -> None:
        states = self.speech, self.noise
        self.speech, self.noise = (forgetting(one, out, back) for one in states)

    def beamed(self, beam: Tensor, X: Tensor, S: Tensor, reference_mic: int | Tensor) -> Beamed:
        presence = presence_of(S, X[self.mics])
        return Beamed(beam, X[reference_mic], presence, array_gain(beam, X))


class EstimateAim:
    """MVDR towards one estimate of the talker, as the reference mic hears him.

    Args:
        config: loading and forgetting.
    """

    def __init__(self, config: FrontEndConfig) -> None:
        self.config = config
        self.state: CovarianceState | None = None
        self.n_frames = 0

    def sums(self, X: Tensor, S: Tensor) -> CovarianceState:
        n_freqs, n_frames = X.shape[-2:]
        sums = covariance_sums(X, _evening(X).square(), S)
        return CovarianceState(sums.total, sums.weight.new_full((n_freqs, 1, 1), n_frames))

    def block_weights(self, sums: CovarianceState, reference_mic: int | None) -> tuple[Tensor, int]:
        reference_mic, n_frames = reference_mic or 0, sums.weight[:, 0, 0]
        w = mvdr_towards_estimate(sums.mean(), reference_mic, self.config.loading, n_frames)
        return w, reference_mic

    def live_weights(self, X: Tensor, S: Tensor, reference_mic: int | Tensor) -> Tensor:
        config = self.config
        psd, self.state = recursive_covariance(
            evened(X, S), None, config.estimate_forgetting, self.state
        )
        n_frames = self.n_frames + 1 + torch.arange(X.shape[-1], device=X.device)
        self.n_frames += X.shape[-1]
        return mvdr_towards_estimate(psd, reference_mic, config.live_loading, n_frames)

    def forget(self, out: Tensor, back: bool) -> None:
        self.state = forgetting(self.state, out, back)

    def beamed(self, beam: Tensor, X: Tensor, S: Tensor, reference_mic: int | Tensor) -> Beamed:
        reference = X[reference_mic]
        presence = presence_of(S, reference.unsqueeze(0))
        return Beamed(beam, reference, presence, array_gain(beam, X), S[0])


def heard_presence(X: Tensor, presence: Tensor) -> Tensor:
    """Speech presence as the mics hear it: what a network found, sorted out by directions.

    Posterior of the speech in a spatial mixture model of speech and noise that begins with the
    presence. Few frames with sound, a sound with hardly any speech, and frequencies with hardly any
    keep the presence.

    Args:
        X: ``(mics, freqs, frames)``.
        presence: ``(freqs, frames)`` in 0..1.

    Returns:
        ``(freqs, frames)`` in 0..1.
    """
    power = total_power(X)
    n_frames, speech = (power.sum(0) > 0).sum(), (presence * power).sum()
    few = n_frames < max(_FEWEST_FRAMES, _FRAMES_PER_MIC * X.shape[0])
    if few or speech < _SPEECH_OF_POWER * power.sum():
        return presence
    presence = presence.contiguous()
    masks = torch.stack([presence, 1 - presence])
    posterior = spatial_posteriors(X, masks, _N_EM, "masks", _STRENGTH)[0]
    known = presence.sum(-1, keepdim=True) >= _SPEECH_PER_MIC * len(X)
    return torch.where(known, posterior, presence)


def without_mics(sums: CovarianceState, out: Tensor) -> CovarianceState:
    """Sums ``(..., channels, channels)`` with zeros for the mics that are ``out (mics,)``.

    Channels after the mics stay.
    """
    kept = torch.nn.functional.pad(~out, (0, sums.total.shape[-1] - len(out)), value=True)
    kept = kept.to(sums.total.device)
    return CovarianceState(sums.total * (kept & kept.unsqueeze(-1)), sums.weight)


def forgetting(sums: CovarianceState | None, out: Tensor, back: bool) -> CovarianceState | None:
    """Running sums as `Aim.forget` wants them."""
    if sums is None:
        return None
    sums, share = without_mics(sums, out), _KEPT if back else 1
    return CovarianceState(share * sums.total, share * sums.weight)


def evened(X: Tensor, S: Tensor) -> Tensor:
    """The mics and the estimate as channels, over the square root of the mics' magnitude.

    Their covariance weights each bin by one over its magnitude: plain sums would listen to the
    loudest frames alone, one over the power as much to noise as to speech.

    Args:
        X: ``(mics, freqs, frames)``.
        S: ``(1, freqs, frames)``.

    Returns:
        ``(mics + 1, freqs, frames)``, zero where all mics are silent.
    """
    return torch.cat([X, S]) * _evening(X)


def _evening(X: Tensor) -> Tensor:
    power = total_power(X) / X.shape[-3]
    return torch.where(power > _TINY, power.clamp(min=_TINY).rsqrt().sqrt(), 0)


def mvdr_towards_estimate(
    psd: Tensor, reference_mic: int | Tensor, loading: float, n_frames: Tensor
) -> Tensor:
    """MVDR weights from the covariance of the mics and, as last channel, an estimate.

    Least squares of the mics onto the estimate, ``h = E[x s*] / E[|s|^2]``, is the talker's
    transfer function as far as the estimate knows it; what it leaves,
    ``E[x x^H] - h h^H E[|s|^2]``, is the noise, late reverberation included. But for a factor a
    frequency, which makes it distortionless, the result is the least-squares regression of the
    estimate onto the mics (Woodbury), as with speech of rank one MVDR and Wiener filter differ by a
    factor alone (Souden, Benesty & Affes 2010, eq. 18).

    Args:
        psd: ``(..., mics + 1, mics + 1)``.
        reference_mic: whose view of the talker is kept.
        loading: relative diagonal loading of the noise.
        n_frames: behind the covariances ``(...)``; few make the loading heavier.

    Returns:
        w ``(..., mics)``.
    """
    unexplained = (_UNEXPLAINED + 1 / n_frames.clamp(min=1)).clamp(max=1)[..., None, None]
    cross = psd[..., :-1, -1]
    power = psd[..., -1, -1].real[..., None, None]
    psd_speech = cross.unsqueeze(-1) * cross.unsqueeze(-2).conj() / power.clamp(min=_TINY)
    psd_noise = psd[..., :-1, :-1] - (1 - unexplained) * psd_speech
    loaded = loading + loading_for_frames(n_frames, psd_noise.shape[-1])
    return mvdr_souden(psd_speech, psd_noise, reference_mic, loaded)
