"""Networks over many frames at once: compiled on a CPU where that can be, else by PyTorch."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from multichannel.compiled import CompiledGTCRN, can_compile
from multichannel.gtcrn import GTCRN

BACKENDS = ("auto", "torch", "native")


class CompiledNet:
    """A GTCRN in evaluation mode, without gradients, on a CPU; called as `GTCRN`.

    Args:
        net: later changes to it are not seen.

    Raises:
        RuntimeError: there is no C++ compiler, or it failed.
    """

    def __init__(self, net: GTCRN) -> None:
        self.config = net.config
        self._net = CompiledGTCRN(net)

    def __call__(
        self, X: Tensor, cues: Tensor | None = None, state: CompiledState | None = None
    ) -> tuple[Tensor, CompiledState]:
        """As `GTCRN.forward`, with a state that is changed in place."""
        clips = _one_leading_axis(X)
        maps = [None] * len(clips) if cues is None else _one_leading_axis(cues)
        if state is None:
            state = [self._net.fresh() for _ in clips]
        masks = [net.run(*one) for net, *one in zip(state, clips, maps, strict=True)]
        # frames outermost in memory, as an STFT writes them
        mask = torch.stack([mask.mT for mask in masks]).mT
        return mask.reshape(*X.shape[:-3], *X.shape[-2:]), state


def _one_leading_axis(x: Tensor) -> Tensor:
    return x.flatten(0, -4) if x.ndim > 3 else x.unsqueeze(0)


CompiledState = Sequence[CompiledGTCRN]
AnyNet = GTCRN | CompiledNet


def ready_net(net: GTCRN, backend: str = "auto") -> AnyNet:
    """The network as it runs fastest here.

    Args:
        net: to be run without gradients.
        backend: ``native`` is compiled on first use, ``torch`` needs no compiler, ``auto`` takes
            the compiled one where it can do it.

    Raises:
        ValueError: no such backend, or ``native`` while training or on a GPU.
        RuntimeError: ``native`` without a compiler that works.
    """
    if backend not in BACKENDS:
        raise ValueError(f"expected a backend of {', '.join(BACKENDS)}, found {backend!r}")
    weight = net.erb.erb_fc.weight
    fits = not net.training and weight.device.type == "cpu" and weight.dtype == torch.float32
    if backend == "native" and not fits:
        raise ValueError("expected networks on the CPU in evaluation mode for the native backend")
    if backend == "torch" or not fits or (backend == "auto" and not can_compile()):
        return net
    return _compiled(net)


_known: weakref.WeakKeyDictionary[GTCRN, tuple[Tensor, CompiledNet]] = weakref.WeakKeyDictionary()


def _compiled(net: GTCRN) -> CompiledNet:
    """The one made before, if the weights are still those: comparing is faster than packing."""
    values = (*net.parameters(), *net.buffers())
    weights = torch.cat([one.detach().flatten() for one in values if one.is_floating_point()])
    made = _known.get(net)
    if made is None or not torch.equal(made[0], weights):
        made = _known[net] = weights, CompiledNet(net)
    return made[1]
