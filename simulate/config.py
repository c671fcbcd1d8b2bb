"""YAML read into pydantic models, with every mistake told in one line."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from simulate.parsing import from_yaml_file

Model = TypeVar("Model", bound=BaseModel)


class Frozen(BaseModel):
    """A model that cannot be changed and knows no keys but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@cache
def config_dir(kind: str) -> Path:
    """Folder of the shipped YAML files of one kind (`arrays`, `scenes`), installed or not."""
    installed = Path(__file__).parent / "configs" / kind
    return installed if installed.is_dir() else Path(__file__).parents[1] / "configs" / kind


def nearest(name: str, valid: list[str]) -> str:
    """Words that name the valid spellings closest to `name`, or all of them when none is close."""
    close = difflib.get_close_matches(name, valid, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(valid)}"


def validate(data: Any, model: type[Model], where: str) -> Model:
    """Build `model` from plain data.

    Raises ValueError with one line that names `where`, the key, and the nearest valid key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ValueError(f"{where}: {_one_line(error, model)}") from None


def read_yaml(path: str | Path, model: type[Model]) -> Model:
    """Read one YAML file into `model`; ValueError in one line when it does not fit."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"expected a YAML file, found no file {path}")
    data = from_yaml_file(path)
    return validate({} if data is None else data, model, str(path))


def _one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The most telling problem: a misspelt key explains the errors that follow from it."""
    problems = error.errors()
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    place = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        owner = _model_at(model, place[:-1])
        if owner is not None:
            return f"unknown key {'.'.join(place)}: {nearest(place[-1], list(owner.model_fields))}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{'.'.join(place)}: {message}" if place else message


def _model_at(model: type[BaseModel], place: list[str]) -> type[BaseModel] | None:
    """The nested model at the path of keys `place`; None where the path leaves models."""
    for name in place:
        if name not in model.model_fields:
            continue  # the tag of a union member, not a key of the file
        found = _models_in(model.model_fields[name].annotation)
        if len(found) != 1:
            return None
        model = found[0]
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models_in(part)]


def owner_of(data: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The mapping in `data` that a dotted key is set in, and its name there.

    What is on the way but is no mapping becomes one, to be judged when all is validated.
    """
    *way, last = key.split(".")
    for name in way:
        inner = data.get(name)
        data[name] = dict(inner) if isinstance(inner, dict) else {}
        data = data[name]
    return data, last


def find_config(kind: str, name: str | Path) -> Path:
    """The YAML of a path, or of a shipped name among the configs of a kind such as "scenes".

    Raises ValueError for a name that is not shipped; the nearest ones are given.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    shipped = {p.stem: p for p in sorted(config_dir(kind).glob("*.yaml"))}
    if str(name) not in shipped:
        one = kind.removesuffix("s")
        raise ValueError(f"unknown {one} {name}: {nearest(str(name), list(shipped))}")
    return shipped[str(name)]
