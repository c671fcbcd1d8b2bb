"""What materials absorb, by the names of pyroomacoustics' table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from simulate.walls import WALLS, Walls, walls_for_rt60, walls_of


@lru_cache
def material_table() -> dict[str, np.ndarray]:
    """Absorption (bands,) from 125 Hz of the materials that pyroomacoustics knows, by name.

    M. Vorlaender, Auralization, Springer (2008), appendix.
    """
    spec = find_spec("pyroomacoustics")  # to import all of it takes a second
    file = Path(str(spec and spec.origin)).parent / "data" / "materials.json"
    groups = json.loads(file.read_text(encoding="utf-8"))["absorption"].values()
    return {name: np.array(m["coeffs"]) for group in groups for name, m in group.items()}


def room_walls(
    room_size_m: np.ndarray,
    fs: int,
    rt60_s: float,
    materials: Mapping[str, str] | None = None,
    air: bool = False,
    scattering: float = 0.0,
) -> Walls:
    """Walls of the materials named, for each of WALLS one of `material_table`, or for the RT60."""
    if materials is None:
        return walls_for_rt60(room_size_m, rt60_s, fs, air, scattering)
    table = material_table()
    return walls_of([table[materials[wall]] for wall in WALLS], fs, air, scattering)
