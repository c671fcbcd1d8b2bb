"""Literal slow versions in NumPy float64, one formula a function, loops over bins and frames.

The fast versions must equal these. Axes as everywhere: ``X (mics, freqs, frames)``,
``psd (freqs, mics, mics)``, ``d`` and ``w (freqs, mics)``.
"""

import numpy as np
import scipy.linalg


def masked_covariance(X, mask):
    n_mics, n_freqs, n_frames = X.shape
    psd = np.zeros((n_freqs, n_mics, n_mics), complex)
    for f in range(n_freqs):
        for t in range(n_frames):
            psd[f] += mask[f, t] * np.outer(X[:, f, t], X[:, f, t].conj())
        psd[f] /= mask[f].sum()
    return psd


def recursive_covariance(X, mask, forgetting):
    n_mics, n_freqs, n_frames = X.shape
    psd = np.zeros((n_freqs, n_frames, n_mics, n_mics), complex)
    for f in range(n_freqs):
        total, weight = np.zeros((n_mics, n_mics), complex), 0.0
        for t in range(n_frames):
            total = forgetting * total + mask[f, t] * np.outer(X[:, f, t], X[:, f, t].conj())
            weight = forgetting * weight + mask[f, t]
            psd[f, t] = total / weight
    return psd


def loaded(psd, relative=1e-6):
    return np.stack([(one + relative * np.diag(np.diag(one))) / (1 + relative) for one in psd])


def mvdr_souden(psd_speech, psd_noise, reference_mic):
    w = []
    for speech, noise in zip(psd_speech, loaded(psd_noise), strict=True):
        ratio = np.linalg.inv(noise) @ speech
        w.append(ratio[:, reference_mic] / np.trace(ratio))
    return np.stack(w)


def mvdr(psd_noise, d, relative=1e-6):
    w = []
    for noise, one in zip(loaded(psd_noise, relative), d, strict=True):
        filtered = np.linalg.inv(noise) @ one
        w.append(filtered / (one.conj() @ filtered))
    return np.stack(w)


def principal_eigenvectors(psd_speech, psd_noise):
    """``w`` of the largest ``w^H S w / w^H N w`` in every bin."""
    noise = loaded(psd_noise)
    return np.stack(
        [scipy.linalg.eigh(s, n)[1][:, -1] for s, n in zip(psd_speech, noise, strict=True)]
    )


def relative_transfer_function(psd_speech, psd_noise, reference_mic):
    w = principal_eigenvectors(psd_speech, psd_noise)
    rtf = np.stack([n @ one for n, one in zip(loaded(psd_noise), w, strict=True)])
    return rtf / rtf[:, [reference_mic]]


def gev(psd_speech, psd_noise, reference_mic):
    beams = []
    for w, noise in zip(
        principal_eigenvectors(psd_speech, psd_noise), loaded(psd_noise), strict=True
    ):
        gain = np.sqrt(w.conj() @ noise @ noise @ w / len(w)) / (w.conj() @ noise @ w)
        phase = np.exp(-1j * np.angle((noise @ w)[reference_mic]))
        beams.append(w * gain * phase)
    return np.stack(beams)


def sdw_mwf(psd_speech, psd_noise, reference_mic, mu):
    return np.stack(
        [
            np.linalg.inv(speech + mu * noise) @ speech[:, reference_mic]
            for speech, noise in zip(psd_speech, loaded(psd_noise), strict=True)
        ]
    )


def sdw_mwf_rank1(psd_speech, psd_noise, reference_mic, mu):
    w = []
    for speech, noise in zip(psd_speech, loaded(psd_noise), strict=True):
        ratio = np.linalg.inv(noise) @ speech
        w.append(ratio[:, reference_mic] / (mu + np.trace(ratio)))
    return np.stack(w)


def lcmv(psd_noise, constraints, response):
    """``constraints (freqs, mics, n)`` and the wanted ``response (n,)`` to each."""
    w = []
    for noise, columns in zip(loaded(psd_noise), constraints, strict=True):
        filtered = np.linalg.inv(noise) @ columns
        w.append(filtered @ np.linalg.inv(columns.conj().T @ filtered) @ response)
    return np.stack(w)


def choose_reference_mic(psd_speech, psd_noise):
    snrs = []
    for mic in range(psd_speech.shape[-1]):
        w = mvdr_souden(psd_speech, psd_noise, mic)
        out = [
            sum((one.conj() @ psd @ one).real for one, psd in zip(w, psds, strict=True))
            for psds in (psd_speech, loaded(psd_noise))
        ]
        snrs.append(out[0] / out[1])
    return int(np.argmax(snrs))


def apply(w, X):
    Y = np.zeros(X.shape[1:], complex)
    for f in range(X.shape[1]):
        for t in range(X.shape[2]):
            Y[f, t] = w[f].conj() @ X[:, f, t]
    return Y


def steering_vector(positions_m, freqs_hz, source_m, speed=343.0):
    """Spherical wave from ``source_m``, relative to what the origin hears."""
    d = np.zeros((len(freqs_hz), len(positions_m)), complex)
    for m, position in enumerate(positions_m):
        distance, distance_origin = np.linalg.norm(source_m - position), np.linalg.norm(source_m)
        delay_s = (distance - distance_origin) / speed
        d[:, m] = distance_origin / distance * np.exp(-2j * np.pi * freqs_hz * delay_s)
    return d


def diffuse_covariance(positions_m, freqs_hz, speed=343.0, n_directions=4000):
    """Mean over plane waves from directions spread evenly over the sphere (a Fibonacci lattice)."""
    index = np.arange(n_directions) + 0.5
    height, angle = 1 - 2 * index / n_directions, np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - height**2)
    directions = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=-1)
    delays_s = -directions @ positions_m.T / speed
    d = np.exp(-2j * np.pi * freqs_hz[:, None, None] * delays_s)
    return np.einsum("fkm,fkn->fmn", d, d.conj()) / n_directions
