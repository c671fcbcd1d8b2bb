"""The only module that touches asteroid: its SI-SDR, PMSQE and permutation-invariant losses, and
its FaSNet-TAC.

asteroid is there for training alone. Importing it needs a hand: it imports torch_stoi, which
imports torchaudio, which does not load beside every build of torch. A stand-in takes the place of
the STOI loss, which nothing here uses.
"""

from __future__ import annotations

import sys
import types
import warnings
from functools import cache
from importlib import import_module
from types import ModuleType

from torch import Tensor, nn

from multichannel.stft import STFT

_INAUDIBLE = 1e-10  # added to power: no bin is silent, and clips that are get a loss


def asteroid_losses() -> ModuleType:
    """`asteroid.losses`; raises as `asteroid_part`."""
    return asteroid_part("losses")


def fasnet_tac(n_talkers: int, **size: int) -> nn.Module:
    """A FaSNet-TAC: ``(batch, mics, samples)``, numbers of mics -> streams of talkers."""
    return asteroid_part("models").FasNetTAC(n_talkers, **size)


def asteroid_part(name: str) -> ModuleType:
    """`asteroid.losses` or `asteroid.models`.

    Raises ImportError, in one line, where asteroid cannot be used.
    """
    if "torch_stoi" not in sys.modules:
        stand_in = types.ModuleType("torch_stoi")
        stand_in.NegSTOILoss = object  # type: ignore[attr-defined]
        sys.modules["torch_stoi"] = stand_in
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(f"asteroid.{name}")
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ImportError(
            f"expected asteroid for this (pip install 'clearbeam[train]'), found: {reason}"
        ) from None


def negative_si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Minus the SI-SDR in dB (Le Roux et al. 2019), a mean over all but the last axis.

    Args:
        estimate, reference: waveforms ``(..., samples)``.
    """
    flat = estimate.reshape(-1, estimate.shape[-1]), reference.reshape(-1, reference.shape[-1])
    return asteroid_losses().singlesrc_neg_sisdr(*flat).mean()


def negative_pit_si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Minus the SI-SDR in dB of the best assignment of estimates to talkers, a mean over the batch.

    Kolbaek, Yu, Tan & Jensen 2017, "Multitalker speech separation with utterance-level permutation
    invariant training of deep recurrent neural networks".

    Args:
        estimate, reference: waveforms ``(batch, talkers, samples)``.
    """
    losses = asteroid_losses()
    return losses.PITLossWrapper(losses.pairwise_neg_sisdr, pit_from="pw_mtx")(estimate, reference)


def perceptual_distortion(estimate: Tensor, reference: Tensor, stft: STFT) -> Tensor:
    """PMSQE, a differentiable stand-in for PESQ: 0 is no distortion; a mean over the batch.

    Martin-Donas, Gomez, Gonzalez & Peinado, "A deep learning loss function based on the perceptual
    evaluation of the speech quality", IEEE SPL 2018. A silent reference has no quality to speak of,
    so its clip counts as undistorted.

    Args:
        estimate, reference: waveforms ``(batch, samples)`` at 16 kHz.
        stft: transform with windows of 512 samples.
    """
    powers = [X.real.square() + X.imag.square() for X in (stft(estimate), stft(reference))]
    heard = reference.abs().amax(-1) > 0
    distortion = _pmsqe().to(estimate.device)(*(x.mT + _INAUDIBLE for x in powers))
    return distortion.where(heard, 0).mean()


@cache
def _pmsqe() -> nn.Module:
    return asteroid_losses().SingleSrcPMSQE()
