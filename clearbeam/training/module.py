"""One training step, as Lightning wants it, and all that a run has to remember."""

from __future__ import annotations

import copy
import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from clearbeam.training.config import TrainConfig
from clearbeam.training.prune import TopK
from clearbeam.training.tasks import Task


class Training(pl.LightningModule):
    """The network, its average over steps, and its optimiser.

    `step` counts optimiser steps from the beginning of the run, whenever that was.

    Args:
        config: of the run.
        task: what is learned.
    """

    def __init__(self, config: TrainConfig, task: Task) -> None:
        super().__init__()
        self.config, self.task = config, task
        self.net = task.network()
        self._average = [copy.deepcopy(self.net)]  # in a list: not a part that DDP looks after
        self.learned = [p for p in self.net.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            self.learned,
            lr=config.optimiser.lr,
            weight_decay=config.optimiser.weight_decay,
            # the scaler of fp16 has to look at gradients before a fused step
            fused=config.precision != "fp16",
        )
        self.functions = known_losses(config, task)
        self.step, self.skipped = 0, 0
        self.terms: dict[str, Tensor] = {}
        self.norm = torch.zeros(())
        self.pruned = _top_k(config, self.net)

    @property
    def average(self) -> nn.Module:
        """The averaged weights: what is validated and exported."""
        return self._average[0]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimiser

    def on_fit_start(self) -> None:
        self.task = self.task.to(self.device)
        self._average = [self.average.to(self.device)]
        if self.pruned and self.step == 0:
            self.pruned.apply(0, self.average)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """The weighted sum of the losses; chance inside the network depends on the step alone."""
        part = self.step * self.config.accumulate + index % self.config.accumulate
        torch.manual_seed(hash((self.config.seed, part, self.global_rank)) % 2**63)
        self._set_learning_rate()
        loss, self.terms = self.losses(self.net, batch)
        return loss

    def losses(self, net: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its parts before they are weighted."""
        outputs = self.task.outputs(net, batch)
        terms = {name: function(outputs) for name, function in self.functions.items()}
        loss = sum(self.config.losses[name] * term for name, term in terms.items())
        assert isinstance(loss, Tensor)
        return loss, {"loss": loss.detach()} | {k: v.detach() for k, v in terms.items()}

    def _set_learning_rate(self) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.config)

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip the norm; gradients that are not finite are dropped, and with them the step.

        The gradients are those of all processes, so all of them drop a step together.
        """
        self.norm = nn.utils.clip_grad_norm_(self.learned, self.config.optimiser.clip)
        if self.config.precision != "fp16" and not torch.isfinite(self.norm):
            self.skipped += 1
            for parameter in self.learned:
                parameter.grad = None

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.step += 1
        keep = min(self.config.optimiser.ema, self.step / (9 + self.step))
        follow(self.average, self.net, keep)
        if self.pruned:
            self.pruned.apply(self.step, self.average)

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as tensors and numbers."""
        return {
            "step": self.step,
            "skipped": self.skipped,
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.step, self.skipped = state["step"], state["skipped"]
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.pruned = _top_k(self.config, self.net)


def known_losses(config: TrainConfig, task: Task) -> dict[str, Any]:
    """The functions of the losses that a config names; ValueError for one the task has not."""
    from simulate.config import nearest

    known = task.losses()
    for name in config.losses:
        if name not in known:
            hint = nearest(name, list(known))
            raise ValueError(f"unknown loss {name} for the task {config.task}: {hint}")
    return {name: known[name] for name in config.losses}


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine down to `final` times the peak."""
    settings = config.optimiser
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    progress = min(1.0, (step - settings.warmup) / max(1, config.steps - settings.warmup))
    fall = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.lr * (settings.final + (1 - settings.final) * fall)


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, keep: float) -> None:
    """Move averaged weights and statistics towards the trained ones; counters are copied."""
    pairs = zip(average.state_dict().values(), net.state_dict().values(), strict=True)
    moving, towards = [], []
    for mine, trained in pairs:
        if mine.is_floating_point():
            moving.append(mine)
            towards.append(trained)
        else:
            mine.copy_(trained)
    torch._foreach_lerp_(moving, towards, 1 - keep)


def _top_k(config: TrainConfig, net: nn.Module) -> TopK | None:
    prune = config.prune
    if prune is None or prune.kind != "top_k":
        return None
    return TopK(net, prune.amount, prune.ramp)
