"""What each system does to a talker whose truth is known in closed form."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from clearbeam.clips import Clip
from clearbeam.metrics import SAMPLE_RATE, si_sdr
from clearbeam.systems import BEAMS, BLIND_BEAMS, OneInputNetwork, check_system, make_system
from clearbeam.wpe import wpe
from multichannel.gtcrn import GTCRN

SPEED_OF_SOUND = 343.0
N_SAMPLES = 2 * SAMPLE_RATE
MICS_M = torch.tensor(
    [[2 + 0.05 * np.cos(a), 3 + 0.05 * np.sin(a), 1.0] for a in np.arange(6) * np.pi / 3],
    dtype=torch.float32,
)
TALKER_M = torch.tensor([42.0, 33.0, 16.0])  # far away, so that its waves are plane


def free_field(source: np.ndarray, position_m: torch.Tensor) -> torch.Tensor:
    """What the mics hear of a far source without a room: (mics, samples), equal levels."""
    distance = (position_m.double() - MICS_M.double()).norm(dim=1)
    delay_s = (distance - distance.min() + 0.01) / SPEED_OF_SOUND
    freqs = torch.fft.rfftfreq(2 * N_SAMPLES, 1 / SAMPLE_RATE, dtype=torch.float64)
    spectrum = torch.fft.rfft(torch.from_numpy(source), 2 * N_SAMPLES)
    shift = torch.polar(torch.ones(()).double(), -2 * np.pi * freqs * delay_s[:, None])
    return torch.fft.irfft(spectrum * shift)[:, :N_SAMPLES].float()


def from_everywhere(seed: int) -> torch.Tensor:
    """Independent noise from forty directions around the array."""
    rng = np.random.default_rng(seed)
    towards = rng.standard_normal((40, 3))
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    places = MICS_M.mean(0) + 50 * torch.from_numpy(towards).float()
    return sum(free_field(rng.standard_normal(N_SAMPLES), place) for place in places) / 6


def speech(seed: int = 0) -> np.ndarray:
    """Noise in bursts of a tenth of a second, each with its own colour: sparse, like speech."""
    rng = np.random.default_rng(seed)
    bursts = rng.standard_normal((N_SAMPLES // 1600, 1600)) * rng.gamma(0.3, 3, (20, 1))
    return bursts.ravel()


@pytest.fixture(scope="module")
def clip() -> Clip:
    early = free_field(speech(), TALKER_M)
    interferer = free_field(speech(1), torch.tensor([2.0, -47.0, 5.0]))
    noise = interferer + 0.3 * from_everywhere(2)
    noise *= early[0].norm() / noise[0].norm()
    return Clip("clip", early + noise, early[None], MICS_M, TALKER_M[None])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A one-input GTCRN that nobody trained, saved under the published names."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("a+b:c") / "weights.safetensors"
    save_file(GTCRN().state_dict(), path)
    return path


def score(name: str, clip: Clip) -> float:
    estimate = make_system(name)(clip.mixture, clip)
    return si_sdr(estimate, clip.images[0, clip.reference_mic])


def gain_db(name: str, clip: Clip) -> float:
    """How much a linear beam raises the talker over the noise."""
    beam, early = BEAMS[name], clip.images[0]
    noise = clip.mixture - early
    after = beam(early, clip).norm() / beam(noise, clip).norm()
    return float(20 * torch.log10(after / (early[0].norm() / noise[0].norm())))


def test_noisy_is_the_reference_mic(clip):
    for mic in (0, 4):
        at = replace(clip, reference_mic=mic)
        assert torch.equal(make_system("noisy")(at.mixture, at), clip.mixture[mic])


@pytest.mark.parametrize("name", ["delay-and-sum", "superdirective"])
def test_a_steered_beam_keeps_the_talker_and_only_from_its_true_direction(name, clip):
    for mic in (0, 4):
        alone = replace(clip, mixture=clip.images[0], reference_mic=mic)
        # A delay by the phases of frames leaks at their edges, 40 dB down for 2048 samples.
        assert score(name, alone) > 30
    mirrored = 2 * MICS_M.mean(0) - clip.talkers_m
    assert score(name, replace(alone, talkers_m=mirrored)) < 10


def test_directivity_pays_against_noise_from_everywhere(clip):
    diffuse = replace(clip, mixture=clip.images[0] + from_everywhere(3))
    assert gain_db("superdirective", diffuse) > gain_db("delay-and-sum", diffuse) + 1 > 1


@pytest.mark.parametrize("name", ["oracle-mvdr", "oracle-mvdr-2048"])
def test_the_oracle_beam_cancels_an_interferer_and_needs_the_truth(name, clip):
    found = score(name, clip)
    assert found > score("noisy", clip) + 10
    assert score(name, replace(clip, reference_mic=3)) == pytest.approx(found, abs=1.5)
    misled = replace(clip, images=(clip.mixture - clip.images[0])[None])
    assert si_sdr(make_system(name)(clip.mixture, misled), clip.images[0, 0]) < 0


@pytest.mark.parametrize("name", BEAMS)
def test_a_beam_is_in_phase_with_the_reference_mic(name, clip):
    at = replace(clip, reference_mic=3)
    estimate = make_system(name)(at.mixture, at)
    images = clip.images[0]
    assert estimate.shape == (N_SAMPLES,)
    assert si_sdr(estimate, images[3]) > si_sdr(estimate, images[0]) + 3


@pytest.mark.parametrize("name", BEAMS)
def test_a_beam_is_finite_on_silence(name, clip):
    silent = replace(clip, mixture=0 * clip.mixture, images=0 * clip.images)
    estimate = make_system(name)(silent.mixture, silent)
    assert torch.equal(estimate, torch.zeros(N_SAMPLES))


def test_a_chain_is_the_network_on_the_beam(clip, weights):
    network = OneInputNetwork(weights)
    with torch.inference_mode():
        for front in ("noisy", "delay-and-sum", "oracle-mvdr-2048"):
            chained = make_system(f"{front}+gtcrn:{weights}")(clip.mixture, clip)
            assert si_sdr(chained, network(BEAMS[front](clip.mixture, clip))) > 80
        alone = make_system(f"gtcrn:{weights}")(clip.mixture, clip)
        assert si_sdr(alone, network(clip.mixture[0])) > 80


def test_a_blind_beam_takes_its_mask_from_the_network(clip, weights):
    """With a network that knows the answer the blind beam is the oracle one, at every mic."""
    knowing = lambda mixture: clip.images[0]  # noqa: E731
    for blind, oracle in (("mvdr", "oracle-mvdr"), ("mvdr-2048", "oracle-mvdr-2048")):
        beam = BLIND_BEAMS[blind](knowing, clip.mixture, clip)
        assert abs(si_sdr(beam, clip.images[0, 0]) - score(oracle, clip)) < 3
        with torch.inference_mode():
            estimate = make_system(f"{blind}+gtcrn:{weights}")(clip.mixture, clip)
        assert estimate.shape == (N_SAMPLES,) and torch.isfinite(estimate).all()


def test_the_oracle_mask_knows_the_truth_and_uses_one_mic(clip):
    assert score("oracle-mask", clip) > score("noisy", clip) + 5
    at = replace(clip, mixture=clip.mixture[:1], images=clip.images[:, :1])
    assert score("oracle-mask", at) == pytest.approx(score("oracle-mask", clip))


def test_a_beam_without_positions_is_refused(clip):
    with pytest.raises(ValueError, match="expected known positions for a steered beam"):
        make_system("superdirective")(clip.mixture, replace(clip, talkers_m=None))


@pytest.mark.parametrize("name", ["noisy", "oracle-mvdr", "delay-and-sum", "wpe"])
def test_a_system_with_some_mics_is_the_system_on_an_array_of_those(name, clip):
    few = replace(
        clip,
        mixture=clip.mixture[[0, 3, 1]],
        images=clip.images[:, [0, 3, 1]],
        mics_m=MICS_M[[0, 3, 1]],
    )
    found = make_system(f"{name}@0,3,1")(clip.mixture, clip)
    assert torch.allclose(found, make_system(name)(few.mixture, few), atol=1e-6)


def test_mics_that_are_not_there_or_leave_out_the_reference_are_refused(clip):
    with pytest.raises(ValueError, match="expected mics from 0 to 5, found 6"):
        make_system("noisy@0,6")(clip.mixture, clip)
    for name in ("noisy@1,0", "noisy@0,2,2"):
        with pytest.raises(ValueError, match="expected different mics, the reference mic 0 first"):
            check_system(name)


def test_wpe_takes_late_reverberation_away_and_leaves_the_early_part(clip):
    pytest.importorskip("nara_wpe")
    rng = np.random.default_rng(7)
    decay = np.exp(-np.arange(4800) / 900) * (np.arange(4800) > 1200)
    rir = 0.25 * decay * rng.standard_normal((4, 4800))
    clip = replace(clip, images=clip.images[:, :4])
    early = clip.images[0].double().numpy()
    late = np.stack([np.convolve(e, h)[:N_SAMPLES] for e, h in zip(early, rir, strict=True)])
    wet = replace(clip, mixture=torch.from_numpy(early + late).float())
    assert score("wpe", wet) > score("noisy", wet) + 3
    assert score("wpe", replace(clip, mixture=clip.images[0])) > 20
    silent = replace(clip, mixture=0 * clip.mixture)
    assert torch.equal(make_system("wpe")(silent.mixture, silent), torch.zeros(N_SAMPLES))
    duplicated = replace(wet, mixture=wet.mixture[[0, 0, 1]])
    assert torch.isfinite(make_system("wpe")(duplicated.mixture, duplicated)).all()


def test_wpe_stands_before_any_system(clip, weights):
    pytest.importorskip("nara_wpe")
    clip = replace(clip, mixture=clip.mixture[:2], images=clip.images[:, :2])
    dried = replace(clip, mixture=wpe(clip.mixture))
    with torch.inference_mode():
        for name in ("oracle-mvdr", f"mvdr+gtcrn:{weights}"):
            found = make_system(f"wpe+{name}")(clip.mixture, clip)
            assert torch.allclose(found, make_system(name)(dried.mixture, dried), atol=1e-5)


def test_wpe_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for ask in (check_system, make_system):
        with pytest.raises(ImportError, match="expected the package nara_wpe for wpe, found none"):
            ask("wpe+oracle-mvdr")


def test_published_weights_clean_the_published_mixture(shared):
    """Our framing is not the published one, so equal up to the first frames, not to the sample."""
    from safetensors.torch import load_file

    golden = load_file(shared / "golden" / "gtcrn_io.safetensors")
    mixture = golden["mixture"]
    enhanced = next(v for k, v in golden.items() if "dns3" in k)
    window = torch.hann_window(512).sqrt()
    theirs = torch.istft(
        torch.view_as_complex(enhanced.contiguous()), 512, 256, window=window, length=len(mixture)
    )
    with torch.inference_mode():
        ours = OneInputNetwork(shared / "golden" / "gtcrn_dns3.safetensors")(mixture)
    assert si_sdr(ours[4096:], theirs[4096:]) > 20
