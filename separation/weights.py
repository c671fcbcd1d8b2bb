"""Shipped and user weights of separation networks: safetensors with a JSON config beside them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from multichannel.weights import find_weights, save_weights, with_weights
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
    config = path.with_suffix(".json")
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))["network"]
        net = SeparationNet(SeparationConfig(**settings))
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"expected a separation config in {config}, found {error!r}") from None
    return with_weights(net, path)


def save_separation(net: SeparationNet, path: Path, **facts: object) -> None:
    """Write weights and config to ``path`` (.safetensors) and beside it; `facts` are kept there."""
    save_weights(net, path, network=asdict(net.config), **facts)
