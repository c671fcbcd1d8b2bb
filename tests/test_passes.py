"""The second pass: a beam that aims at an estimate of the talker."""

from __future__ import annotations

import pytest
import torch

from clearbeam.metrics import si_sdr
from multichannel import Enhancer, FrontEndConfig
from multichannel.aim import EstimateAim, heard_presence, mvdr_towards_estimate
from multichannel.beamform import apply_beamformer
from multichannel.frontend import REFINE_INPUTS
from multichannel.gtcrn import GTCRN, GTCRNConfig
from multichannel.passes import front_end_frames
from multichannel.stft import STFT
from multichannel.weights import load_gtcrn
from simulate import SceneConfig, render, sample_scene


@pytest.fixture(scope="module")
def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Mixture (6, samples) and early image at mic 0."""
    mixture = render(sample_scene(SceneConfig.load("quickstart"), seed=3, index=0))
    return torch.from_numpy(mixture.mixture).float(), torch.from_numpy(mixture.early[0, 0]).float()


@pytest.fixture(scope="module")
def refining() -> Enhancer:
    torch.manual_seed(0)
    n_spectra, n_magnitudes, n_cues = REFINE_INPUTS
    config = GTCRNConfig(n_spectra, n_magnitudes, n_cues, compression=0.5, normalise=True)
    config_s = FrontEndConfig(block_s=1.5)
    nets = load_gtcrn("mono"), load_gtcrn("default"), GTCRN(config)
    return Enhancer(*nets, config=config_s).eval()


def _random_psd(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(4, n, 50, dtype=torch.complex128, generator=generator)
    return X @ X.mH / 50


def test_the_beam_is_the_regression_made_distortionless():
    """Woodbury: the weights point where the least-squares regression onto the estimate points."""
    psd = _random_psd(5, seed=0)
    w = mvdr_towards_estimate(psd, 0, 0.0, torch.tensor(1e9))
    cross, power = psd[:, :-1, -1], psd[:, -1, -1]
    regression = torch.linalg.solve(psd[:, :-1, :-1], cross)
    cosine = (w.conj() * regression).sum(-1).abs() / (w.norm(dim=-1) * regression.norm(dim=-1))
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-6)
    h = cross / power[:, None]
    torch.testing.assert_close((w.conj() * h).sum(-1), h[:, 0], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("estimate", ["silence", "mixture"])
def test_an_estimate_that_says_nothing_does_no_harm(scene, estimate):
    """Silence passes the reference mic; the mixture itself as the estimate does too, nearly."""
    x, _ = scene
    stft = STFT()
    X = stft(x)
    S = X[:1] if estimate == "mixture" else torch.zeros_like(X[:1])
    aim = EstimateAim(FrontEndConfig())
    w, _ = aim.block_weights(aim.sums(X, S), 0)
    beam = stft.inverse(apply_beamformer(w, X), x.shape[-1])
    assert torch.isfinite(beam).all()
    assert si_sdr(beam.numpy(), x[0].numpy()) > 20


def test_the_level_does_not_change_the_second_beam(scene):
    x, early = scene
    stft, aim = STFT(), EstimateAim(FrontEndConfig())
    X, S = stft(x), stft(early[None])
    w, _ = aim.block_weights(aim.sums(X, S), 0)
    beam = stft.inverse(apply_beamformer(w, X)).numpy()
    for scale in (1e-4, 1e4):
        scaled, _ = aim.block_weights(aim.sums(X * scale, S * scale), 0)
        assert si_sdr(stft.inverse(apply_beamformer(scaled, X)).numpy(), beam) > 50


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("chunk", [999, 40000])
def test_chunking_does_not_change_two_passes(refining, streaming, chunk):
    x = 0.1 * torch.randn(3, 80_011, generator=torch.Generator().manual_seed(1))
    whole = refining(x, streaming=streaming)
    blocks = torch.cat(list(refining.enhance_blocks(x.split(chunk, -1), streaming=streaming)))
    assert whole.shape == blocks.shape == (80_011,)
    torch.testing.assert_close(blocks, whole, rtol=0, atol=1e-5)


def test_every_beam_aims_at_the_estimate_before(scene, refining):
    """Three beams at once are two, and a third that is given their estimate."""
    x, _ = scene
    mono, multi, refine = refining.mono, refining.multi, refining.refine
    three = Enhancer(mono, multi, refine, FrontEndConfig(beams=3)).eval()
    frames = front_end_frames(mono, [multi, refine], x)
    mask, _ = refine(frames.inputs, frames.cues)
    y = STFT().inverse(mask * frames.beam, x.shape[-1])
    torch.testing.assert_close(y[:-2048], three(x, reference_mic=0)[:-2048], rtol=0, atol=1e-4)
    assert len(three.cleaners()) == 3 and len(three.cleaners(causal=True)) == 2


@pytest.mark.parametrize("streaming", [False, True])
def test_training_frames_are_what_the_enhancer_sees(scene, streaming):
    """Masking `front_end_frames` with the second network is the enhancer's own output."""
    x, _ = scene
    refine = load_gtcrn("default")  # any network of the first beam will do: its inputs are fewer
    mono, multi = load_gtcrn("mono"), load_gtcrn("default")
    frames = front_end_frames(mono, [], x, causal=streaming)
    mask, _ = refine(frames.inputs, frames.cues)
    y = STFT().inverse(mask * frames.beam, x.shape[-1])
    enhanced = Enhancer(mono, multi)(x, reference_mic=0, streaming=streaming)
    torch.testing.assert_close(y[:-2048], enhanced[:-2048], rtol=0, atol=1e-4)
    second = front_end_frames(mono, [multi], x, causal=streaming)
    assert second.estimate is not None and second.inputs.shape[0] == 4
    estimate = STFT().inverse(second.estimate, x.shape[-1])
    torch.testing.assert_close(estimate[:-2048], enhanced[:-2048], rtol=0, atol=1e-4)


