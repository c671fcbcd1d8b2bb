"""What others may import, with every signature, is what `public_api.txt` says.

A change on purpose is written down by

    python tests/test_public_api.py
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

ROOT = Path(__file__).parents[1]
SNAPSHOT = ROOT / "tests" / "public_api.txt"
ROOMS = ("simulate", "multichannel", "separation", "clearbeam")
MODULES = (*ROOMS, "simulate.bank", "clearbeam.evaluate", "clearbeam.report")
SOME = {"clearbeam.evaluate": ["evaluate_dataset"], "clearbeam.report": ["Report"]}  # no more


def public() -> Iterator[tuple[str, Any]]:
    """Every public object, by the name that it is imported by."""
    for name in MODULES:
        module = importlib.import_module(name)
        for one in sorted(SOME.get(name) or module.__all__):
            yield f"{name}.{one}", getattr(module, one)


def is_ours(thing: object) -> bool:
    return getattr(thing, "__module__", "").partition(".")[0] in ROOMS


def members(cls: type) -> dict[str, Any]:
    """Public methods and properties of a class that are ours, its own or inherited."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if is_ours(base):
            found |= {k: v for k, v in vars(base).items() if not k.startswith("_")}
    callables = (property, classmethod, staticmethod)
    return {k: v for k, v in found.items() if inspect.isfunction(v) or isinstance(v, callables)}


def fields(cls: type) -> dict[str, str]:
    """Types of the fields of a record, as written, with defaults that are plain."""
    written: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        written |= vars(base).get("__annotations__", {}) if is_ours(base) else {}
    if issubclass(cls, BaseModel):
        defaults = {name: field.default for name, field in cls.model_fields.items()}
    elif dataclasses.is_dataclass(cls):
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    else:
        defaults = dict.fromkeys(getattr(cls, "_fields", ()), ...)
    plain = (bool, int, float, str, type(None))
    return {
        name: str(getattr(written[name], "__forward_arg__", written[name]))
        + (f" = {default!r}" if isinstance(default, plain) else "")
        for name, default in defaults.items()
    }


def signature(function: Any) -> str:
    if isinstance(function, property):
        result = inspect.signature(function.fget).return_annotation
        return f" -> {result}"
    return str(inspect.signature(getattr(function, "__func__", function))).replace("'", "")


def lines() -> Iterator[str]:
    """The public API, a line a name."""
    for name, thing in public():
        if not inspect.isclass(thing):
            yield name + signature(thing) if callable(thing) else name
            continue
        record = fields(thing)
        plain = record or issubclass(thing, Exception)
        yield name if plain else name + signature(thing)
        yield from (f"{name}.{field}: {kind}" for field, kind in record.items())
        for key, value in sorted(members(thing).items()):
            yield f"{name}.{key}{signature(value)}"


def text() -> str:
    return "\n".join(lines()).replace("typing.", "") + "\n"


def test_the_public_interface_is_the_one_that_is_written_down():
    expected = SNAPSHOT.read_text(encoding="utf-8").splitlines()
    found = text().splitlines()
    changed = sorted(set(expected) ^ set(found))
    assert found == expected, f"changed, see the top of this file: {changed}"


def test_every_public_name_explains_itself():
    for name, thing in public():
        if inspect.isclass(thing):
            own = inspect.getdoc(thing) if thing.__doc__ else None
            assert own and not own.startswith(f"{thing.__name__}("), name
            for key, value in members(thing).items():
                called = value.fget if isinstance(value, property) else value
                called = getattr(called, "__func__", called)
                assert called.__doc__ or key == "forward", f"{name}.{key}"
        elif callable(thing):
            assert thing.__doc__, name


def test_the_reference_has_every_public_name():
    pages = (ROOT / "docs" / "reference").glob("*.md")
    listed = {line[4:] for page in pages for line in page.read_text().splitlines()
              if line.startswith("::: ")}  # fmt: skip
    missing = {name for name, thing in public() if is_ours(thing)} - listed
    assert missing == set()


def test_mypy_is_strict_where_the_public_interface_is_made():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    strict = [one for one in project["tool"]["mypy"]["overrides"] if one.get("warn_return_any")]
    made = {
        thing.__module__
        for _, thing in public()
        if is_ours(thing) and not (inspect.isclass(thing) and issubclass(thing, Exception))
    }
    assert len(strict) == 1 and made <= set(strict[0]["module"])


if __name__ == "__main__":
    SNAPSHOT.write_text(text(), encoding="utf-8")
