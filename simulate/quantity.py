"""A quantity of a scene: a value, a list, or a distribution, drawn once for each mixture."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from simulate.config import Frozen, nearest

Number = Annotated[float, Field(ge=-1e6, le=1e6)]  # beyond that nothing here is meant


class Uniform(Frozen):
    """`{uniform: [low, high]}`: every number between the two is equally likely."""

    uniform: tuple[Number, Number]

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.uniform[0] > self.uniform[1]:
            raise ValueError(f"expected uniform: [low, high], found {list(self.uniform)}")
        return self


class Normal(Frozen):
    """`{normal: [mean, standard deviation]}`, cut at three deviations."""

    normal: tuple[Number, Annotated[Number, Field(ge=0)]]


class Choice(Frozen):
    """`{choice: [a, b, ...]}`: one of the listed numbers, each equally likely."""

    choice: Annotated[list[Number], Field(min_length=1)]


_DISTRIBUTIONS = ["uniform", "normal", "choice"]


def _form(data: Any) -> str:
    """Which form of a quantity the data has, so that a mistake is told about that form alone."""
    if isinstance(data, dict):
        return next(iter(data))
    if isinstance(data, BaseModel):
        return next(iter(type(data).model_fields))
    return "list" if isinstance(data, list) else "value"


def _known(data: Any) -> Any:
    if isinstance(data, dict):
        name = str(next(iter(data), ""))
        if name not in _DISTRIBUTIONS:
            raise ValueError(f"unknown key {name}: {nearest(name, _DISTRIBUTIONS)}")
    return data


Quantity: TypeAlias = Annotated[
    Annotated[Number, Tag("value")]
    | Annotated[list[Number], Field(min_length=1), Tag("list")]
    | Annotated[Uniform, Tag("uniform")]
    | Annotated[Normal, Tag("normal")]
    | Annotated[Choice, Tag("choice")],
    Discriminator(_form),
    BeforeValidator(_known),
]


def draw(quantity: Any, rng: np.random.Generator) -> float:
    """One number from a Quantity; a bare list means one of its values."""
    if isinstance(quantity, Uniform):
        return float(rng.uniform(*quantity.uniform))
    if isinstance(quantity, Normal):
        return float(np.clip(rng.normal(*quantity.normal), *bounds(quantity)))
    if isinstance(quantity, Choice):
        return float(rng.choice(quantity.choice))
    if isinstance(quantity, list):
        return float(rng.choice(quantity))
    return float(quantity)


def bounds(quantity: Any) -> tuple[float, float]:
    """Smallest and largest number that the quantity can give."""
    if isinstance(quantity, Uniform):
        return quantity.uniform
    if isinstance(quantity, Normal):
        mean, deviation = quantity.normal
        return mean - 3 * deviation, mean + 3 * deviation
    values = quantity.choice if isinstance(quantity, Choice) else quantity
    values = values if isinstance(values, list) else [values]
    return float(min(values)), float(max(values))
