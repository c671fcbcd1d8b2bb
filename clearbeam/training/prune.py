"""Smaller networks out of trained ones: fewer feats, or fewer weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from multichannel.gtcrn import GTCRN
from multichannel.gtcrn_layers import GTBlock


@torch.no_grad()
def without_inner_feats(net: GTCRN, amount: float) -> GTCRN:
    """A network that lacks a share of the feats inside every temporal convolution.

    Those feats are seen by nothing outside their block, so they can be cut out for good. The ones
    kept are those that weigh most in what the block adds up: the norm of their outgoing weights
    times the scale of their last batch norm (after Li et al. 2017, "Pruning filters for efficient
    convnets", section 3.1, where a filter's own weights are added up, and Liu et al. 2017,
    "Learning efficient convolutional networks through network slimming", who take the scale).

    Args:
        net: trained.
        amount: share that goes, in 0..1; at least one feat stays.
    """
    inner = net.config.inner or net.config.width
    kept = max(1, round(inner * (1 - amount)))
    small = GTCRN(replace(net.config, inner=kept))
    tensors = dict(net.state_dict())
    for name, block in net.named_modules():
        if isinstance(block, GTBlock):
            best = _importance(block).topk(kept).indices.sort().values
            _keep(tensors, name, block, best)
    small.load_state_dict(tensors)
    return small


def _importance(block: GTBlock) -> Tensor:
    """Of each inner feat, ``(inner,)``."""
    outgoing = block.point_conv2.weight
    outgoing = outgoing if block.transposed else outgoing.transpose(0, 1)  # (inner, half, 1, 1)
    return outgoing.flatten(1).norm(dim=1) * block.depth_bn.weight.abs()


def _keep(tensors: dict[str, Tensor], name: str, block: GTBlock, best: Tensor) -> None:
    spread, merge = (1, 0) if block.transposed else (0, 1)  # axes that the inner feats are on
    axes = {"point_conv1.weight": spread, "point_conv2.weight": merge, "depth_conv.weight": 0}
    axes |= {"point_conv1.bias": 0, "depth_conv.bias": 0}
    for norm in ("point_bn1", "depth_bn"):
        axes |= {f"{norm}.{part}": 0 for part in ("weight", "bias", "running_mean", "running_var")}
    for part, axis in axes.items():
        tensors[f"{name}.{part}"] = tensors[f"{name}.{part}"].index_select(axis, best)


class TopK:
    """Holds the smallest weights of a network at zero, a growing share of them.

    Which ones is read off the weights themselves, so a run that goes on needs nothing else.

    Args:
        net: its learned matrices and kernels are looked at together; biases and norms stay.
        amount: share that is zero in the end.
        ramp: steps until then; the share follows a cubic (Zhu & Gupta 2017, "To prune,
            or not to prune", eq. 1).
    """

    EVERY = 10  # steps between two choices on the way

    def __init__(self, net: nn.Module, amount: float, ramp: int) -> None:
        self.amount, self.ramp = amount, ramp
        self.weights = {n: p for n, p in net.named_parameters() if p.requires_grad and p.dim() > 1}
        self.kept = {name: weight != 0 for name, weight in self.weights.items()}

    def share(self, step: int) -> float:
        """Share of zeros after a step."""
        left = max(0.0, 1 - step / self.ramp) if self.ramp else 0.0
        return self.amount * (1 - left**3)

    @torch.no_grad()
    def apply(self, step: int, *followers: nn.Module) -> None:
        """Put to zero what should be after a step, in `followers` (averaged weights) too."""
        if step <= self.ramp and (step % self.EVERY == 0 or step == self.ramp):
            self._choose(self.share(step))
        nets = [self.weights, *(dict(net.named_parameters()) for net in followers)]
        for name, kept in self.kept.items():
            for weights in nets:
                weights[name].mul_(kept)

    def _choose(self, share: float) -> None:
        magnitudes = torch.cat([w.abs().flatten() for w in self.weights.values()])
        n_zero = round(share * len(magnitudes))
        if n_zero:
            limit = magnitudes.kthvalue(n_zero).values
            self.kept = {name: w.abs() > limit for name, w in self.weights.items()}
