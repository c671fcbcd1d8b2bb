"""How a shoebox room decays: its lattice of images, and the absorption that gives a wanted RT60.

At distance d the lattice holds 4 pi d^2 / V images per metre, each with amplitude 1/d. Towards the
direction u they lie z = d |u_x| / L_x sides away along x (y and z alike), behind floor(z) or
floor(z) + 1 walls; over all places of source and microphone the second has the probability
z - floor(z). Where each wall keeps q = 1 - absorption of the energy, what arrives per second is

    E(t) = 4 pi c / V * mean over u of h(z_x) h(z_y) h(z_z),   d = c t,

where h(z) joins the powers h(k) = q^k by straight lines. Up to a constant that is the mean of
exp(-a d g(u)) with g = |u_x|/L_x + |u_y|/L_y + |u_z|/L_z and a = -ln q: a function of a t alone. So
the RT60 is inversely proportional to a, and one look at the curve for a = 1 solves for the
absorption. Sabine's and Eyring's formulas put the mean into the exponent, which is why they miss:
the slow directions carry the late sound.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

SPEED_OF_SOUND = 343.0
_MAX_ABSORPTION = 0.99
_GRID = np.linspace(0.0, 14.0, 64)  # nepers of the slowest direction: all of -35 dB and more
_POINTS = 64  # of a decay that is followed for 50 dB
_NODES = np.polynomial.legendre.leggauss(8)


def sides_per_metre(room_size_m: np.ndarray, n: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """|u_i| / L_i for directions u over one octant, (directions, 3), and their weights (sum 1)."""
    u, weight = _octant(n)
    return u / room_size_m, weight


@lru_cache
def _octant(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre in elevation and azimuth; by symmetry one octant stands for the sphere.

    Nodes crowd towards the three axes: along one of them sound flutters between two hard walls when
    all the rest has died away.
    """
    node, weight = np.polynomial.legendre.leggauss(n)
    node, weight = (node + 1) / 2, weight / 2
    node, weight = node**2 * (3 - 2 * node), weight * 6 * node * (1 - node)
    elevation, azimuth = (grid.ravel() for grid in np.meshgrid(*[node * np.pi / 2] * 2))
    flat = np.cos(elevation)
    u = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)
    return u, np.outer(weight, weight).ravel() * flat * np.pi / 2


