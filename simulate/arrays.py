"""Microphone arrays: named ones, any YAML of positions, and random ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from simulate.config import Frozen, config_dir, nearest, read_yaml

Kind = Literal["linear", "circular", "planar", "irregular"]
Position = tuple[float, float, float]
MOST_MICS = 1024  # of an array, as many as a file can have channels
MOST_M = 1000.0  # from an array's origin


class ArrayGeometry(Frozen):
    """Positions of an array's microphones in metres, about the array's own origin.

    x points to azimuth 0, y to azimuth 90 degrees, z up. `source` says where the dimensions come
    from, or "generic".
    """

    name: str
    description: str = ""
    source: str = "generic"
    positions_m: list[Position] = Field(min_length=1, max_length=MOST_MICS)

    @field_validator("positions_m")
    @classmethod
    def _finite(cls, positions: list[Position]) -> list[Position]:
        if not np.all(np.abs(positions) <= MOST_M):  # nor NaN
            raise ValueError(f"expected positions within {MOST_M:g} m of the origin, found others")
        return positions

    @property
    def n_mics(self) -> int:
        """How many there are."""
        return len(self.positions_m)

    def as_array(self) -> np.ndarray:
        """Positions as float64, (mics, 3) in metres."""
        return np.asarray(self.positions_m, dtype=float)

    def aperture_m(self) -> float:
        """Largest distance between two microphones, in metres."""
        p = self.as_array()
        return float(np.linalg.norm(p[:, None] - p[None], axis=-1).max())


def list_arrays() -> list[str]:
    """Names of the arrays that ship with the project."""
    return sorted(path.stem for path in config_dir("arrays").glob("*.yaml"))


def load_array(name: str | Path) -> ArrayGeometry:
    """The array of a shipped name (`circular_6mic`) or of a YAML file's path.

    Raises ValueError for an unknown name (naming the nearest ones) or a YAML that does not fit.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        path = config_dir("arrays") / f"{name}.yaml"
        if not path.is_file():
            raise ValueError(f"unknown array {name}: {nearest(str(name), list_arrays())}")
    return _read(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=32)
def _read(path: Path, mtime_ns: int) -> ArrayGeometry:
    """Read once per process and version of the file: scenes are drawn by the thousand."""
    return read_yaml(path, ArrayGeometry)


def random_array(
    kind: Kind, n_mics: int, aperture_m: float, rng: np.random.Generator
) -> ArrayGeometry:
    """An array that nobody built, drawn from `rng`.

    kind: one of `Kind`; aperture_m: the largest distance between two of its microphones.
    Raises ValueError for an unknown kind.
    """
    if kind not in _SHAPES:
        raise ValueError(f"unknown kind of array {kind}: {nearest(kind, [*_SHAPES])}")
    p = _SHAPES[kind](n_mics, rng)
    p = p - p.mean(axis=0)
    widest = np.linalg.norm(p[:, None] - p[None], axis=-1).max()
    p = p * (aperture_m / widest if widest > 0 else 0.0)
    positions: list[Position] = [(x, y, z) for x, y, z in p.round(6).tolist()]
    return ArrayGeometry(name=f"random_{kind}_{n_mics}mic", positions_m=positions)


def _linear(n_mics: int, rng: np.random.Generator) -> np.ndarray:
    """On a line, half of the time evenly spaced."""
    x = np.arange(n_mics, dtype=float)
    if rng.random() < 0.5:
        x += rng.uniform(-0.35, 0.35, n_mics)
    return np.stack([x, np.zeros(n_mics), np.zeros(n_mics)], axis=1)


def _circular(n_mics: int, rng: np.random.Generator) -> np.ndarray:
    """Evenly on a circle; with four or more, half of the time one sits in the middle."""
    in_middle = n_mics >= 4 and rng.random() < 0.5
    angle = 2 * np.pi * np.arange(n_mics - in_middle) / max(1, n_mics - in_middle)
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    return np.concatenate([ring, np.zeros((int(in_middle), 3))])


def _planar(n_mics: int, rng: np.random.Generator) -> np.ndarray:
    """Spread over a plate, no two closer than chance would leave them on a jittered grid."""
    columns = int(np.ceil(np.sqrt(n_mics)))
    cells = rng.permutation(columns * int(np.ceil(n_mics / columns)))[:n_mics]
    xy = np.stack([cells % columns, cells // columns], axis=1) + rng.uniform(-0.3, 0.3, (n_mics, 2))
    return np.concatenate([xy, np.zeros((n_mics, 1))], axis=1)


def _irregular(n_mics: int, rng: np.random.Generator) -> np.ndarray:
    """Anywhere in a flat box, as on a device with an odd case."""
    return rng.uniform(-1, 1, (n_mics, 3)) * [1, 1, 0.3]


_SHAPES: dict[Kind, Callable[[int, np.random.Generator], np.ndarray]] = {
    "linear": _linear,
    "circular": _circular,
    "planar": _planar,
    "irregular": _irregular,
}
