"""Text that anybody may have written into plain data, within limits.

YAML can name a part and use it again: nine such lines stand for 10^9 values, and nothing that is
nested without an end can be followed by code that calls itself. So both are measured before
anything is built.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 200_000  # of a YAML file
MOST_VALUES = 20_000  # in one, each counted as often as it is used
DEEPEST = 40


class _Loader(yaml.SafeLoader):
    """Of what scene files say; a date is a word."""


_LIKE_DATES = "tag:yaml.org,2002:timestamp"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != _LIKE_DATES]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def from_json(text: str | bytes) -> Any:
    """The value of one JSON text; ValueError for none, or one that is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("expected JSON, found it nested too deeply") from None


def from_yaml_file(path: Path) -> Any:
    """The value of a YAML file; ValueError in one line, naming it, for none or one too large."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: expected at most {MOST_BYTES} bytes of YAML")
    try:
        return from_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None


def from_yaml(text: str) -> Any:
    """The value of a YAML text of numbers, words, lists and keys; ValueError for any other."""
    try:
        _measure(text)
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ArithmeticError) as error:  # numbers beyond a float
        raise ValueError(str(error)) from None


def _measure(text: str) -> None:
    """Raise ValueError for what is deeper or larger than anybody writes, or has types of its own.

    Values of what is open are counted on a stack, those of named parts are kept for their uses.
    """
    open_parts: list[tuple[str | None, int]] = [(None, 0)]
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, yaml.SafeLoader):
        if (tag := getattr(event, "tag", None)) is not None:
            raise ValueError(f"expected values without types of their own, found {tag}")
        if isinstance(event, yaml.CollectionStartEvent):
            open_parts.append((event.anchor, 1))
            anchor, size = None, 0
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_parts.pop()
        elif isinstance(event, yaml.AliasEvent):
            anchor, size = None, sizes.get(str(event.anchor), MOST_VALUES)  # itself: no end
        else:
            anchor, size = getattr(event, "anchor", None), 1
        if anchor is not None:
            sizes[anchor] = size
        above, total = open_parts[-1]
        open_parts[-1] = above, total + size
        if total + size > MOST_VALUES or len(open_parts) > DEEPEST:
            raise ValueError(f"expected at most {MOST_VALUES} values, {DEEPEST} deep, found more")
