"""Where a talker is: direction finding over a grid, from a spectrum and the array's geometry.

Axes: spectrum ``X (..., mics, freqs, frames)``, mask ``(..., freqs, frames)``, angles as in
steering.py. Mics that cannot be used (usable.py) do not take part.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from multichannel.spatial import finite_or_zero, masked_covariance
from multichannel.steering import SPEED_OF_SOUND, steering_vector
from multichannel.usable import sanitise

# Below, a hand-sized array sees no direction; above, speech has little to show.
BAND_HZ = (200.0, 7000.0)


class Direction(NamedTuple):
    """The best direction in degrees ``(...)`` and how well each one fits.

    ``spectrum (..., elevations, azimuths)`` is 1 for a perfect fit in all bins.
    """

    azimuth_deg: Tensor
    elevation_deg: Tensor
    spectrum: Tensor


def srp_phat(
    X: Tensor,
    positions_m: Tensor,
    freqs_hz: Tensor,
    azimuths_deg: Tensor | None = None,
    elevations_deg: Tensor | None = None,
    mask: Tensor | None = None,
    band_hz: tuple[float, float] = BAND_HZ,
    speed: float = SPEED_OF_SOUND,
) -> Direction:
    """Direction whose delay-and-sum beam is loudest when only phases count.

    Steered response power with phase transform, ``|d^H z|^2`` of the phases ``z = x / |x|`` of each
    mic, averaged over frames and bins: DiBiase 2000, "A high-accuracy, low-latency technique for
    talker localization in reverberant environments using microphone arrays".

    Args:
        X: spectrum ``(..., mics, freqs, frames)``.
        positions_m: ``(mics, 3)``.
        freqs_hz: ``(freqs,)``.
        azimuths_deg: grid ``(azimuths,)``; every degree when left out.
        elevations_deg: grid ``(elevations,)``; 0 alone when left out.
        mask: weights ``(..., freqs, frames)``, such as the presence of one talker.
        band_hz: lowest and highest frequency used.
        speed: of sound, in m/s.

    Returns:
        Direction of batch shape ``(...)``; the first of the grid when nothing tells them apart.

    Raises:
        ValueError: no bin lies in the band, or shapes do not fit.
    """
    X, freqs, mask = _in_band(X, torch.as_tensor(freqs_hz), mask, band_hz)
    X = finite_or_zero(X)
    level = X.abs()
    phases = X / torch.where(level > 0, level, 1)
    _, _, psd = sanitise(0, masked_covariance(phases, mask))
    grid = _Grid.of(positions_m, freqs, azimuths_deg, elevations_deg, speed)
    n_mics = X.shape[-3]
    fit = _power(psd, grid.steering).sum(-1) / (n_mics**2 * len(freqs))
    return grid.best(fit.to(level.dtype))


def music(
    X: Tensor,
    positions_m: Tensor,
    freqs_hz: Tensor,
    azimuths_deg: Tensor | None = None,
    elevations_deg: Tensor | None = None,
    mask: Tensor | None = None,
    n_sources: int = 1,
    band_hz: tuple[float, float] = BAND_HZ,
    speed: float = SPEED_OF_SOUND,
) -> Direction:
    """Direction that lies farthest from the noise subspace.

    Multiple signal classification: Schmidt 1986, "Multiple emitter location and signal parameter
    estimation", eq. 6, each bin scaled to its own maximum and averaged (Salvati, Drioli & Foresti
    2014, "Incoherent frequency fusion for broadband steered response power algorithms in noisy
    environments"). Not differentiable.

    Args:
        n_sources: sources that may be active at once, fewer than mics.
        others: as `srp_phat`.

    Returns and raises as `srp_phat`; also when ``n_sources`` is not from 1 to mics - 1.
    """
    n_mics = X.shape[-3]
    if not 1 <= n_sources < max(2, n_mics):
        raise ValueError(f"expected n_sources from 1 to {n_mics - 1}, found {n_sources}")
    X, freqs, mask = _in_band(X, torch.as_tensor(freqs_hz), mask, band_hz)
    usable, _, psd = sanitise(0, masked_covariance(X.detach(), mask))
    grid = _Grid.of(positions_m, freqs, azimuths_deg, elevations_deg, speed)
    columns = torch.linalg.eigh(psd).eigenvectors[..., : n_mics - n_sources]
    noise = columns @ columns.mH
    # an unusable mic is a direction of the noise subspace that no source can be asked about
    noise = noise * (usable.unsqueeze(-1) & usable.unsqueeze(-2))
    distance = _power(noise, grid.steering).clamp(min=1e-6)
    fit = distance.amin(-2, keepdim=True) / distance
    alive = psd.diagonal(dim1=-2, dim2=-1).real.sum(-1) > 0
    fit = torch.where(alive.unsqueeze(-2), fit, 0).mean(-1)
    return grid.best(fit.to(X.real.dtype))


class _Grid(NamedTuple):
    azimuths_deg: Tensor
    elevations_deg: Tensor
    steering: Tensor  # (elevations * azimuths, freqs, mics)

    @classmethod
    def of(
        cls,
        positions_m: Tensor,
        freqs_hz: Tensor,
        azimuths_deg: Tensor | None,
        elevations_deg: Tensor | None,
        speed: float,
    ) -> _Grid:
        azimuths = torch.arange(360.0) if azimuths_deg is None else torch.as_tensor(azimuths_deg)
        elevations = torch.zeros(1) if elevations_deg is None else torch.as_tensor(elevations_deg)
        d = steering_vector(positions_m, freqs_hz, azimuths, elevations[:, None], speed=speed)
        return cls(azimuths.to(d.device), elevations.to(d.device), d.flatten(0, 1))

    def best(self, fit: Tensor) -> Direction:
        """From ``fit (..., elevations * azimuths)``."""
        index = fit.argmax(-1)
        n_azimuths = len(self.azimuths_deg)
        return Direction(
            self.azimuths_deg[index % n_azimuths],
            self.elevations_deg[index // n_azimuths],
            fit.unflatten(-1, (-1, n_azimuths)),
        )


def _power(psd: Tensor, steering: Tensor) -> Tensor:
    """``d^H psd d`` of every direction and bin, shape ``(..., directions, freqs)``."""
    steering = steering.to(psd)
    filtered = torch.einsum("...fmn,dfn->...dfm", psd, steering)
    return (steering.conj() * filtered).real.sum(-1)


def _in_band(
    X: Tensor, freqs_hz: Tensor, mask: Tensor | None, band_hz: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor | None]:
    if len(freqs_hz) != X.shape[-2]:
        raise ValueError(f"expected {X.shape[-2]} freqs_hz, found {len(freqs_hz)}")
    kept = (freqs_hz >= band_hz[0]) & (freqs_hz <= band_hz[1])
    if not kept.any():
        raise ValueError(f"expected a bin from {band_hz[0]} to {band_hz[1]} Hz, found none")
    index = kept.nonzero().squeeze(-1).to(X.device)
    mask = None if mask is None else mask.index_select(-2, index)
    return X.index_select(-2, index), freqs_hz[kept], mask
