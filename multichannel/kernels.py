"""The layers that PyTorch trains slowly on a CPU: by PyTorch, or compiled by us.

The recurrent layers of a GTCRN are tiny, so PyTorch spends nine tenths of their time on being
called, once a step; its PReLU and dilated depthwise convolutions go backwards an element at a time.
`compile_training_kernels` builds ``native/*.cpp`` (a C++ compiler is needed) and from then on
float32 training on a CPU goes through them; everything else stays PyTorch.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from multichannel.caches import cache_folder

_FLAGS = ["-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp-simd"]
_kernel: ModuleType | None = None


def compile_training_kernels() -> None:
    """Build the compiled layers and use them for training on a CPU from now on.

    Raises:
        RuntimeError: there is no C++ compiler, or it failed.
    """
    import fcntl

    from torch.utils.cpp_extension import load

    global _kernel
    # ninja stands beside this Python, which need not be the one on the path
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    native = Path(__file__).parent / "native"
    files = {name: (native / name).read_bytes() for name in ("gru.cpp", "layers.cpp", "layers.h")}
    # named by its content: another version of these files, or another PyTorch, is another library,
    # not a rebuilt one
    torch_here = f"{torch.__version__} {torch.__file__}".encode()
    content = hashlib.sha256(torch_here + b"".join(files.values()))
    name = f"clearbeam_kernels_{content.hexdigest()[:12]}"
    folder = cache_folder() / name
    folder.mkdir(exist_ok=True)
    with (folder / "building").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)  # ends with the process, whatever ends it
        # a build that was killed leaves PyTorch's own lock, for which every later one would wait
        (folder / "lock").unlink(missing_ok=True)
        for file, text in files.items():  # here, as another place would make it another build
            if not (folder / file).is_file() or (folder / file).read_bytes() != text:
                (folder / file).write_bytes(text)
        _kernel = load(
            name,
            [str(folder / file) for file in files if file.endswith(".cpp")],
            extra_cflags=_FLAGS,
            build_directory=str(folder),
        )


def _training_here(x: Tensor) -> bool:
    """Whether the compiled layers are there and this is what they are for."""
    return _kernel is not None and torch.is_grad_enabled() and x.is_cpu and x.dtype == torch.float32


def norm_prelu(x: Tensor, bn: nn.BatchNorm2d, act: nn.PReLU | None = None) -> Tensor:
    """Batch norm, then the one-parameter PReLU if there is one: ``(b, c, frames, bands)``."""
    if not (bn.training and _training_here(x)):
        return bn(x) if act is None else act(bn(x))
    slope = x.new_ones(1) if act is None else act.weight
    y, mean, var = _CompiledNorm.apply(x.contiguous(), bn.weight, bn.bias, slope, bn.eps)
    assert bn.running_mean is not None and bn.running_var is not None
    assert bn.momentum is not None and bn.num_batches_tracked is not None
    with torch.no_grad():
        n = x.numel() / x.shape[1]
        bn.running_mean.lerp_(mean, bn.momentum)
        bn.running_var.lerp_(var * (n / (n - 1)), bn.momentum)
        bn.num_batches_tracked.add_(1)
    return y


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """Depthwise 3x3 convolution, dilated in time: ``(b, c, frames + 2 dilation, bands)`` shrinks to
    ``(b, c, frames, bands)``; over bands it is padded by one."""
    if _training_here(x):
        return _CompiledDepthwise.apply(x.contiguous(), weight.contiguous(), bias, dilation)
    return nn.functional.conv2d(
        x, weight, bias, padding=(0, 1), dilation=(dilation, 1), groups=x.shape[1]
    )


def grouped_gru(
    grus: list[nn.GRU], x: Tensor, hidden: list[Tensor] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Independent GRUs, each over its slice of the feats.

    Args:
        grus: one-layer, batch-first GRUs of equal size, uni- or bidirectional.
        x: ``(n1, n2, steps, feats)``, any strides; GRU g reads the g-th slice of the feats.
        hidden: state of each GRU, ``(directions, n1 * n2, units)``; None is a fresh start.

    Returns:
        ``(n1, n2, steps, len(grus) * directions * units)`` and the new states (empty in training).
    """
    if hidden is None and _training_here(x):
        return _CompiledGRU.apply(x, 1 + grus[0].bidirectional, *_stacked(grus)), []
    states: list[Tensor | None] = [*hidden] if hidden else [None] * len(grus)
    outputs, new_hidden = [], []
    for gru, part, state in zip(grus, x.chunk(len(grus), dim=-1), states, strict=True):
        y, state = gru(part.flatten(0, 1), state)
        outputs.append(y.unflatten(0, x.shape[:2]))
        new_hidden.append(state)
    return torch.cat(outputs, dim=-1), new_hidden


def _stacked(grus: list[nn.GRU]) -> list[Tensor]:
    suffixes = ("l0", "l0_reverse") if grus[0].bidirectional else ("l0",)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [
        torch.stack([getattr(gru, f"{name}_{suffix}") for gru in grus for suffix in suffixes])
        for name in names
    ]


class _CompiledGRU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, directions: int, *weights: Tensor) -> Tensor:
        assert _kernel is not None and x.dtype == torch.float32
        n_out = weights[1].shape[0] * weights[1].shape[2]
        y = torch.empty_like(x)  # has the strides of x unless x is a slice of something larger
        if y.stride() != x.stride():
            x = x.contiguous()
        if n_out != x.shape[-1]:
            y = x.new_empty(*x.shape[:-1], n_out)
        y, saved = _kernel.gru_forward(x, *weights, directions, y)
        ctx.directions = directions
        ctx.save_for_backward(x, saved, *weights)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        assert _kernel is not None
        x, saved, *weights = ctx.saved_tensors
        dx, *gradients = _kernel.gru_backward(
            dy, x, *weights, ctx.directions, saved, torch.zeros_like(x)
        )
        return dx, None, *gradients


class _CompiledNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert _kernel is not None
        y, mean, var = _kernel.norm_forward(x, weight, bias, slope.item(), eps)
        ctx.eps = eps
        ctx.save_for_backward(x, mean, var, weight, bias, slope)
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        assert _kernel is not None
        *saved, slope = ctx.saved_tensors
        gradients = _kernel.norm_backward(dy.contiguous(), *saved, slope.item(), ctx.eps)
        return *gradients, None


class _CompiledDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
        assert _kernel is not None
        ctx.dilation = dilation
        ctx.save_for_backward(x, weight)
        return _kernel.depthwise_forward(x, weight, bias, dilation)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        assert _kernel is not None
        return *_kernel.depthwise_backward(dy.contiguous(), *ctx.saved_tensors, ctx.dilation), None
