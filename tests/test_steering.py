"""Geometry: delays, levels, diffuse fields and relative transfer functions."""

import numpy as np
import pytest
import reference
import torch
from scenes import circle

from multichannel.loading import load_diagonal
from multichannel.steering import (
    diffuse_covariance,
    mic_gains,
    relative_transfer_function,
    steering_vector,
)

FREQS = torch.linspace(0, 8000, 33, dtype=torch.float64)


def random_psd(*shape, rank=None, seed=0, dtype=torch.complex64):
    generator = torch.Generator().manual_seed(seed)
    rank = rank or 2 * shape[-1]
    columns = torch.randn(*shape, rank, generator=generator, dtype=torch.complex128)
    return (columns @ columns.mH / rank).to(dtype)


def test_a_mic_nearer_the_source_hears_it_earlier():
    positions = torch.tensor([[0.0, 0.0, 0.0], [0.343, 0.0, 0.0], [0.0, 0.343, 0.0]])
    for azimuth, elevation, delays_ms in [
        (0, 0, (0, -1, 0)),
        (90, 0, (0, 0, -1)),
        (180, 0, (0, 1, 0)),
        (60, 0, (0, -0.5, -(0.75**0.5))),
        (0, 90, (0, 0, 0)),
        (0, 60, (0, -0.5, 0)),
    ]:
        d = steering_vector(positions, FREQS, azimuth, elevation)
        phase = -2 * torch.pi * FREQS[:, None] * torch.tensor(delays_ms, dtype=torch.float64) / 1e3
        expected = torch.polar(torch.ones_like(phase), phase).to(torch.complex64)
        torch.testing.assert_close(d, expected, atol=1e-5, rtol=0)


