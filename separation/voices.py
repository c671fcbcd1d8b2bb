"""What a talker is known by: from where the mics hear him, and how he sounds.

Where from: the coherence of his stream with every mic. Its phases are those of the way from him to
the mics, room included, so no geometry is needed. How: his mean spectrum, whatever the level.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multichannel.stft import STFT

# Below, the mics of a hand-sized array hear nearly the same from everywhere; above, speech is weak.
SPACE_HZ = (1500.0, 6000.0)
_VOICE_HZ = (100.0, 7000.0)
_N_BANDS = 32
# A frame of a stream counts when it is less than this below the loudest of all streams.
_ACTIVE_DB = 25.0
# Mean spectra that differ so much, in dB, are half as alike as equal ones.
_HALF_ALIKE_DB = 4.0
# Share of the voice in how much two talkers are alike, and of the place where there is one.
_VOICE_SHARE = 0.2
_TINY = 1e-12


class Voices(NamedTuple):
    """Of several talkers: ``coherence (talkers, freqs, mics)`` complex, at most 1 in magnitude;
    ``spectrum_db (talkers, bands)`` of mean zero; ``seconds (talkers,)`` that each was heard;
    ``level_db (talkers,)`` then; and ``share (talkers,)`` of what the mics heard meanwhile.
    """

    coherence: NDArray[np.complex64]
    spectrum_db: NDArray[np.float32]
    seconds: NDArray[np.float32]
    level_db: NDArray[np.float32]
    share: NDArray[np.float32]

    def some(self, which: list[int] | NDArray[np.bool_]) -> Voices:
        """Those of some of the talkers, as an array is indexed."""
        return Voices._make(field[which] for field in self)


@torch.no_grad()
def heard_voices(x: Tensor, streams: Tensor, stft: STFT, sample_rate: int) -> Voices:
    """What the streams of a window tell of their talkers.

    Args:
        x: what the mics heard ``(mics, samples)``.
        streams: ``(talkers, samples)``, as one of the mics heard each.
        stft: with a window that covers the room's first echoes.
        sample_rate: in Hz.
    """
    X, S = stft(torch.cat([torch.nan_to_num(x), streams])).split([len(x), len(streams)])
    freqs = stft.config.freqs_hz(sample_rate).to(x)
    space = in_space(stft, sample_rate).to(x.device)
    power = S.abs().square()
    heard = X.abs().square().mean(0).clamp(min=_TINY)
    coherence = _coherence(X[:, space], S[:, space], (power / heard)[:, space].clamp(max=1))
    active, level_db = _active(power.sum(1))
    seconds = active.sum(-1) * stft.config.hop / sample_rate
    spectrum = _spectrum_db(power, active.to(power.dtype), freqs)
    share = power.sum((1, 2)) / heard.sum()
    found = (coherence, spectrum, seconds, level_db, share)
    return Voices(*(part.cpu().numpy() for part in found))


def _coherence(X: Tensor, S: Tensor, share: Tensor) -> Tensor:
    """Of the streams ``S`` with the mics ``X`` in every frequency ``(talkers, freqs, mics)``.

    ``share (talkers, freqs, frames)``, a stream's of the power, is how much a bin counts: where
    others are heard, what is left of them in the stream would point to them.
    """
    weight = share.square()
    phase = S.conj() / S.abs().clamp(min=_TINY)
    cross = torch.einsum("mft,kft->kfm", X, weight * phase)
    return cross / torch.einsum("mft,kft->kfm", X.abs(), weight).clamp(min=_TINY)


def in_space(stft: STFT, sample_rate: int) -> Tensor:
    """Which bins tell where a talker is ``(freqs,)``."""
    freqs = stft.config.freqs_hz(sample_rate)
    return (freqs >= SPACE_HZ[0]) & (freqs <= SPACE_HZ[1])


def space_hz(stft: STFT, sample_rate: int) -> Tensor:
    """Frequencies of the coherences ``(freqs,)``."""
    return stft.config.freqs_hz(sample_rate)[in_space(stft, sample_rate)]


def _active(power: Tensor) -> tuple[Tensor, Tensor]:
    """Frames ``(talkers, frames)`` in which a talker is heard, and his level then."""
    loudest = power.max() if power.numel() else power.new_zeros(())
    active = (power > loudest * 10 ** (-_ACTIVE_DB / 10)) & (power > 0)
    mean = (power * active).sum(-1) / active.sum(-1).clamp(min=1)
    return active, 10 * (mean + _TINY).log10()


def _spectrum_db(power: Tensor, active: Tensor, freqs_hz: Tensor) -> Tensor:
    """Mean levels of logarithmic bands ``(talkers, bands)``, about their mean."""
    low, high = _VOICE_HZ
    edges = torch.logspace(np.log10(low), np.log10(high), _N_BANDS + 1, device=freqs_hz.device)
    mean = (power * active[:, None]).sum(-1)
    centres = (edges[:-1] * edges[1:]).sqrt()
    widths = edges[1:] - edges[:-1]
    step = freqs_hz[1] - freqs_hz[0]
    reach = torch.maximum(widths, step)[:, None]  # a narrow band takes from the bins beside it
    weight = (1 - (freqs_hz - centres[:, None]).abs() / reach).clamp(min=0)
    bands = mean @ (weight / weight.sum(-1, keepdim=True)).T
    level = 10 * (bands + 1e-6 * bands.amax(-1, keepdim=True) + _TINY).log10()
    return level - level.mean(-1, keepdim=True)


def likeness(a: Voices, b: Voices) -> NDArray[np.float64]:
    """How much every talker of ``a`` is like every one of ``b``: 1 for the same place and voice.

    About 0 for another place and another voice; of one mic, by the voice alone.
    """
    difference = a.spectrum_db[:, None] - b.spectrum_db[None]
    rms = np.sqrt(np.mean(difference.astype(float) ** 2, axis=-1))
    voice = 0.5 ** (rms / _HALF_ALIKE_DB) ** 2
    if a.coherence.shape[-1] < 2:
        return voice
    return (1 - _VOICE_SHARE) * _same_place(a.coherence, b.coherence) + _VOICE_SHARE * voice


def clarity(voices: Voices) -> NDArray[np.float64]:
    """How much of what the mics hear of each talker comes one way ``(talkers,)``, 0 to 1.

    Noise that comes from everywhere has less of it; all is clear to one mic.
    """
    coherence = np.abs(voices.coherence[..., 1:])
    n_talkers, n_freqs, n_others = coherence.shape
    if n_others < 1:
        return np.ones(n_talkers)
    return coherence.sum((1, 2)) / (n_freqs * n_others)


def _same_place(a: NDArray[np.complex64], b: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Cosine between coherences ``(talkers, freqs, mics)``; mic 0 is everybody's own phase."""
    flat = [c[..., 1:].reshape(len(c), c.shape[1] * (c.shape[2] - 1)) for c in (a, b)]
    unit = [c / np.maximum(np.linalg.norm(c, axis=-1, keepdims=True), _TINY) for c in flat]
    return np.asarray((unit[0] @ unit[1].conj().T).real, float)
