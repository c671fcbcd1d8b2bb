"""One frame of the live enhancement, or of one network alone, as a function of real tensors.

`LiveStep` is what gets exported: ``(inputs..., states...) -> (outputs..., states...)``. It runs the
model's own code on `Split` tensors, so nothing here can differ from the model but the precision of
the beam's solve: float32, where the model takes float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from clearbeam.export.split import Split, SplitComplex
from multichannel import GTCRN, Enhancer
from multichannel.frontend import MaskNetwork, spread_mics
from multichannel.gtcrn_layers import N_FREQS
from multichannel.passes import live_passes

_LARGEST = 1e15  # of an input: its power, summed over frames, is finite in float32
Slot = tuple[str, Any, str]  # a name, and the object and attribute that remember


class Part(Protocol):
    """Something that can be exported; a name that ends in ``*`` is a complex tensor.

    nets: its networks. slots: what it remembers from call to call. inputs: names and shapes of one
    frame. output: the name of what `step` returns.
    """

    nets: list[GTCRN]
    slots: list[Slot]
    inputs: dict[str, tuple[int, ...]]
    output: str

    def step(self, *inputs: Any) -> Any:
        """The output of one frame; what is remembered moves on."""


class Pipeline:
    """Spectra of all mics ``X (mics, 257, 1)`` in, the talker's ``Y (257, 1)`` out.

    Args:
        enhancer: its live path, with as many passes as it has.
        n_mics: of the array, 1 to 16.
        reference_mic: whose view of the talker is kept, unless it is dead.
    """

    output = "Y*"

    def __init__(self, enhancer: Enhancer, n_mics: int, reference_mic: int = 0) -> None:
        config = enhancer.config
        single = n_mics == 1 or enhancer.single
        mics = spread_mics(n_mics, config.mask_mics)
        self.network = MaskNetwork(enhancer.mono, torch.tensor([reference_mic]) if single else mics)
        nets = [] if single else enhancer.cleaners(causal=True)
        self.passes = live_passes(nets, enhancer.stft, config, mics, reference_mic)
        self.nets = list(dict.fromkeys([enhancer.mono, *nets]))
        self.inputs: dict[str, tuple[int, ...]] = {"X*": (n_mics, N_FREQS, 1)}
        self.slots: list[Slot] = [("mono", self.network, "state")]
        for name, one in zip(("multi", "refine"), self.passes, strict=False):
            aim = one.beam.aim
            kept = [key for key in ("speech", "noise", "state", "n_frames") if key in vars(aim)]
            self.slots += [(f"{name}.aim.{key}", aim, key) for key in kept]
            self.slots.append((name, one.cleaner, "state"))

    def step(self, X: Any) -> Any:
        """The talker's spectrum."""
        S = self.network.step(X)
        for one in self.passes:
            S = one.step(X, S)
        return S[0]


class Network:
    """One network alone: its spectra ``X (spectra, 257, 1)`` and cues in, ``mask (257, 1)`` out."""

    output = "mask*"

    def __init__(self, net: GTCRN) -> None:
        self.nets, self.state = [net], None
        config = net.config
        self.inputs: dict[str, tuple[int, ...]] = {
            "X*": (config.n_spectra + config.n_magnitudes, N_FREQS, 1)
        }
        if config.n_cues:
            self.inputs["cues"] = (config.n_cues, N_FREQS, 1)
        self.slots: list[Slot] = [("net", self, "state")]

    def step(self, X: Any, cues: Tensor | None = None) -> Any:
        """The complex mask of the first spectrum."""
        mask, self.state = self.nets[0](X, cues, self.state)
        return mask


class LiveStep(nn.Module):
    """A part with all it remembers as inputs and outputs, in the same order.

    Args:
        part: what is stepped. Fresh states are zeros, of which `fresh` holds one set.
    """

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part, self.nets = part, nn.ModuleList(part.nets)
        self.inputs = {
            name: torch.zeros(shape)
            for key, shape in part.inputs.items()
            for name in real_names(key)
        }
        with torch.no_grad(), SplitComplex():
            part.step(*_joined(part.inputs, iter(self.inputs.values())))
        self.templates = [getattr(owner, key) for _, owner, key in part.slots]
        self.fresh = {name: torch.zeros_like(x) for name, x in self._remembered()}

    @property
    def input_names(self) -> list[str]:
        return [*self.inputs, *self.fresh]

    @property
    def output_names(self) -> list[str]:
        return [*real_names(self.part.output), *(f"next.{name}" for name in self.fresh)]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        with SplitComplex():
            inputs = _joined(self.part.inputs, (x.clamp(-_LARGEST, _LARGEST) for x in given))
            for (_, owner, key), template in zip(self.part.slots, self.templates, strict=True):
                setattr(owner, key, _filled(template, given))
            output = self.part.step(*inputs)
            return (output.real, output.imag, *(state for _, state in self._remembered()))

    def _remembered(self) -> Iterator[tuple[str, Tensor]]:
        for name, owner, key in self.part.slots:
            yield from _leaves(getattr(owner, key), name)


def real_names(key: str) -> list[str]:
    """The real tensors that stand for a tensor: two for a complex one, whose name ends in ``*``."""
    return [f"{key[:-1]}.re", f"{key[:-1]}.im"] if key.endswith("*") else [key]


def _joined(inputs: Mapping[str, object], given: Iterator[Tensor]) -> list[Any]:
    """The tensors of a part's inputs, the complex ones put together."""
    return [Split(next(given), next(given)) if key.endswith("*") else next(given) for key in inputs]


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The real tensors in nested tuples, with names."""
    if isinstance(value, tuple):
        names: Sequence[object] = getattr(value, "_fields", range(len(value)))
        for key, one in zip(names, value, strict=True):
            yield from _leaves(one, f"{name}.{key}")
    elif isinstance(value, Split):
        yield from zip(real_names(f"{name}*"), (value.real, value.imag), strict=True)
    elif isinstance(value, Tensor) and value.dtype == torch.float32:
        yield name, value
    elif value is not None:
        yield name, torch.as_tensor(value, dtype=torch.float32)


def _filled(template: Any, given: Iterator[Tensor]) -> Any:
    """Nested tuples like ``template`` of the tensors given."""
    if isinstance(template, tuple):
        parts = [_filled(one, given) for one in template]
        return type(template)(*parts) if hasattr(template, "_fields") else tuple(parts)
    if isinstance(template, Split):
        return Split(next(given), next(given))
    return None if template is None else next(given)
