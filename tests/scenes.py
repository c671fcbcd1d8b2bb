"""A far-field talker and a noise before an array, simulated by delays alone: exact and quick."""

from dataclasses import dataclass

import torch
from torch import Tensor

from multichannel.steering import steering_vector
from multichannel.stft import STFT

SAMPLE_RATE = 16000
STFT_CORE = STFT()


@dataclass(frozen=True)
class FarField:
    """``x (mics, samples)`` the talker's image, ``n`` the noise, and where the two come from."""

    positions_m: Tensor
    x: Tensor
    n: Tensor
    azimuth_deg: float
    noise_azimuth_deg: float


def circle(n_mics: int = 6, radius_m: float = 0.0463) -> Tensor:
    angle = torch.arange(n_mics, dtype=torch.float64) * 2 * torch.pi / n_mics
    return radius_m * torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], -1)


def far_field(
    n_mics: int = 6,
    n_samples: int = SAMPLE_RATE,
    azimuth_deg: float = 40.0,
    noise_azimuth_deg: float = 160.0,
    snr_db: float = 5.0,
    self_noise_db: float = -20.0,
    seed: int = 0,
) -> FarField:
    """Speech-like bursts from one side, steady noise from another, and each mic's own noise.

    ``snr_db`` is that of the talker over the directed noise; ``self_noise_db`` the level of the
    mics' own noise relative to the talker.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    positions = circle(n_mics)
    bursts = noise(n_samples) * _envelope(n_samples, generator)
    x = arriving(bursts / bursts.std(correction=0), positions, azimuth_deg)
    n = arriving(noise(n_samples), positions, noise_azimuth_deg) * 10 ** (-snr_db / 20)
    n = n + noise(n_mics, n_samples) * 10 ** (self_noise_db / 20)
    return FarField(positions, 0.05 * x, 0.05 * n, azimuth_deg, noise_azimuth_deg)


def ratio_mask(scene: FarField, reference_mic: int = 0) -> Tensor:
    """The talker's share of the power at a mic ``(freqs, frames)``."""
    speech, noise = (STFT_CORE(s[reference_mic]).abs().square() for s in (scene.x, scene.n))
    return (speech / (speech + noise)).float()


def si_sdr_db(estimate: Tensor, target: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, heard from two spectra."""
    length = target.shape[-1] * STFT_CORE.config.hop
    estimate, target = (STFT_CORE.inverse(S, length).double() for S in (estimate, target))
    image = (estimate @ target) / (target @ target) * target
    error = (estimate - image).square().sum()
    return float(10 * torch.log10(image.square().sum() / error.clamp(min=1e-30)))


def _envelope(n_samples: int, generator: torch.Generator) -> Tensor:
    """Syllables: levels that change every 62 ms, a third of them near silence."""
    n_syllables = -(-n_samples // 1000)
    level = torch.rand(n_syllables, generator=generator, dtype=torch.float64)
    level = torch.where(level < 1 / 3, 0.02, level)
    return level.repeat_interleave(1000)[:n_samples]


def arriving(s: Tensor, positions_m: Tensor, azimuth_deg: float) -> Tensor:
    """Images ``(mics, samples)`` of a plane wave whose signal at the origin is ``s``."""
    n_fft = 2 * len(s)
    freqs_hz = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * SAMPLE_RATE / n_fft
    d = steering_vector(positions_m, freqs_hz, azimuth_deg).to(torch.complex128)
    return torch.fft.irfft(d.T * torch.fft.rfft(s, n_fft), n_fft)[:, : len(s)]
