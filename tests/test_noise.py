"""Noise fields have the coherence that theory asks for, and keep what the noise sounds like."""

import numpy as np
import pytest
from scipy.signal import csd, welch
from scipy.special import j0

from simulate.noise import diffuse_coherence, diffuse_noise, diffuse_white_noise, mixing_factors
from simulate.synthetic import SYNTHETIC_KINDS, synthetic_noise

FS = 16000
MICS = np.array([[0.0, 0, 0], [0.05, 0, 0], [0.05, 0.2, 0.03]])


def coherence(x: np.ndarray) -> tuple[np.ndarray, dict[tuple[int, int], np.ndarray]]:
    power = [welch(channel, FS, nperseg=512)[1] for channel in x]
    found = {}
    for m in range(len(x)):
        for n in range(m):
            f, cross = csd(x[m], x[n], FS, nperseg=512)
            found[m, n] = cross / np.sqrt(power[m] * power[n])
    return f, found


def test_theory_is_sinc_or_bessel_of_distance():
    f = np.array([100.0, 1000.0, 4000.0])
    x = 2 * np.pi * f * 0.05 / 343
    spherical, cylindrical = (
        diffuse_coherence(MICS, f, k)[:, 0, 1] for k in ("spherical", "cylindrical")
    )
    np.testing.assert_allclose(spherical, np.sin(x) / x)
    np.testing.assert_allclose(cylindrical, j0(x))


@pytest.mark.parametrize("field", ["spherical", "cylindrical"])
@pytest.mark.parametrize("kind", ["white", "fan"])
def test_diffuse_noise_has_the_coherence_of_theory(field, kind):
    rng = np.random.default_rng(1)
    x = diffuse_noise(synthetic_noise(kind, 80 * FS, FS, rng), MICS, rng, FS, field)
    f, measured = coherence(x)
    for (m, n), value in measured.items():
        expected = diffuse_coherence(MICS, f, field)[:, m, n]
        # The lowest bins are blurred by the measurement's own window.
        assert np.abs(value - expected)[3:-1].max() < 0.05


def test_one_short_noise_repeated_is_as_diffuse_as_a_long_one():
    rng = np.random.default_rng(2)
    hum = np.sin(2 * np.pi * 1000 * np.arange(60 * FS) / FS)
    f, measured = coherence(diffuse_noise(hum, MICS, rng, FS))
    at = np.argmin(np.abs(f - 1000))
    expected = diffuse_coherence(MICS, f)[at]
    for (m, n), value in measured.items():
        assert abs(value[at] - expected[m, n]) < 0.12  # 60 s of a tone hold only 1900 looks


def test_white_tails_are_diffuse_and_have_unit_variance():
    x = diffuse_white_noise(MICS, 60 * FS, np.random.default_rng(3), FS, n_sources=2)
    assert x.shape == (2, 3, 60 * FS)
    assert x.var(axis=-1) == pytest.approx(np.ones((2, 3)), abs=0.03)
    f, measured = coherence(x[0])
    for (m, n), value in measured.items():
        assert np.abs(value - diffuse_coherence(MICS, f)[:, m, n])[3:-1].max() < 0.08
    assert abs(np.corrcoef(x[0, 0], x[1, 0])[0, 1]) < 0.02, "sources share their tail"


def test_factors_multiply_to_the_coherence():
    f = np.linspace(0, 8000, 33)
    C = mixing_factors(MICS, f)
    np.testing.assert_allclose(C @ C.transpose(0, 2, 1), diffuse_coherence(MICS, f), atol=1e-9)


def test_spectrum_and_level_are_kept_at_every_microphone():
    rng = np.random.default_rng(4)
    noise = synthetic_noise("pink", 60 * FS, FS, rng)
    _, expected = welch(noise, FS, nperseg=512)
    for channel in diffuse_noise(noise, MICS, rng, FS):
        _, power = welch(channel, FS, nperseg=512)
        assert np.abs(10 * np.log10(power / expected))[2:-1].max() < 1


def test_noise_that_comes_and_goes_comes_and_goes_everywhere():
    rng = np.random.default_rng(5)
    noise = rng.standard_normal(4 * FS)
    noise[FS : 2 * FS] = 0
    x = diffuse_noise(noise, MICS, rng, FS)
    assert np.all(x[:, FS + 1024 : 2 * FS - 1024] == 0)
    assert np.all(x[:, 2 * FS + 1024 :].std(axis=1) > 0.8)


@pytest.mark.parametrize("n_samples", [1, 511, 512, 513, 1600])
def test_any_length_of_noise_gives_its_length(n_samples):
    x = diffuse_noise(np.ones(n_samples), MICS, np.random.default_rng(0), FS)
    assert x.shape == (3, n_samples) and np.all(np.isfinite(x))


def test_an_unknown_field_is_refused():
    with pytest.raises(
        ValueError, match="expected a field of spherical, cylindrical, found conical"
    ):
        diffuse_noise(np.ones(100), MICS, np.random.default_rng(0), FS, "conical")


@pytest.mark.parametrize("kind", SYNTHETIC_KINDS)
def test_synthetic_noise_has_unit_power_and_repeats(kind):
    first, again = (synthetic_noise(kind, FS, FS, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.mean(first**2) == pytest.approx(1)


def test_pink_noise_falls_three_db_an_octave():
    f, power = welch(
        synthetic_noise("pink", 60 * FS, FS, np.random.default_rng(0)), FS, nperseg=1024
    )
    level = [10 * np.log10(power[(f > a) & (f < 2 * a)].mean()) for a in (250, 500, 1000, 2000)]
    np.testing.assert_allclose(np.diff(level), -3, atol=0.3)


def test_an_unknown_noise_is_refused():
    with pytest.raises(ValueError, match="expected a noise of white"):
        synthetic_noise("brown", 10, FS, np.random.default_rng(0))