def lattice_energy(
    room_size_m: np.ndarray, log_kept: np.ndarray, times_s: np.ndarray, per_metre: float = 0.0
) -> np.ndarray:
    """Expected energy per second E(t) of the response at `times_s`; amplitude 1 at 1 m.

    log_kept (6,): logarithm of the energy that each wall gives back, the two walls across x first;
    per_metre: nepers of energy that a metre of air takes.
    """
    sides, weight = sides_per_metre(room_size_m)
    distance = SPEED_OF_SOUND * times_s
    z = distance[:, None, None] * sides
    walls = np.floor(z)
    # Crossings alternate between the two walls of an axis; of an odd number, either has one more.
    pair = np.asarray(log_kept).reshape(3, 2)
    even, odd = np.exp(pair.sum(axis=1)), np.exp(pair).mean(axis=1)
    is_odd = walls % 2
    after = np.where(is_odd, odd, 1.0)
    before = np.where(is_odd, even, odd)
    share = z - walls
    kept = np.prod(after + share * (before - after), axis=-1)
    kept *= np.exp((walls // 2) @ pair.sum(axis=1) - per_metre * distance[:, None])
    return 4 * np.pi * SPEED_OF_SOUND / float(np.prod(room_size_m)) * (kept @ weight)


def solve_absorption(room_size_m: np.ndarray, rt60_s: float) -> float:
    """Uniform energy absorption (0..1) of the walls for which the room's T30 is `rt60_s`.

    Raises ValueError when the RT60 is not positive or needs walls that absorb more than 99%.
    """
    if not rt60_s > 0:
        raise ValueError(f"expected rt60_s > 0, found {rt60_s}")
    exponent = reverberation_time(room_size_m, np.ones(3)) / rt60_s
    absorption = -np.expm1(-exponent)
    if absorption > _MAX_ABSORPTION:
        shortest = rt60_s * exponent / -np.log1p(-_MAX_ABSORPTION)
        size = " x ".join(f"{side:g}" for side in room_size_m)
        raise ValueError(
            f"expected an RT60 that a room of {size} m can reach (at least {shortest:.3f} s), "
            f"found {rt60_s} s"
        )
    return float(absorption)


def reverberation_time(
    room_size_m: np.ndarray, exponents: np.ndarray, per_metre: float = 0.0
) -> float:
    """T30 in seconds of E(t), where a crossing of a wall along axis i costs exponents[i] nepers.

    exponents (3,): -ln of the energy that a wall keeps, the mean of the two walls across the axis;
    per_metre: what the air takes, in nepers of energy per metre. Schroeder's integral is a sum of
    exponentials, each of which integrates to itself over its rate; the line is the least-squares
    fit over all of -5 to -35 dB, by Gauss-Legendre.
    """
    sides, weight = sides_per_metre(room_size_m, 12)
    rate = SPEED_OF_SOUND * (sides @ exponents + per_metre)
    tau = _GRID / rate.min()
    schroeder = np.exp(-np.outer(tau, rate)) @ (weight / rate)
    level_db = 10 * np.log10(schroeder / schroeder[0])
    start, stop = np.interp((5.0, 35.0), -level_db, tau)
    node, weight = _NODES
    fitted = np.interp((start + stop) / 2 + (stop - start) / 2 * node, tau, level_db)
    slope = (weight * node) @ fitted / ((weight * node) @ node) * 2 / (stop - start)
    return float(-60.0 / slope)


def lattice_rt60(room_size_m: np.ndarray, log_kept: np.ndarray, per_metre: float = 0.0) -> float:
    """T30 in seconds of `lattice_energy`, whose arguments it has.

    Where walls are unequal and some take nearly all, this is longer than `reverberation_time`: a
    path that misses those loses nothing to them.
    """
    mean = -np.asarray(log_kept).reshape(3, 2).mean(axis=1)
    end_s = 1.5 * reverberation_time(room_size_m, mean, per_metre)
    while True:
        times_s = (np.arange(_POINTS) + 0.5) * end_s / _POINTS
        energy = lattice_energy(room_size_m, log_kept, times_s, per_metre)
        left = np.cumsum(energy[::-1])[::-1]
        if energy[-1] * _POINTS < 1e-5 * left[0]:
            level_db = 10 * np.log10(np.maximum(left, 1e-12 * left[0]) / left[0])
            return decay_time(level_db, times_s, -5.0, -35.0)
        end_s *= 1.5


def decay_time(level_db: np.ndarray, times_s: np.ndarray, start_db: float, stop_db: float) -> float:
    """Time for 60 dB at the slope of a falling curve, a line fitted from start_db to stop_db."""
    inside = (level_db <= start_db) & (level_db >= stop_db)
    if np.count_nonzero(inside) < 2:
        raise ValueError(f"expected a decay from {start_db} to {stop_db} dB, found none")
    slope = np.polyfit(times_s[inside], level_db[inside], 1)[0]
    return float(-60.0 / slope)


def measure_rt60(rir: np.ndarray, fs: int, range_db: float = 30.0) -> float:
    """Reverberation time of a response (taps,), in seconds, from Schroeder's backward integral.

    The line is fitted from -5 dB over `range_db` dB (30: T30, 20: T20).
    Raises ValueError when the response does not fall that far.
    M. R. Schroeder, New method of measuring reverberation time, JASA 37 (1965).
    """
    left = np.cumsum(np.asarray(rir, float)[::-1] ** 2)[::-1]
    level_db = 10 * np.log10(np.maximum(left, left[0] * 1e-12) / max(left[0], 1e-300))
    return decay_time(level_db, np.arange(rir.size) / fs, -5.0, -5.0 - range_db)
