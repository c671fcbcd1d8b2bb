"""What a sweep may say: a scene, what is changed in it, and the grid of values to go through."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import Field, field_validator

from simulate.arrays import MOST_M, MOST_MICS, ArrayGeometry
from simulate.config import Frozen, find_config, nearest, owner_of, read_yaml, validate
from simulate.scene_config import SceneConfig, find_scene

_MOST_POINTS = 10_000
_CIRCLE = ("circle.mics", "circle.diameter_m")

Values = Annotated[list[Any], Field(min_length=1)]


class SweepConfig(Frozen):
    """An experiment: every system on `count` mixtures at every point of a grid.

    scene: name or path of a scene. set: values for its keys, dotted (`room.rt60_s`). grid: for each
    dotted key the values to go through. `circle.mics` and `circle.diameter_m`, used together, put
    microphones evenly on a circle. systems, metrics: as in `clearbeam evaluate`; by default all
    metrics. count, seed: mixtures of each point; points share the seed, so that all else is equal.
    """

    scene: str
    set: dict[str, Any] = Field(default_factory=dict)
    grid: Annotated[dict[str, Values], Field(min_length=1)]
    systems: Annotated[list[str], Field(min_length=1)]
    metrics: Annotated[list[str], Field(min_length=1)] | None = None
    count: int = Field(10, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("grid")
    @classmethod
    def _different(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key, values in grid.items():
            cells = [plain(value) for value in values]
            for cell in cells:
                if cells.count(cell) > 1:
                    raise ValueError(f"expected different values of {key}, found {cell} twice")
        n_points = math.prod(map(len, grid.values()))
        if n_points > _MOST_POINTS:
            raise ValueError(f"expected a grid of at most {_MOST_POINTS} points, found {n_points}")
        return grid

    @classmethod
    def load(cls, path: str | Path) -> SweepConfig:
        """Read a sweep YAML by path or shipped name; a scene's path in it is relative to it.

        Raises ValueError, in one line, for an unknown name or a file that does not fit.
        """
        path = find_config("sweeps", path)
        config = read_yaml(path, cls)
        if config.scene.endswith((".yaml", ".yml")):
            return config.model_copy(update={"scene": str((path.parent / config.scene).resolve())})
        return config

    def with_keys(self, changes: Mapping[str, Any]) -> SweepConfig:
        """The same sweep with other values for keys of its scene."""
        return self.model_copy(update={"set": {**self.set, **changes}})

    def continues(self, other: SweepConfig) -> bool:
        """Whether points of the two belong in one table: only values, systems or counts differ."""
        mine, theirs = (
            (sweep.scene, sweep.set, sweep.seed, list(sweep.grid)) for sweep in (self, other)
        )
        return mine == theirs

    def points(self) -> list[dict[str, Any]]:
        """Every combination of the grid's values, by key; the last key changes fastest."""
        combinations = itertools.product(*self.grid.values())
        return [dict(zip(self.grid, values, strict=True)) for values in combinations]

    def scene_at(self, point: Mapping[str, Any], arrays: Path) -> SceneConfig:
        """The scene at a point; arrays made for it are written as YAML into the folder `arrays`.

        Raises ValueError for a key that a scene does not have, naming the nearest one, and for a
        value that does not fit.
        """
        changes = {**self.set, **point}
        circle = {key: changes.pop(key) for key in list(changes) if key.startswith("circle.")}
        data = SceneConfig.load(find_scene(self.scene)).model_dump(mode="json")
        if circle and "array.names" in changes:
            raise ValueError("expected either array.names or circle.* in a sweep, found both")
        if circle:
            data["array"] |= {"names": [str(_circle(circle, arrays))], "random": None}
        for key, value in changes.items():
            _put(data, key, value)
        # Early images are what is scored; more would only fill the disk.
        data["references"] = ["early"]
        return validate(data, SceneConfig, f"sweep of {self.scene}")


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; one name stands for a list of it."""
    owner, last = owner_of(data, key)
    was_names = isinstance(owner.get(last), list) and isinstance(value, str)
    owner[last] = [value] if was_names else copy.deepcopy(value)


def _circle(values: Mapping[str, Any], arrays: Path) -> Path:
    """Write the array YAML of microphones evenly on a circle; two are a pair at that distance."""
    for key in values:
        if key not in _CIRCLE:
            raise ValueError(f"unknown key {key}: {nearest(key, list(_CIRCLE))}")
    if len(values) < len(_CIRCLE):
        raise ValueError(f"expected {' and '.join(_CIRCLE)}, found only {next(iter(values))}")
    n_mics, diameter_m = (values[key] for key in _CIRCLE)
    if not isinstance(n_mics, int) or not 1 <= n_mics <= MOST_MICS:
        raise ValueError(f"expected circle.mics to be a number of microphones, found {n_mics}")
    if not isinstance(diameter_m, (int, float)) or not 0 < diameter_m <= MOST_M:
        raise ValueError(
            f"expected circle.diameter_m above 0 and up to {MOST_M:g} metres, found {diameter_m}"
        )
    angle = 2 * np.pi * np.arange(n_mics) / n_mics
    xy = (diameter_m / 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)).round(6).tolist()
    name = f"circle_{n_mics}mic_{diameter_m * 1000:g}mm"
    array = ArrayGeometry(name=name, positions_m=[(x, y, 0.0) for x, y in xy])
    path = arrays.resolve() / f"{name}.yaml"
    arrays.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(array.model_dump(mode="json"), sort_keys=False)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return path


def plain(value: Any) -> float | int | str:
    """A value of the grid as one cell of a table: a distribution as JSON."""
    return value if isinstance(value, (int, float, str)) else json.dumps(value)
