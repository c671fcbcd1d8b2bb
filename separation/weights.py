"""Shipped and user weights of separation networks: safetensors with a JSON config beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from multichannel.weights import find_weights, save_weights, with_weights
from separation.count import CountRule
from separation.network import SeparationConfig, SeparationNet

FOLDER = Path(__file__).parent / "weights"


def find_separation(name: str | Path) -> Path:
    """The file of shipped weights by name, or of the user's by path; ValueError for none."""
    return find_weights(name, FOLDER)


def load_separation(name: str | Path) -> SeparationNet:
    """A separation network by shipped name (``separate``) or path, in evaluation mode.

    Raises:
        ValueError: the file or its config is missing, torn, or of another network.
    """
    path = find_separation(name)
    with _config(path) as facts:
        net = SeparationNet(SeparationConfig(**facts["network"]))
    return with_weights(net, path)


def count_rule(path: Path) -> CountRule:
    """How talkers are counted with the weights of a file: as is said beside them, or as ever.

    Raises:
        ValueError: the config is missing, torn, or of another network.
    """
    with _config(path) as facts:
        return CountRule(**facts.get("count", {}))


def write_count_rule(path: Path, rule: CountRule) -> None:
    """Write a rule beside the weights of a file; raises as `count_rule`."""
    with _config(path) as facts:
        text = json.dumps({**facts, "count": rule._asdict()}, indent=1)
    config = path.with_suffix(".json")
    note = config.with_name(f".{config.name}.part")
    note.write_text(text + "\n", encoding="utf-8")
    note.replace(config)


@contextmanager
def _config(path: Path) -> Iterator[dict[str, Any]]:
    """What is written beside weights; a ValueError for what is missing there."""
    config = path.with_suffix(".json")
    try:
        yield json.loads(config.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"expected a separation config in {config}, found {error!r}") from None


def save_separation(net: SeparationNet, path: Path, **facts: object) -> None:
    """Write weights and config to ``path`` (.safetensors) and beside it; `facts` are kept there."""
    save_weights(net, path, network=asdict(net.config), **facts)
