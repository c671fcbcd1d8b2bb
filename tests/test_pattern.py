"""What a beam does, as numbers: its pattern, directivity index and white-noise gain."""

import numpy as np
import torch
from scenes import circle
from test_steering import FREQS

from multichannel.pattern import beam_pattern, directivity_index, white_noise_gain
from multichannel.steered import delay_and_sum, superdirective
from multichannel.steering import diffuse_covariance, steering_vector


def test_pattern_of_delay_and_sum_is_one_ahead_and_less_elsewhere():
    d = steering_vector(circle(), FREQS, torch.arange(0.0, 360.0, 10.0))
    pattern = beam_pattern(delay_and_sum(d[4]), d)
    assert pattern.shape == (36, 33)
    torch.testing.assert_close(pattern[4], torch.ones(33))
    assert (pattern <= 1 + 1e-5).all()
    assert (pattern[22, 8:] < 0.9).all()


def test_delay_and_sum_has_the_highest_white_noise_gain():
    d = steering_vector(circle(), FREQS, 40.0)
    diffuse = diffuse_covariance(circle(), FREQS)
    gain_db = white_noise_gain(delay_and_sum(d), d)
    torch.testing.assert_close(gain_db, torch.full_like(gain_db, 10 * np.log10(6)))
    assert (white_noise_gain(superdirective(diffuse, d), d) <= gain_db + 1e-4).all()


def test_superdirective_has_the_highest_directivity_index():
    d = steering_vector(circle(), FREQS, 40.0)
    diffuse = diffuse_covariance(circle(), FREQS)
    sharp = directivity_index(superdirective(diffuse, d, loading=1e-6), d, diffuse)
    robust = directivity_index(superdirective(diffuse, d), d, diffuse)
    plain = directivity_index(delay_and_sum(d), d, diffuse)
    assert (sharp >= robust - 1e-3).all() and (robust >= plain - 1e-3).all()
    pair, low = torch.tensor([[0.0, 0, 0], [0.02, 0, 0]]), torch.tensor([500.0])
    ahead, around = steering_vector(pair, low, 0.0), diffuse_covariance(pair, low)
    endfire = directivity_index(superdirective(around, ahead, loading=1e-8), ahead, around)
    assert abs(float(endfire) - 20 * np.log10(2)) < 0.05  # mics^2: Uzkov's limit
    assert (sharp - plain).max() > 3
    one_mic = torch.zeros(33, 6, dtype=torch.complex64)
    one_mic[:, 0] = 1
    torch.testing.assert_close(
        directivity_index(one_mic, d, diffuse), torch.zeros(33).double(), atol=1e-5, rtol=0
    )
