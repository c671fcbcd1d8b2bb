"""The task `fasnet`: the FaSNet-TAC of asteroid on the clips of `separate`, a rival of ours.

Luo, Chen, Mesgarani & Yoshioka, "End-to-end microphone permutation and number invariant
multi-channel speech separation", ICASSP 2020.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from clearbeam.training.asteroid_adapter import fasnet_tac
from clearbeam.training.config import TrainConfig
from clearbeam.training.separation import Separate
from clearbeam.training.tasks import Loss, Outputs
from multichannel.weights import save_weights, with_weights
from separation import objectives

_LOSSES = ("pit_si_sdr", "snr", "compressed")


@dataclass(frozen=True)
class FaSNetConfig:
    """Size of a FaSNet-TAC, as published where left out; ``n_talkers`` streams."""

    n_talkers: int = 3
    feature_dim: int = 64
    hidden_dim: int = 128
    tac_hidden_dim: int = 384
    n_layers: int = 4
    window_ms: int = 4
    context_ms: int = 16
    guided: ClassVar[bool] = False

    def network(self) -> nn.Module:
        """The network with its first weights."""
        size = asdict(self)
        return fasnet_tac(size.pop("n_talkers"), **size)


class FaSNet(Separate):
    """Trains a FaSNet-TAC."""

    kind = FaSNetConfig

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        if config.init:
            raise ValueError(f"expected no init for the task {config.task}, found {config.init}")

    def network(self) -> nn.Module:
        torch.manual_seed(self.config.seed)
        return self.size.network()

    def outputs(self, net: nn.Module, batch: dict[str, Tensor]) -> Outputs:
        mixture, images = batch["mixture"], batch["early"]
        streams = streams_of(net, mixture)
        common = torch.einsum("bin,bjn->bij", streams.detach(), images)
        streams = objectives.in_order(streams, objectives.order_of(common))
        extra = {"X": self.stft(mixture[:, 0]), "S": self.stft(images), "S_hat": self.stft(streams)}
        return Outputs(streams, images, mixture[:, 0], extra)

    def losses(self) -> dict[str, Loss]:
        """Those of `Separate` that ask for streams alone."""
        known = super().losses()
        return {name: known[name] for name in _LOSSES}

    def save(self, net: nn.Module, path: Path, facts: dict[str, Any]) -> None:
        save_weights(net, path, network=asdict(self.size), training=facts)


def streams_of(net: nn.Module, x: Tensor) -> Tensor:
    """Streams ``(batch, talkers, samples)`` of ``x (batch, mics, samples)``; mics that are missing
    in a clip come last, and are zero."""
    n_mics = (x.abs().amax(-1) > 0).sum(-1).clamp(min=1)
    return net(x, n_mics)


def load_fasnet(path: Path) -> nn.Module:
    """A trained FaSNet-TAC, in evaluation mode; ValueError for a file that holds none."""
    try:
        size = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["network"]
        config = FaSNetConfig(**size)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"expected the config of a FaSNet beside {path}, found {error}") from None
    return with_weights(config.network(), path)
