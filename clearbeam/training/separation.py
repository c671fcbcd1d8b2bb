"""The task `separate`: embeddings and masks that tell talkers apart.

What is wanted are the reverberant images of the talkers at the reference microphone. The order of a
network's masks is free, so they are put in the order of the talkers that fits best before any loss
looks at them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clearbeam.training.config import Simulated, TrainConfig, build
from clearbeam.training.guided import Guided, KeptGuided, is_guided, kept_guided
from clearbeam.training.losses import common_losses
from clearbeam.training.sources import cache_of, kept_clips, located
from clearbeam.training.talkers import Apart, DrawnTalkers, PackedTalkers, Remixed, pack_talkers
from clearbeam.training.tasks import Loss, Outputs
from multichannel.data import Source
from multichannel.losses import si_snr_ratio
from multichannel.stft import STFT
from separation import objectives
from separation.network import SeparationConfig, SeparationNet
from separation.weights import find_separation, load_separation, save_separation

_LOUD = 0.01  # share of the power of all masks above which a mask is taken for a talker
_PRODUCTS = objectives.Products._fields


class Separate:
    """Trains a `SeparationNet`, causal or not as its config says."""

    kind: type[Any] = SeparationConfig  # the config of the network

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.stft = STFT()
        self.size = build(self.kind, config.network, "network")
        for name, value in (("teacher", config.teacher), ("prune", config.prune)):
            if value is not None:
                raise ValueError(f"expected no {name} for the task {config.task}, found {value}")
        self.before = self._first_pass()
        if config.augment:
            raise ValueError(
                f"expected no augmentations for the task {config.task}, which mixes anew, found "
                f"{', '.join(config.augment)}"
            )

    def _first_pass(self) -> str | None:
        """The network of the first pass, where clips of the second are asked for."""
        before = self.config.data.before
        if len(before) > 1 or (before and (not self.size.guided or self.size.causal)):
            raise ValueError(
                "data.before: expected one network at most, and none but for a guided one that is "
                f"not causal, found {before}"
            )
        return str(find_separation(before[0])) if before else None

    def network(self) -> nn.Module:
        torch.manual_seed(self.config.seed)
        net = SeparationNet(self.size)
        if self.config.init:
            start = load_separation(self.config.init)
            if replace(start.config, causal=self.size.causal, blocks=self.size.blocks) != self.size:
                raise ValueError(f"init: expected {self.size}, found {start.config}")
            _begin_as(net, start)
        return net

    def source(self, which: str, folder: Path) -> Source:
        where = located(self.config, which, folder)
        before = self.before if which == "train" else None
        if isinstance(where, Simulated):
            from clearbeam.training.simulated import scene_of

            drawn = self._mixed(which, DrawnTalkers(scene_of(where), where.seed))
            return Guided(drawn, self.size.causal, before) if self.size.guided else drawn
        if is_guided(where):
            return KeptGuided(where)
        cache = cache_of(self.config, folder)
        packed = kept_clips(self.config, where, cache, "talkers", pack_talkers)
        mixed = self._mixed(which, PackedTalkers(packed))
        if not self.size.guided:
            return mixed
        guided = Guided(mixed, self.size.causal, before)
        return kept_guided(guided, packed.name, cache, self.config)

    def _mixed(self, which: str, apart: Apart) -> Remixed:
        """Valid clips as they are, the others mixed anew."""
        data, guided = self.config.data, self.size.guided
        if which == "valid":
            return Remixed(apart, self.size.n_talkers, all_mics=guided)
        return Remixed(apart, self.size.n_talkers, self.config.seed, data.times, guided)

    def to(self, device: Any) -> Separate:
        self.stft = self.stft.to(device)
        return self

    def outputs(self, net: nn.Module, batch: dict[str, Tensor]) -> Outputs:
        X = self.stft(batch["mixture"])
        S = self.stft(batch["early"])
        (masks, V), _ = net(X, shares=batch.get("shares"))
        masks = masks[:, : self.size.n_talkers]
        masks = objectives.in_order(masks, objectives.best_order(masks, X[:, 0], S))
        S_hat = masks * X[:, :1]
        products = objectives.clustering_products(V, S, X[:, 0] - S.sum(1))
        return Outputs(
            estimate=self.stft.inverse(S_hat, batch["early"].shape[-1]),
            reference=batch["early"],
            heard=batch["mixture"][:, 0],
            extra={"X": X[:, 0], "S": S, "S_hat": S_hat, **products._asdict()},
        )

    def losses(self) -> dict[str, Loss]:
        """The common ones of waveforms, and those of `separation.objectives` by their names there.

        snr, compressed: of the masked spectra, talkers in their best order. clustering, whitened:
        deep clustering of the embeddings.
        """

        def products(outputs: Outputs) -> objectives.Products:
            return objectives.Products(*(outputs.extra[name] for name in _PRODUCTS))

        def snr(outputs: Outputs) -> Tensor:
            return objectives.snr_loss(*(outputs.extra[name] for name in ("S_hat", "S", "X")))

        def compressed(outputs: Outputs) -> Tensor:
            return objectives.compressed_loss(outputs.extra["S_hat"], outputs.extra["S"])

        return {
            "pit_si_sdr": common_losses(self.stft)["pit_si_sdr"],
            "snr": snr,
            "compressed": compressed,
            "clustering": lambda o: objectives.deep_clustering(products(o)),
            "whitened": lambda o: objectives.whitened_deep_clustering(products(o)),
        }

    def scores(self, outputs: Outputs) -> dict[str, Tensor]:
        """How far the talkers who are there come out better than they went in, and how often there
        are as many loud masks as talkers."""
        heard = outputs.heard[:, None].expand_as(outputs.reference)
        present = outputs.reference.abs().amax(-1) > 0
        after = si_snr_ratio(outputs.estimate, outputs.reference)
        gain_db = 10 * (after / si_snr_ratio(heard, outputs.reference)).log10()
        power = outputs.estimate.square().mean(-1)
        found = (power > _LOUD * power.sum(-1, keepdim=True)).sum(-1)
        return {
            "si_sdr_improvement_db": (gain_db * present).sum(-1) / present.sum(-1).clamp(min=1),
            "count_right": (found == present.sum(-1)).float(),
        }

    def save(self, net: nn.Module, path: Path, facts: dict[str, Any]) -> None:
        assert isinstance(net, SeparationNet)
        save_separation(net, path, training=facts)


def _begin_as(net: nn.Module, start: nn.Module) -> None:
    """Take the weights of a network like it; of one that also looks ahead, those that do not; of
    one with more blocks, the first ones.

    Raises ValueError where it has fewer.
    """
    theirs = start.state_dict()
    if missing := net.state_dict().keys() - theirs.keys():
        raise ValueError(f"init: expected {sorted(missing)[0]}, found none")
    cut = {k: theirs[k][tuple(map(slice, v.shape))] for k, v in net.state_dict().items()}
    net.load_state_dict(cut)
