"""What a causal `Stream` remembers, as tensors by name, and back.

The states of layers are nested named tuples; ``None`` is a fresh start and has no name. Complex
tensors are pairs of real ones, since safetensors files hold no complex128.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from multichannel.aim import EstimateAim, PresenceAim
from multichannel.gtcrn import GTCRNState
from multichannel.spatial import CovarianceState
from multichannel.stft import ISTFTState, STFTState

if TYPE_CHECKING:
    from multichannel.stream import Stream

State = dict[str, Tensor]


def save_stream(stream: Stream) -> State:
    """Copies of all that the stream remembers."""
    state: State = {}
    for name, (owner, attribute, _) in _places(stream).items():
        _flatten(name, getattr(owner, attribute), state)
    return state


def load_stream(stream: Stream, state: State) -> None:
    """Put what `save_stream` returned into a fresh stream.

    Raises:
        ValueError: it is the state of another kind of stream.
    """
    left = dict(state)
    for name, (owner, attribute, kind) in _places(stream).items():
        try:
            setattr(owner, attribute, _build(name, kind, left))
        except KeyError as error:
            raise ValueError(f"expected {error} in the state of a torch stream") from None
    if left:
        raise ValueError(f"expected the state of a torch stream, found {min(left)!r} in it")


def _places(stream: Stream) -> dict[str, tuple[Any, str, Any]]:
    """Who remembers what: owner, attribute and type by name."""
    places: dict[str, tuple[Any, str, Any]] = {
        "samples": (stream.input, "_analysis", STFTState),
        "overlap": (stream.output, "_synthesis", ISTFTState),
        "n_history": (stream.output, "_n_history", int),
        "n_in": (stream, "n_in", int),
        "n_out": (stream, "n_out", int),
        "out": (stream, "out", Tensor),
        "mask_network": (stream.network, "state", GTCRNState),
    }
    for i, one in enumerate(stream.live):
        aim = one.beam.aim
        if isinstance(aim, PresenceAim):
            places[f"beam{i}.speech"] = (aim, "speech", CovarianceState)
            places[f"beam{i}.noise"] = (aim, "noise", CovarianceState)
        elif isinstance(aim, EstimateAim):
            places[f"beam{i}.mixture"] = (aim, "state", CovarianceState)
            places[f"beam{i}.n_frames"] = (aim, "n_frames", int)
        places[f"network{i}"] = (one.cleaner, "state", GTCRNState)
    return places


def _flatten(name: str, value: Any, into: State) -> None:
    if isinstance(value, Tensor) and value.is_complex():
        pairs = torch.view_as_real(value.detach().resolve_conj())
        into[f"{name}.pairs"] = pairs.clone().contiguous()
    elif isinstance(value, Tensor):
        into[name] = value.detach().clone().contiguous()
    elif isinstance(value, int):
        into[name] = torch.tensor(value)
    elif isinstance(value, tuple):
        fields = getattr(value, "_fields", range(len(value)))
        for field, part in zip(fields, value, strict=True):
            _flatten(f"{name}.{field}", part, into)


def _build(name: str, kind: Any, left: State) -> Any:
    """The value of a type from its tensors, which are taken out of ``left``; None without any."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(k for k in get_args(kind) if k is not type(None))
    if kind is int:
        return int(left.pop(name))
    if kind is Tensor:
        pairs = left.pop(f"{name}.pairs", None)
        return left.pop(name, None) if pairs is None else torch.view_as_complex(pairs)
    if not any(key.startswith(f"{name}.") for key in left):
        return () if get_origin(kind) is tuple else None
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        parts: list[Any] = []
        while any(key.startswith(f"{name}.{len(parts)}.") for key in left):
            parts.append(_build(f"{name}.{len(parts)}", item, left))
        return tuple(parts)
    hints = get_type_hints(kind)
    return kind(*(_build(f"{name}.{field}", hints[field], left) for field in kind._fields))
