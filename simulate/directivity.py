"""First-order directivity: how microphones hear, and mouths speak, more to one side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import jv, spherical_jn

# The share of pressure in the pattern; the rest is the pressure's gradient along the axis.
PATTERNS = {
    "omni": 1.0,
    "subcardioid": 0.7,
    "cardioid": 0.5,
    "supercardioid": 0.37,
    "hypercardioid": 0.25,
    "figure8": 0.0,
}


@dataclass(frozen=True)
class FirstOrder:
    """Sensitivities omni + dipole . u towards unit vectors u; omni (n,), dipole (n, 3)."""

    omni: np.ndarray
    dipole: np.ndarray

    @classmethod
    def facing(cls, shares: np.ndarray, axes: np.ndarray) -> FirstOrder:
        """Patterns of sensitivity 1 along `axes` (n, 3), which need no length; shares (n,)."""
        axes = np.asarray(axes, float)
        shares = np.asarray(shares, float)
        length = np.maximum(np.linalg.norm(axes, axis=-1, keepdims=True), 1e-12)
        return cls(shares, (1 - shares)[:, None] * axes / length)

    def gain(self, directions: np.ndarray) -> np.ndarray:
        """Sensitivity (n, ...) towards unit vectors (n, ..., 3)."""
        dipole = np.einsum("n...d,nd->n...", directions, self.dipole)
        return self.omni.reshape(-1, *[1] * (dipole.ndim - 1)) + dipole

    def only(self, index: int) -> FirstOrder:
        """One of the patterns, by itself."""
        return FirstOrder(self.omni[index : index + 1], self.dipole[index : index + 1])

    def diffuse_power(self) -> np.ndarray:
        """Mean of the squared sensitivity over all directions, (n,)."""
        return self.omni**2 + np.sum(self.dipole**2, axis=-1) / 3


def diffuse_covariance(
    mics_m: np.ndarray, wavenumbers: np.ndarray, field: str, patterns: FirstOrder
) -> np.ndarray:
    """Covariance (freqs, mics, mics) of first-order microphones in a diffuse field of power 1.

    mics_m (mics, 3); wavenumbers (freqs,) 2 pi f / c in 1/m; field "spherical" or "cylindrical".
    A pair at the distance vector d hears the mean over directions u of

        (a + b.u) (a' + b'.u) exp(j k d.u) = a a' F + j (a b' + a' b).e G + b^T (H I - L e e^T) b'

    with e = d / |d| and x = k |d|: for the sphere F, G, L = j0, j1, j2 and H = j1 / x; for the
    circle F, G, L = J0, J1, J2, H = J1 / x, and only what is horizontal counts.
    G. W. Elko, Spatial coherence functions for differential microphones in isotropic noise fields,
    in: Microphone Arrays, Springer (2001).
    """
    flat = np.array([1.0, 1.0, 0.0 if field == "cylindrical" else 1.0])
    d = (mics_m[:, None] - mics_m[None]) * flat
    distance = np.linalg.norm(d, axis=-1)
    e = d / np.maximum(distance, 1e-12)[..., None]
    x = wavenumbers[:, None, None] * distance
    bessel = jv if field == "cylindrical" else spherical_jn
    F, G, L = (bessel(order, x) for order in (0, 1, 2))
    near = 1 / 2 if field == "cylindrical" else 1 / 3
    H = np.where(x > 1e-6, G / np.maximum(x, 1e-6), near)
    a, b = patterns.omni, patterns.dipole * flat
    along = np.einsum("mnd,md->mn", e, b)  # of the first microphone's axis; of the second's:
    other = np.einsum("mnd,nd->mn", e, b)
    return (
        np.outer(a, a) * F
        + 1j * (a[:, None] * other + a[None] * along) * G
        + (b @ b.T) * H
        - along * other * L
    )
