"""Shipped and user weights of separation networks: safetensors with a JSON config beside them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

from multichannel.weights import (
    find_weights,
    network_config,
    read_facts,
    save_weights,
    with_weights,
)
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
    note = path.with_suffix(".json")
    config = network_config(SeparationConfig, read_facts(note), note)
    return with_weights(SeparationNet(config), path)


def count_rule(path: Path) -> CountRule:
    """How talkers are counted with the weights of a file: as is said beside them, or as ever.

    Raises:
        ValueError: the config is missing, torn, or of another network.
    """
    note = path.with_suffix(".json")
    told = read_facts(note).get("count", {})
    try:
        rule = CountRule._make(map(float, CountRule(**told)))
        if not all(map(math.isfinite, rule)):
            raise ValueError(f"{rule}")
        return rule
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected a rule of counting in {note}, found {error}") from None


def write_count_rule(path: Path, rule: CountRule) -> None:
    """Write a rule beside the weights of a file; raises as `count_rule`."""
    config = path.with_suffix(".json")
    text = json.dumps({**read_facts(config), "count": rule._asdict()}, indent=1)
    note = config.with_name(f".{config.name}.part")
    note.write_text(text + "\n", encoding="utf-8")
    note.replace(config)


def save_separation(net: SeparationNet, path: Path, **facts: object) -> None:
    """Write weights and config to ``path`` (.safetensors) and beside it; `facts` are kept there."""
    save_weights(net, path, network=asdict(net.config), **facts)