def _first_beam(x: torch.Tensor, early: torch.Tensor) -> float:
    beamed = front_end_frames(load_gtcrn("mono"), [], x)
    return si_sdr(STFT().inverse(beamed.beam, x.shape[-1]).numpy(), early.numpy())


def test_what_the_mics_hear_makes_the_first_beam_better(scene, monkeypatch):
    """Beside the presence alone; a mic that comes and goes is no direction to learn from."""
    x, early = scene
    mixture = torch.cat([x, x], -1)
    image = torch.cat([early, early])
    found = _first_beam(mixture, image)
    gone = mixture.clone()
    gone[2, gone.shape[-1] // 3 : gone.shape[-1] // 2] = 0
    with_five = _first_beam(gone, image)
    monkeypatch.setattr("multichannel.aim.heard_presence", lambda X, presence: presence)
    assert found > _first_beam(mixture, image) + 0.5
    assert with_five > found - 1.5


def test_of_next_to_no_speech_no_talker_is_made():
    """A click at the start of the mask, as networks have it, in noise from everywhere."""
    g = torch.Generator().manual_seed(0)
    X = torch.randn(4, 40, 200, dtype=torch.complex64, generator=g)
    presence = torch.full((40, 200), 1e-5)
    presence[:, 0] = 0.15
    assert torch.equal(heard_presence(X, presence), presence)


@pytest.mark.parametrize("n_mics", [1, 2, 16])
def test_where_mics_tell_nothing_the_presence_stays(n_mics):
    """Copies of one mic, and a recording too short to learn directions from."""
    g = torch.Generator().manual_seed(0)
    X = torch.randn(1, 40, 200, dtype=torch.complex64, generator=g).expand(n_mics, -1, -1)
    presence = torch.rand(40, 200, generator=g)
    found = heard_presence(X, presence)
    assert ((found > 0.5) == (presence > 0.5)).float().mean() > 0.99
    short = max(30, 5 * n_mics) - 1
    assert torch.equal(heard_presence(X[..., :short], presence[:, :short]), presence[:, :short])
