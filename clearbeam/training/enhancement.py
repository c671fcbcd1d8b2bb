"""The tasks `mask`, `enhance` and `refine`: GTCRNs that clean a microphone, the beam of the
front-end, or a second beam, which aims at what `enhance` made of the first."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clearbeam.training.beam import MaskedBeam
from clearbeam.training.config import TrainConfig, build
from clearbeam.training.losses import common_losses
from clearbeam.training.prune import without_inner_feats
from clearbeam.training.sources import open_source
from clearbeam.training.tasks import Loss, Outputs
from multichannel.data import Source
from multichannel.enhance import stft_of_latency
from multichannel.frontend import BEAM_INPUTS, REFINE_INPUTS
from multichannel.gtcrn import GTCRN, GTCRNConfig
from multichannel.losses import negative_si_snr, si_snr_ratio
from multichannel.stft import STFT
from multichannel.weights import load_gtcrn, save_gtcrn


class _Enhancement:
    """What these tasks share; they differ in what their network hears."""

    inputs: tuple[int, int, int]

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.stft = STFT(stft_of_latency(config.latency_ms))
        self.gtcrn = build(GTCRNConfig, config.network, "network")
        self._check_inputs(self.gtcrn, "network")
        self.teacher = load_gtcrn(config.teacher) if config.teacher else None
        if self.teacher is not None:
            self._check_inputs(self.teacher.config, "teacher")

    def _check_inputs(self, gtcrn: GTCRNConfig, what: str) -> None:
        if gtcrn.inputs != self.inputs:
            raise ValueError(
                f"{what}: expected {self.inputs} spectra, magnitudes and cues for the task "
                f"{self.config.task}, found {gtcrn.inputs}"
            )

    def network(self) -> nn.Module:
        torch.manual_seed(self.config.seed)
        init, prune = self.config.init, self.config.prune
        if init and prune and prune.kind == "structured":
            return without_inner_feats(load_gtcrn(init), prune.amount)
        net = GTCRN(self.gtcrn)
        if init:
            warm_start(net, load_gtcrn(init))
        return net

    def source(self, which: str, folder: Path) -> Source:
        raise NotImplementedError

    def to(self, device: Any) -> _Enhancement:
        self.stft = self.stft.to(device)
        if self.teacher is not None:
            self.teacher = self.teacher.to(device)
        return self

    def spectra(self, batch: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def outputs(self, net: nn.Module, batch: dict[str, Tensor]) -> Outputs:
        X, cues = self.spectra(batch), batch.get("cues")
        n_samples = batch["early"].shape[-1]
        heard = batch["mixture"][:, 0] if "mixture" in batch else None
        outputs = Outputs(
            estimate=self.stft.inverse(net(X, cues)[0] * X[:, 0], n_samples),
            reference=batch["early"],
            heard=self.stft.inverse(X[:, 0], n_samples) if heard is None else heard,
        )
        if self.teacher is not None:
            with torch.no_grad():
                taught = self.teacher(X, cues)[0] * X[:, 0]
                outputs.extra["teacher"] = self.stft.inverse(taught, n_samples)
        return outputs

    def losses(self) -> dict[str, Loss]:
        return common_losses(self.stft)

    def scores(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"si_snr_db": 10 * si_snr_ratio(outputs.estimate, outputs.reference).log10()}

    def save(self, net: nn.Module, path: Path, facts: dict[str, Any]) -> None:
        assert isinstance(net, GTCRN)
        save_gtcrn(net, path, training=facts, latency_ms=self.config.latency_ms)


class Mask(_Enhancement):
    """The one-input GTCRN: cleans mic 0, and makes the masks that steer the beam."""

    inputs = (1, 0, 0)

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.beam = MaskedBeam(self.stft) if "beam" in config.losses else None

    def source(self, which: str, folder: Path) -> Source:
        return open_source(self.config, which, folder, n_mics=None if self.beam else 1)

    def to(self, device: Any) -> Mask:
        super().to(device)
        if self.beam is not None:
            self.beam = self.beam.to(device)
        return self

    def spectra(self, batch: dict[str, Tensor]) -> Tensor:
        return self.stft(batch["mixture"][:, :1])

    def outputs(self, net: nn.Module, batch: dict[str, Tensor]) -> Outputs:
        outputs = super().outputs(net, batch)
        if self.beam is not None:
            outputs.extra["beam"] = self.beam(net, batch["mixture"])
        return outputs

    def losses(self) -> dict[str, Loss]:
        """The common ones and `beam`: minus the log10 SI-SNR of the beam that the masks steer."""
        return super().losses() | {"beam": lambda o: negative_si_snr(o.extra["beam"], o.reference)}

    def scores(self, outputs: Outputs) -> dict[str, Tensor]:
        scores = super().scores(outputs)
        if "beam" in outputs.extra:
            ratio = si_snr_ratio(outputs.extra["beam"], outputs.reference)
            scores["beam_si_snr_db"] = 10 * ratio.log10()
        return scores


class Enhance(_Enhancement):
    """The multi-input GTCRN: cleans the beam. The beam is given, so it is scored, not trained."""

    inputs = BEAM_INPUTS

    def source(self, which: str, folder: Path) -> Source:
        return open_source(self.config, which, folder, front_end=True)

    def spectra(self, batch: dict[str, Tensor]) -> Tensor:
        X = batch["spectra"]
        return torch.cat([X, X[:, 1:2] - X[:, :1]], dim=1)

    def scores(self, outputs: Outputs) -> dict[str, Tensor]:
        beam = 10 * si_snr_ratio(outputs.heard, outputs.reference).log10()
        return super().scores(outputs) | {"beam_si_snr_db": beam}


class Refine(Enhance):
    """The same for the second beam, with the estimate that it aims at as a further input."""

    inputs = REFINE_INPUTS

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        check_before(config, "the network of the first beam")


def check_before(config: TrainConfig, what: str) -> None:
    """Raise ValueError where `data.before` does not name one network, `what` the task needs."""
    if len(config.data.before) != 1:
        raise ValueError(
            f"data.before: expected {what} for the task {config.task}, found {config.data.before}"
        )


def warm_start(net: GTCRN, start: GTCRN) -> None:
    """Begin with the weights of a network of the same width and no more inputs.

    The inputs that it does not have start at zero, so the network begins as that one. Raises
    ValueError where sizes do not fit.
    """
    tensors = copy.copy(start.state_dict())
    first = "encoder.en_convs.0.conv.weight"
    weight = torch.zeros_like(net.state_dict()[first])
    same = (start.config.width, start.config.inner) == (net.config.width, net.config.inner)
    fewer = all(a <= b for a, b in zip(start.config.inputs, net.config.inputs, strict=True))
    if not same or not fewer:
        raise ValueError(
            f"init: expected a network of width {net.config.width} with at most "
            f"{net.config.inputs} spectra, magnitudes and cues, found width {start.config.width}, "
            f"{start.config.inputs} and inner feats {start.config.inner}"
        )
    into, out_of = _shared_maps(net.config.inputs, start.config.inputs)
    weight[:, into] = tensors[first][:, out_of]
    net.load_state_dict({**tensors, first: weight})


def _shared_maps(
    net: tuple[int, int, int], start: tuple[int, int, int]
) -> tuple[list[int], list[int]]:
    """Channels of the first convolution, in both networks, of the maps that both have: of each
    spectrum three, of each magnitude and cue one, and of each map its band and two neighbours."""
    into: list[int] = []
    out_of: list[int] = []
    here = there = 0
    for per_input, n_net, n_start in zip((9, 3, 3), net, start, strict=True):
        into += range(here, here + per_input * n_start)
        out_of += range(there, there + per_input * n_start)
        here, there = here + per_input * n_net, there + per_input * n_start
    return into, out_of