def test_steering_delays_a_signal_as_the_stft_sees_it():
    """A signal rolled by whole samples has the steering phase of that delay."""
    n_fft, sample_rate = 512, 16000
    positions = torch.tensor([[0.0, 0, 0], [-5 * 343 / sample_rate, 0, 0]])
    x = torch.randn(n_fft, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ratio = torch.fft.rfft(x.roll(5)) / torch.fft.rfft(x)
    freqs_hz = torch.arange(n_fft // 2 + 1) * sample_rate / n_fft
    d = steering_vector(positions, freqs_hz, azimuth_deg=0)
    torch.testing.assert_close(d[:, 1], ratio.to(torch.complex64), atol=1e-4, rtol=0)


def test_near_field_equals_the_literal_spherical_wave():
    azimuth, elevation, distance = 37.0, -20.0, 0.4
    a, e = np.deg2rad([azimuth, elevation])
    source = distance * np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    d = steering_vector(circle(), FREQS, azimuth, elevation, distance)
    literal = reference.steering_vector(circle().numpy(), FREQS.numpy(), source)
    np.testing.assert_allclose(d.numpy(), literal, atol=1e-5)


def test_a_distant_source_is_in_the_far_field():
    far = steering_vector(circle(), FREQS, 70.0, 10.0)
    near = steering_vector(circle(), FREQS, 70.0, 10.0, distance_m=1000.0)
    torch.testing.assert_close(near, far, atol=1e-3, rtol=0)


@pytest.mark.parametrize("distance_m", [None, 0.3])
def test_steering_is_one_at_the_reference_mic(distance_m):
    origin = steering_vector(circle(), FREQS, 70.0, distance_m=distance_m)
    d = steering_vector(circle(), FREQS, 70.0, distance_m=distance_m, reference_mic=2)
    torch.testing.assert_close(d[:, 2], torch.ones(33, dtype=torch.complex64))
    torch.testing.assert_close(d, origin / origin[:, 2:3])


def test_many_directions_equal_one_by_one():
    azimuths, elevations = torch.tensor([0.0, 40.0, 200.0]), torch.tensor([[0.0], [30.0]])
    d = steering_vector(circle(), FREQS, azimuths, elevations)
    assert d.shape == (2, 3, 33, 6)
    for i, elevation in enumerate((0.0, 30.0)):
        for j, azimuth in enumerate((0.0, 40.0, 200.0)):
            one = steering_vector(circle(), FREQS, azimuth, elevation)
            torch.testing.assert_close(d[i, j], one)


def test_diffuse_covariance_is_the_mean_over_all_directions():
    psd = diffuse_covariance(circle(), FREQS)
    literal = reference.diffuse_covariance(circle().numpy(), FREQS.numpy())
    np.testing.assert_allclose(psd.numpy(), literal, atol=2e-3)


def test_positions_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"expected .* \(mics, 3\), found \(6, 2\)"):
        steering_vector(circle()[:, :2], FREQS, 0)
    with pytest.raises(ValueError, match="away from the mics"):
        steering_vector(circle(), FREQS, 0, distance_m=0.0463)


@pytest.mark.parametrize("n_mics", [2, 6])
@pytest.mark.parametrize("reference_mic", [0, 1])
def test_gains_and_polarities_are_seen(n_mics, reference_mic):
    d = steering_vector(circle(n_mics), FREQS, 40.0, reference_mic=reference_mic)
    psd = d.unsqueeze(-1) * d.conj().unsqueeze(-2) + 0.5 * torch.eye(n_mics)
    gains = torch.tensor([1.0, -3.0, 0.01, 1.0, 1.0, 100.0])[:n_mics]
    seen = mic_gains(d, psd * gains[:, None] * gains, reference_mic)
    torch.testing.assert_close(seen, gains / gains[reference_mic], rtol=1e-3, atol=0)


def test_equal_mics_have_gain_one():
    diffuse = diffuse_covariance(circle(), FREQS)
    d = steering_vector(circle(), FREQS, 40.0)
    torch.testing.assert_close(mic_gains(d, diffuse), torch.ones(6))


def test_a_dead_mic_has_gain_one_and_the_others_are_seen():
    d = steering_vector(circle(), FREQS, 40.0)
    gains = torch.tensor([0.0, 1.0, 1.0, -1.0, 1.0, 1.0])
    psd = d.unsqueeze(-1) * d.conj().unsqueeze(-2) * gains[:, None] * gains
    seen = mic_gains(d, psd.nan_to_num(0), 1)
    torch.testing.assert_close(seen, torch.tensor([1.0, 1.0, 1.0, -1.0, 1.0, 1.0]))


@pytest.mark.parametrize("whiten", [False, True])
def test_rtf_of_rank_one_speech_is_its_direction(whiten):
    d = torch.randn(33, 5, generator=torch.Generator().manual_seed(3), dtype=torch.complex64)
    speech = d.unsqueeze(-1) * d.conj().unsqueeze(-2)
    rtf = relative_transfer_function(speech, random_psd(33, 5) if whiten else None, 2)
    torch.testing.assert_close(rtf, d / d[:, 2:3], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reference_mic", [0, 3])
def test_rtf_equals_the_literal_eigenvector(reference_mic):
    d = torch.randn(33, 5, generator=torch.Generator().manual_seed(3), dtype=torch.complex64)
    speech = d.unsqueeze(-1) * d.conj().unsqueeze(-2) + 0.3 * random_psd(33, 5, seed=1)
    noise = random_psd(33, 5, seed=2)
    rtf = relative_transfer_function(speech, noise, reference_mic)
    literal = reference.relative_transfer_function(
        speech.numpy().astype(complex), noise.numpy().astype(complex), reference_mic
    )
    assert np.abs(rtf.numpy() - literal).max() <= 1e-4 * np.abs(literal).max()


def test_rtf_is_unknown_where_speech_is_silent():
    speech = random_psd(4, 3)
    speech[2] = 0
    rtf = relative_transfer_function(speech, random_psd(4, 3, seed=1), 1)
    assert rtf[2].abs().max() == 0
    torch.testing.assert_close(rtf[[0, 1, 3], 1], torch.ones(3, dtype=torch.complex64))


def test_rtf_of_a_dead_reference_mic_is_relative_to_the_first_living_one():
    d = torch.randn(4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.complex64)
    d[:, 0] = 0
    rtf = relative_transfer_function(d.unsqueeze(-1) * d.conj().unsqueeze(-2), reference_mic=0)
    torch.testing.assert_close(rtf, d / d[:, 1:2])


def test_rtf_gradient_is_right():
    speech = random_psd(2, 3, dtype=torch.complex128).requires_grad_()
    noise = random_psd(2, 3, seed=1, dtype=torch.complex128).requires_grad_()

    def rtf(speech, noise):  # Hermitian also where gradcheck disturbs it
        speech, noise = (speech + speech.mH) / 2, (noise + noise.mH) / 2
        return relative_transfer_function(speech, noise, 1, iterations=8)

    assert torch.autograd.gradcheck(rtf, (speech, noise))


def test_rtf_gradient_stays_finite_where_eigenvalues_meet():
    speech = torch.eye(3, dtype=torch.complex64).expand(2, 3, 3).clone().requires_grad_()
    noise = load_diagonal(torch.zeros(2, 3, 3), floor=1.0)
    relative_transfer_function(speech, noise).abs().sum().backward()
    assert torch.isfinite(speech.grad).all()
