"""Shipped and user weights: safetensors with a JSON config beside them, never pickle."""

from __future__ import annotations

import json
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from multichannel.gtcrn import GTCRN, GTCRNConfig

FOLDER = Path(__file__).parent / "weights"

Net = TypeVar("Net", bound=nn.Module)
Config = TypeVar("Config")
LARGEST = 256  # number in the config of a network


def shipped(folder: Path = FOLDER) -> list[str]:
    """Names of the weights inside the package."""
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def find_weights(name: str | Path, folder: Path = FOLDER) -> Path:
    """The file of shipped weights by name, or of the user's by path.

    Raises:
        ValueError: there is no such file; the nearest shipped name is given.
    """
    path = Path(name)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise ValueError(f"expected a model file, found no file {path}")
        return path
    if str(name) not in shipped(folder):
        near = get_close_matches(str(name), shipped(folder), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"expected a shipped model or a .safetensors file, found {str(name)!r}{hint}"
        )
    return folder / f"{name}.safetensors"


def load_gtcrn(name: str | Path) -> GTCRN:
    """A GTCRN with its weights, in evaluation mode.

    Its config is read from the ``.json`` of the same name; without one the weights are taken for
    those of the published one-input network.

    Raises:
        ValueError: the file is missing, torn, or holds another network.
    """
    path = find_weights(name)
    return with_weights(GTCRN(read_config(path.with_suffix(".json"))), path)


def with_weights(net: Net, path: Path) -> Net:
    """The network with the weights of a file, in evaluation mode.

    Raises:
        ValueError: the file is torn or holds another network.
    """
    try:
        tensors = load_file(path)
        net.load_state_dict(tensors)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"expected a safetensors file, found {path}: {error}") from None
    except RuntimeError as error:
        reason, kind = " ".join(str(error).split())[:160], type(net).__name__
        raise ValueError(f"expected the weights of a {kind} in {path}, found: {reason}") from None
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError(f"expected finite weights in {path}, found NaN or infinity")
    return net.eval()


def read_config(path: Path) -> GTCRNConfig:
    """The network's config from a JSON file; the published one's where there is no file."""
    if not path.is_file():
        return GTCRNConfig()
    return network_config(GTCRNConfig, read_facts(path), path)


def latency_of(path: Path) -> float | None:
    """The latency in ms that a file's network was trained for, None where it does not say.

    Raises:
        ValueError: something else is written there.
    """
    note = path.with_suffix(".json")
    found = read_facts(note).get("latency_ms") if note.is_file() else None
    if found is not None and not _fits(found, (float,)):
        raise ValueError(f"expected latency_ms to be a number in {note}, found {found!r}")
    return found


def read_facts(path: Path) -> dict[str, Any]:
    """What is written beside weights; ValueError for anything but JSON of keys and values."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"expected a model config in {path}, found {error!r}") from None
    if not isinstance(facts, dict):
        raise ValueError(f"expected a model config in {path}, found {type(facts).__name__}")
    return facts


def network_config(kind: type[Config], facts: dict[str, Any], path: Path) -> Config:
    """The config of a network from what is written beside its weights.

    Raises:
        ValueError: there is none, or a key or value that does not fit; numbers above `LARGEST`
            would only fill the memory before the weights are seen not to fit.
    """
    told, hints = facts.get("network"), get_type_hints(kind)
    if not isinstance(told, dict):
        raise ValueError(f"expected a model config in {path}, found no keys under 'network'")
    for key, value in told.items():
        if key not in hints or not _fits(value, get_args(hints[key]) or (hints[key],)):
            raise ValueError(f"expected a model config in {path}, found {key}: {value!r}")
    try:
        return kind(**told)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _fits(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value of JSON is of one of these types, and of a size that networks have."""
    if type(value) not in kinds and not (type(value) is int and float in kinds):
        return False
    return not isinstance(value, (int, float)) or 0 <= value <= LARGEST


def save_gtcrn(net: GTCRN, path: Path, **facts: object) -> None:
    """`save_weights` of a GTCRN."""
    save_weights(net, path, network=asdict(net.config), **facts)


def save_weights(net: nn.Module, path: Path, **facts: object) -> None:
    """Write weights to ``path`` (.safetensors) and facts beside it; torn files get no name.

    Args:
        net: the network.
        path: where to.
        facts: kept in the ``.json`` as they are: ``network``, its config; how it was trained.

    Raises:
        OSError: the disk does not take them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    tensors = {
        name: tensor.detach().contiguous().clone() for name, tensor in net.state_dict().items()
    }
    try:
        save_file(tensors, temporary)
    except SafetensorError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(f"cannot write {path}: {error}") from None
    temporary.chmod(0o644)  # the library makes it private
    config = path.with_suffix(".json")
    note = config.with_name(f".{config.name}.part")
    note.write_text(json.dumps(facts, indent=1) + "\n")
    note.replace(config)
    temporary.replace(path)


def pick_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one; ValueError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"expected a device of auto, cpu or cuda, found {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("expected a CUDA device, found none; use --device cpu")
    return torch.device(device)
