"""The enhancer: any array, any length, offline and causal, with the shipped weights."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from clearbeam.metrics import sdr, si_sdr
from multichannel import Enhancer, FrontEndConfig, MicWarning
from multichannel.aim import PresenceAim
from multichannel.frontend import RecursiveBeam, array_gain, presence_of
from multichannel.stft import STFT
from multichannel.stream import Stream
from simulate import SceneConfig, render, sample_scene


@pytest.fixture(scope="module")
def enhancer() -> Enhancer:
    return Enhancer.from_pretrained("default", device="cpu")


@pytest.fixture(scope="module")
def scene():
    """A built-in talker in a built-in room: mixture (6, samples) and early image at mic 0."""
    mixture = render(sample_scene(SceneConfig.load("quickstart"), seed=3, index=0))
    x = torch.from_numpy(mixture.mixture).float()
    return x, mixture.early[0, 0], mixture.scene


def _noise(n_mics: int, n_samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(n_mics, n_samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("streaming", [False, True])
def test_the_talker_comes_out_clearer(enhancer, scene, streaming):
    x, early, _ = scene
    y = enhancer(x, reference_mic=0, streaming=streaming).numpy()
    assert si_sdr(y, early) > si_sdr(x[0].numpy(), early) + 3


def test_the_beam_helps_beyond_one_mic(enhancer, scene):
    x, early, _ = scene
    array = si_sdr(enhancer(x, reference_mic=0).numpy(), early)
    single = si_sdr(enhancer(x[:1]).numpy(), early)
    assert array > single + 0.5


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("n_mics", [1, 2, 5, 16])
@pytest.mark.parametrize("n_samples", [1, 255, 256, 4001])
def test_any_number_of_mics_and_samples_keeps_its_length(enhancer, streaming, n_mics, n_samples):
    y = enhancer(_noise(n_mics, n_samples), streaming=streaming)
    assert y.shape == (n_samples,) and torch.isfinite(y).all()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("chunk", [1000, 16001, 70000])
def test_chunking_does_not_change_the_output(enhancer, streaming, chunk):
    short = Enhancer(enhancer.mono, enhancer.multi, config=FrontEndConfig(block_s=1.5)).eval()
    x = _noise(3, 100_077)
    whole = short(x, streaming=streaming)
    blocks = torch.cat(list(short.enhance_blocks(x.split(chunk, -1), streaming=streaming)))
    torch.testing.assert_close(blocks, whole, rtol=0, atol=1e-5)


def test_streaming_never_looks_ahead_of_its_window(enhancer):
    x = _noise(3, 16000)
    changed = torch.cat([x[:, :8000], _noise(3, 8000, seed=9)], -1)
    a, b = enhancer(x, streaming=True), enhancer(changed, streaming=True)
    torch.testing.assert_close(a[: 8000 - 512], b[: 8000 - 512], rtol=0, atol=1e-7)


def test_output_has_no_step_at_block_borders(enhancer, scene):
    x, _, _ = scene
    long = x.repeat(1, 4)
    config = FrontEndConfig(block_s=3.0)
    short = Enhancer(enhancer.mono, enhancer.multi, enhancer.refine, config).eval()
    y = short(long, reference_mic=0).numpy()
    jumps = np.abs(np.diff(y))
    border = round(round(3.0 * 16000 / 512) * 512)
    at_borders = [jumps[k * border - 600 : k * border + 600].max() for k in range(1, 6)]
    assert max(at_borders) <= jumps.max()
    n = x.shape[-1]
    # the same words in the middle of the recording sound the same as in a whole-clip pass
    whole = enhancer(long, reference_mic=0).numpy()
    assert si_sdr(y[n : 3 * n], whole[n : 3 * n]) > 10


def test_memory_of_a_long_recording_is_bounded(enhancer):
    stream = Stream(enhancer, 2)
    held = []
    for seed in range(10):
        stream.step(_noise(2, 15 * 16000, seed))
        last = stream.offline[-1].beam  # the passes before hold some of the same frames
        held.append(last.mics.n_frames + 2 * sum(X.shape[-1] for X, _ in last.heard))
    n_block = 15 * 16000 / 256
    assert max(held[7:]) <= max(held[:7]) + 2 and max(held) < 11 * n_block


@pytest.mark.parametrize("streaming", [False, True])
def test_a_mic_of_nan_is_left_out_with_a_warning(enhancer, scene, streaming):
    x, early, _ = scene
    broken = x.clone()
    broken[2, 1234] = float("nan")
    with pytest.warns(MicWarning, match="mic 2"):
        y = enhancer(broken, reference_mic=0, streaming=streaming).numpy()
    without = enhancer(x[[0, 1, 3, 4, 5]], reference_mic=0, streaming=streaming).numpy()
    assert si_sdr(y, early) > si_sdr(without, early) - 0.5


def test_a_broken_reference_mic_is_replaced(enhancer, scene):
    x, early, _ = scene
    broken = x.clone()
    broken[0] = float("nan")
    with pytest.warns(MicWarning, match="mic 0"):
        y = enhancer(broken, reference_mic=0).numpy()
    assert np.abs(y).max() > 0.1 * x[1].abs().max()
    assert si_sdr(y, early) > -5  # another mic's view of the same talker


def test_only_nan_is_refused(enhancer):
    with pytest.raises(ValueError, match="every mic"):
        enhancer(torch.full((3, 4000), float("nan")))


@pytest.mark.parametrize("streaming", [False, True])
def test_silence_stays_silent(enhancer, streaming):
    assert enhancer(torch.zeros(4, 20_000), streaming=streaming).abs().max() == 0


@pytest.mark.parametrize("scale", [1e-3, 10.0])
def test_output_scales_with_the_input(enhancer, scene, scale):
    x = scene[0][:, :32000]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a, b = enhancer(x, reference_mic=0), enhancer(x * scale, reference_mic=0) / scale
    assert si_sdr(b.numpy(), a.numpy()) > 40


def test_leading_axes_are_free(enhancer):
    x = _noise(4, 3000).reshape(2, 2, 3000)
    y = enhancer(x)
    assert y.shape == (2, 3000)
    torch.testing.assert_close(y[1], enhancer(x[1]))


def test_a_look_direction_picks_its_talker(enhancer):
    config = SceneConfig.load("quickstart")
    talkers = config.talkers.model_copy(update={"count": 2, "min_angle_deg": 80.0})
    config = config.model_copy(update={"talkers": talkers, "snr_db": 20})
    mixture = render(sample_scene(config, seed=5, index=0))
    x = torch.from_numpy(mixture.mixture).float()
    positions = torch.tensor(mixture.scene.array.positions_m)
    for k, talker in enumerate(mixture.scene.talkers):
        away = np.subtract(talker.position_m, mixture.scene.origin_m)
        azimuth = np.degrees(np.arctan2(away[1], away[0])) - mixture.scene.rotation_deg
        y = enhancer(x, reference_mic=0, positions_m=positions, look_azimuth_deg=float(azimuth))
        scores = [si_sdr(y.numpy(), mixture.early[j, 0]) for j in range(2)]
        assert scores[k] > scores[1 - k] + 10
        # a steered beam takes the direct sound and not its reflections: a short filter is allowed
        before, after = (sdr(z, mixture.early[k, 0]) for z in (x[0].numpy(), y.numpy()))
        assert after > before + 1.5


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"look_azimuth_deg": 30.0}, "positions"),
        ({"look_azimuth_deg": 30.0, "positions_m": torch.zeros(3, 3)}, "2 mics"),
        ({"reference_mic": 2}, "reference_mic from 0 to 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(enhancer, options, reason):
    with pytest.raises(ValueError, match=reason):
        enhancer(_noise(2, 4000), **options)


def test_wrong_shapes_are_refused(enhancer):
    with pytest.raises(ValueError, match="mics, samples"):
        enhancer(torch.zeros(4000))
    with pytest.raises(ValueError, match="mics, samples"):
        enhancer(torch.zeros(6, 0))
    with pytest.raises(ValueError, match="1 to 16 mics"):
        enhancer(torch.zeros(17, 400))


def test_presence_is_a_share_of_power():
    X = torch.randn(2, 5, 7, dtype=torch.complex64)
    torch.testing.assert_close(presence_of(X, X), torch.ones(5, 7))
    assert presence_of(0 * X, X).max() == 0 and presence_of(0 * X, 0 * X).max() == 0
    torch.testing.assert_close(presence_of(0.5 * X, X), torch.full((5, 7), 0.5))
    assert array_gain(X[0], X[:1]).max() <= 1


def test_published_weights_can_be_brought(shared, scene):
    x, early, _ = scene
    path = shared / "golden" / "gtcrn_dns3.safetensors"
    y = Enhancer.from_pretrained(path, device="cpu")(x, reference_mic=0).numpy()
    assert si_sdr(y, early) > si_sdr(x[0].numpy(), early)


def test_recursive_statistics_forget():
    config = FrontEndConfig(speech_forgetting=0.9, noise_forgetting=0.9)
    stft = STFT()
    aim = PresenceAim(config, stft, torch.tensor([0]))
    X = stft(_noise(2, 8000))
    RecursiveBeam(aim).step(X, X[:1] / 2)
    assert float(aim.noise.weight.max()) < 10.001  # 1 / (1 - 0.9)
