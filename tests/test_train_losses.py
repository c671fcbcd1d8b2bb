"""Losses are least where they should be, finite everywhere, and gradients reach what they train."""

from __future__ import annotations

import pytest
import torch
from pystoi import stoi

from clearbeam.training.asteroid_adapter import asteroid_losses
from clearbeam.training.beam import MaskedBeam
from clearbeam.training.losses import common_losses
from clearbeam.training.tasks import Outputs
from multichannel.cache import FrontEnd
from multichannel.gtcrn import GTCRN, GTCRNConfig
from multichannel.stft import STFT
from multichannel.weights import load_gtcrn

OWN = ("compressed_spectral", "si_snr", "multi_resolution_stft", "stoi")
ASTEROIDS = ("si_sdr", "pit_si_sdr", "pmsqe")


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _loss(name: str, estimate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    if name in ASTEROIDS:
        try:
            asteroid_losses()
        except ImportError as reason:
            pytest.skip(str(reason))
    return common_losses(STFT())[name](Outputs(estimate, reference, reference))


@pytest.mark.parametrize("name", [*OWN, *ASTEROIDS])
def test_a_better_estimate_has_a_lower_loss(name):
    reference, noise = _noise(2, 4000), _noise(2, 4000, seed=1)
    losses = [_loss(name, reference + g * noise, reference).item() for g in (0.0, 0.1, 0.5, 1.0)]
    assert losses == sorted(losses) and losses[0] < losses[-1]


@pytest.mark.parametrize("name", [*OWN, "pmsqe"])
@pytest.mark.parametrize("silent", ["estimate", "reference", "both"])
def test_losses_and_gradients_are_finite_on_silence(name, silent):
    estimate = _noise(2, 4000) * (silent == "reference")
    reference = _noise(2, 4000, seed=1) * (silent == "estimate")
    estimate.requires_grad_()
    loss = _loss(name, estimate, reference)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(estimate.grad).all()


def test_losses_that_say_so_do_not_depend_on_the_level():
    estimate, reference = _noise(2, 4000), _noise(2, 4000, seed=1)
    for name in ("si_snr", "multi_resolution_stft"):
        small = _loss(name, 1e-3 * estimate, 1e-3 * reference)
        torch.testing.assert_close(small, _loss(name, estimate, reference), rtol=1e-2, atol=1e-2)


def test_the_loss_of_intelligibility_follows_stoi():
    """At every level of noise it says what the published measure says, whatever the gain."""
    speech = _noise(1, 32_000).cumsum(-1) * (torch.linspace(0, 40, 32_000).sin() > 0)
    for gain in (0.5, 4.0, 16.0):
        noisy = speech + gain * _noise(1, 32_000, seed=1)
        theirs = stoi(speech[0].numpy(), noisy[0].numpy(), 16_000)
        ours = 1 - _loss("stoi", 3 * noisy, speech).item()
        assert ours == pytest.approx(theirs, abs=0.06)


def test_pit_does_not_care_about_the_order_of_talkers():
    reference = _noise(2, 3, 4000)
    estimate = reference + 0.1 * _noise(2, 3, 4000, seed=1)
    loss = _loss("pit_si_sdr", estimate, reference)
    torch.testing.assert_close(_loss("pit_si_sdr", estimate[:, [2, 0, 1]], reference), loss)
    torch.testing.assert_close(_loss("si_sdr", estimate, reference), loss)
    assert _loss("si_sdr", estimate[:, [2, 0, 1]], reference) > loss + 10


def test_the_trained_beam_is_the_beam_of_the_front_end():
    """One block, so what the loss sees is what the enhancer would do."""
    net, stft = load_gtcrn("mono"), STFT()
    speech = _noise(1, 16_000).cumsum(-1) * 0.05
    mixture = torch.cat([speech.roll(k, -1) for k in range(3)]) + _noise(3, 16_000, seed=1)
    clip = {"mixture": mixture.numpy(), "early": speech[0].numpy()}
    theirs = stft.inverse(torch.from_numpy(FrontEnd("mono", causal_every=0)(clip, 0)["spectra"][0]))
    padded = torch.cat([mixture, torch.zeros(2, 16_000)])  # as beside a clip of five mics
    with torch.no_grad():
        ours = MaskedBeam(stft)(net, padded[None])[0]
    n = 14_000  # the front-end has silence after the clip, and frames of it in its statistics
    assert (ours[:n] - theirs[:n]).norm() < 0.05 * theirs[:n].norm()


def test_the_loss_of_the_beam_reaches_the_mask_network():
    torch.manual_seed(0)
    net = GTCRN(GTCRNConfig(normalise=True, compression=0.5))
    early = _noise(2, 8000)
    mixture = early[:, None] + _noise(2, 3, 8000, seed=1)
    mixture[1, 2] = 0  # a clip with fewer mics
    beam = MaskedBeam(STFT())(net, mixture)
    (beam - early).square().mean().backward()
    gradients = [p.grad for p in net.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert max(float(g.abs().max()) for g in gradients) > 0
