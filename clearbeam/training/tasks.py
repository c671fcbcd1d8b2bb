"""Tasks: what a run teaches a network. Each is a plug-in that the trainer knows nothing else about.

A further task is one class with the methods of `Task` and one line in `TASKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clearbeam.training.config import TrainConfig
    from multichannel.data import Source

TASKS = {
    "mask": "clearbeam.training.enhancement:Mask",
    "enhance": "clearbeam.training.enhancement:Enhance",
    "refine": "clearbeam.training.enhancement:Refine",
    "separate": "clearbeam.training.separation:Separate",
    "fasnet": "clearbeam.training.fasnet:FaSNet",
    "separate-post": "clearbeam.training.postfilter:PostFilter",
}


@dataclass
class Outputs:
    """What a network made of a batch, for losses, scores and pictures.

    estimate, reference: waveforms ``(batch, samples)``, or ``(batch, talkers, samples)``.
    heard: what the estimate was made from, ``(batch, samples)``. extra: what only some losses look
    at, under the names that they know.
    """

    estimate: Tensor
    reference: Tensor
    heard: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)


Loss = Callable[[Outputs], "Tensor"]


class Task(Protocol):
    """What the trainer asks of a task."""

    def network(self) -> nn.Module:
        """The network to be trained, with its first weights."""

    def source(self, which: str, folder: Path) -> Source:
        """Clips of `train` or `valid`; what has to be computed for them is kept in `folder`."""

    def to(self, device: Any) -> Task:
        """Move what is not trained (transforms, a teacher) to a device."""

    def outputs(self, net: nn.Module, batch: dict[str, Tensor]) -> Outputs:
        """What the network makes of a batch of clips."""

    def losses(self) -> Mapping[str, Loss]:
        """The losses that can be asked for, each a mean over the batch."""

    def scores(self, outputs: Outputs) -> dict[str, Tensor]:
        """What is worth knowing of each valid clip beside its loss: ``{name: (batch,)}``."""

    def save(self, net: nn.Module, path: Path, facts: dict[str, Any]) -> None:
        """Write weights that the rest of the package loads."""


def make_task(config: TrainConfig) -> Task:
    """The task that a config names, refused in one line where the config does not fit it."""
    module, _, name = TASKS[config.task].partition(":")
    return getattr(import_module(module), name)(config)
