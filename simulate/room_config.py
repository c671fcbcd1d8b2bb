"""What a scene config may say of its room: sides, and the RT60 or what the walls are made of."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, field_validator, model_validator

from simulate.config import Frozen, nearest
from simulate.materials import material_table
from simulate.quantity import Quantity, Uniform, bounds
from simulate.walls import WALLS

Names = Annotated[
    list[str], Field(min_length=1), BeforeValidator(lambda v: [v] if isinstance(v, str) else v)
]


class MaterialsConfig(Frozen):
    """What walls are made of: names from pyroomacoustics' table, of a list one for each mixture.

    all: every wall; walls: the four upright ones; then single ones, of which west is at x = 0,
    east at x = length, south at y = 0, north at y = width. The more special key counts.
    """

    all: Names | None = None
    walls: Names | None = None
    west: Names | None = None
    east: Names | None = None
    south: Names | None = None
    north: Names | None = None
    floor: Names | None = None
    ceiling: Names | None = None

    @field_validator("*")
    @classmethod
    def _known(cls, names: list[str] | None) -> list[str] | None:
        for name in names or []:
            if name not in material_table():
                raise ValueError(f"unknown material {name}: {nearest(name, [*material_table()])}")
        return names

    @model_validator(mode="after")
    def _whole(self) -> MaterialsConfig:
        for wall in WALLS:
            if not any(getattr(self, key) for key in self._keys(wall)):
                raise ValueError(f"expected a material for {wall}, found none")
        return self

    @staticmethod
    def _keys(wall: str) -> tuple[str, ...]:
        return (wall, "walls", "all") if wall in WALLS[:4] else (wall, "all")

    def draw(self, rng: np.random.Generator) -> dict[str, str]:
        """The material of each wall; walls of one key have the same."""
        one_of = {key: names[rng.integers(len(names))] for key, names in self if names}
        return {w: next(one_of[k] for k in self._keys(w) if k in one_of) for w in WALLS}


class RoomConfig(Frozen):
    """Shoebox room: three sides in metres, and the RT60 that is measured in it, or materials.

    materials: a name for all walls, or see `MaterialsConfig`. air_absorption: air takes from the
    high octaves. scattering: share of what walls give back that leaves them in any direction,
    0 to 1, for the methods hybrid and ray.
    """

    length_m: Quantity = Uniform(uniform=(3, 8))
    width_m: Quantity = Uniform(uniform=(3, 6))
    height_m: Quantity = Uniform(uniform=(2.4, 3.5))
    rt60_s: Quantity | None = Uniform(uniform=(0.2, 0.6))
    materials: MaterialsConfig | None = None
    air_absorption: bool = False
    scattering: Quantity = 0

    @model_validator(mode="before")
    @classmethod
    def _materials_in_place_of_rt60(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("materials") is None:
            return data
        if data.get("rt60_s") is not None:
            raise ValueError("expected either rt60_s or materials, found both")
        materials = data["materials"]
        every = {"all": materials} if isinstance(materials, str | list) else materials
        return data | {"rt60_s": None, "materials": every}

    @model_validator(mode="after")
    def _decays(self) -> RoomConfig:
        if self.rt60_s is None and self.materials is None:
            raise ValueError("expected either rt60_s or materials, found neither")
        low, high = bounds(self.scattering)
        if low < 0 or high > 1:
            raise ValueError(f"expected scattering from 0 to 1, found {low:g} to {high:g}")
        return self
