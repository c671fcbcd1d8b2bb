"""Direction finding on far-field scenes."""

import pytest
import torch
from scenes import SAMPLE_RATE, STFT_CORE, circle, far_field, ratio_mask

from multichannel.direction import music, srp_phat
from multichannel.steering import steering_vector

FREQS = STFT_CORE.config.freqs_hz(SAMPLE_RATE)
FINDERS = {"srp_phat": srp_phat, "music": music}


def spectrum(scene):
    return STFT_CORE((scene.x + scene.n).float())


def apart_deg(a, b):
    return abs((float(a) - b + 180) % 360 - 180)


@pytest.mark.parametrize("name", FINDERS)
@pytest.mark.parametrize("azimuth_deg", [0.0, 73.0, 181.5, 300.0])
@pytest.mark.parametrize("n_mics", [3, 6])
def test_a_talker_is_found_within_two_degrees(name, azimuth_deg, n_mics):
    scene = far_field(n_mics, azimuth_deg=azimuth_deg, snr_db=15, noise_azimuth_deg=120.0)
    found = FINDERS[name](spectrum(scene), scene.positions_m, FREQS)
    assert apart_deg(found.azimuth_deg, azimuth_deg) <= 2
    assert found.spectrum.shape == (1, 360)
    assert found.spectrum.max() <= 1 + 1e-5


@pytest.mark.parametrize("name", FINDERS)
def test_a_mask_selects_the_talker_or_the_noise(name):
    scene = far_field(snr_db=0)
    X, mask = spectrum(scene), ratio_mask(scene)
    talker = FINDERS[name](X, scene.positions_m, FREQS, mask=mask**2)
    noise = FINDERS[name](X, scene.positions_m, FREQS, mask=(1 - mask) ** 2)
    assert apart_deg(talker.azimuth_deg, scene.azimuth_deg) <= 3
    assert apart_deg(noise.azimuth_deg, scene.noise_azimuth_deg) <= 3


@pytest.mark.parametrize("name", FINDERS)
def test_elevation_is_found_too(name):
    positions = torch.cat([circle(4), torch.tensor([[0.0, 0.0, 0.08]])])
    source = torch.randn(257, 40, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)
    X = steering_vector(positions, FREQS, 50.0, 30.0).T.unsqueeze(-1) * source
    elevations = torch.arange(-90.0, 91.0, 15.0)
    found = FINDERS[name](X, positions, FREQS, torch.arange(0.0, 360.0, 10.0), elevations)
    assert (float(found.azimuth_deg), float(found.elevation_deg)) == (50, 30)
    assert found.spectrum.shape == (13, 36)


@pytest.mark.parametrize("name", FINDERS)
def test_batched_equals_looped(name):
    scenes = [far_field(azimuth_deg=azimuth, seed=int(azimuth)) for azimuth in (10.0, 100.0, 190.0)]
    X = torch.stack([spectrum(scene) for scene in scenes])
    masks = torch.stack([ratio_mask(scene) for scene in scenes])
    found = FINDERS[name](X, scenes[0].positions_m, FREQS, mask=masks)
    for i, (x, mask) in enumerate(zip(X, masks, strict=True)):
        one = FINDERS[name](x, scenes[0].positions_m, FREQS, mask=mask)
        assert one.azimuth_deg == found.azimuth_deg[i]
        torch.testing.assert_close(one.spectrum, found.spectrum[i])


@pytest.mark.parametrize("name", FINDERS)
@pytest.mark.parametrize("fault", ["dead", "nan", "copy"])
def test_a_broken_mic_does_not_take_part(name, fault):
    scene = far_field(snr_db=15)
    X = spectrum(scene)
    X[5] = {"dead": torch.zeros(()), "nan": torch.tensor(torch.nan), "copy": X[2]}[fault]
    found = FINDERS[name](X, scene.positions_m, FREQS)
    assert apart_deg(found.azimuth_deg, scene.azimuth_deg) <= 2


@pytest.mark.parametrize("name", FINDERS)
@pytest.mark.parametrize("n_mics", [1, 6])
def test_silence_and_one_mic_give_a_finite_answer(name, n_mics):
    X = torch.zeros(n_mics, 257, 9, dtype=torch.complex64)
    found = FINDERS[name](X, circle(n_mics), FREQS)
    assert torch.isfinite(found.spectrum).all()
    assert found.azimuth_deg == 0


def test_two_sources_are_two_peaks_of_music():
    scene = far_field(snr_db=0)
    fit = music(spectrum(scene), scene.positions_m, FREQS, n_sources=2).spectrum[0]
    peaks = (fit > fit.roll(1)) & (fit > fit.roll(-1))
    two = fit.masked_fill(~peaks, 0).topk(2).indices.sort().values.tolist()
    assert apart_deg(two[0], scene.azimuth_deg) <= 3
    assert apart_deg(two[1], scene.noise_azimuth_deg) <= 3


def test_wrong_input_is_named():
    X = spectrum(far_field())
    with pytest.raises(ValueError, match="expected 257 freqs_hz, found 3"):
        srp_phat(X, circle(), FREQS[:3])
    with pytest.raises(ValueError, match="found none"):
        srp_phat(X, circle(), FREQS, band_hz=(1.0, 2.0))
    with pytest.raises(ValueError, match="n_sources from 1 to 5, found 6"):
        music(X, circle(), FREQS, n_sources=6)
