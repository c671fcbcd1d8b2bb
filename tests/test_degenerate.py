"""Every beamformer on every kind of broken input: finite, and no worse than the reference mic.

The measure is the SI-SDR towards the talker's image at the reference mic, against the SI-SDR of
that mic itself. A beam may be `MARGIN_DB` below, which nobody hears. Where the reference mic is
dead, the mic that stands in for it is the measure. Masks are the true ratio masks. Statistics
become beams as in the front-end: loaded for the number of frames, and for steered beams with the
mics' gains evened out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import pytest
import torch
from scenes import SAMPLE_RATE, STFT_CORE, FarField, far_field, ratio_mask, si_sdr_db
from torch import Tensor

from multichannel.beamform import apply_beamformer, gev, mvdr_rtf, mvdr_souden, sdw_mwf
from multichannel.loading import loading_for_frames
from multichannel.spatial import covariance_sums, finite_or_zero, recursive_covariance
from multichannel.steered import (
    MIXTURE_LOADING,
    delay_and_sum,
    lcmv,
    mpdr,
    mvdr_steered,
    superdirective,
)
from multichannel.steering import (
    diffuse_covariance,
    mic_gains,
    relative_transfer_function,
    steering_vector,
)
from multichannel.usable import usable_mics

MARGIN_DB = 0.1
FREQS = STFT_CORE.config.freqs_hz(SAMPLE_RATE)
NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Case:
    """``change`` spoils the mixture ``(mics, samples)``, ``mask`` the mask ``(freqs, frames)``."""

    change: Callable[[Tensor], Tensor] = lambda y: y
    mask: Callable[[Tensor], Tensor] = lambda mask: mask
    scene: FarField = field(default_factory=lambda: far_field())
    reference_mic: int = 0
    heard: int = 0  # the mic whose talker a blind beam keeps
    frames: tuple[int | None, int | None] = (None, None)


def at_mic(mic: int, change: Callable[[Tensor], Tensor | float]) -> Callable[[Tensor], Tensor]:
    def changed(y: Tensor) -> Tensor:
        y = y.clone()
        y[mic] = change(y)
        return y

    return changed


def at_samples(mic: int, where: slice, value: float) -> Callable[[Tensor], Tensor]:
    def changed(y: Tensor) -> Tensor:
        y = y.clone()
        y[mic, where] = value
        return y

    return changed


def bins(where: slice, value: float) -> Callable[[Tensor], Tensor]:
    def changed(mask: Tensor) -> Tensor:
        mask = mask.clone()
        mask[where] = value
        return mask

    return changed


def band_stop(y: Tensor) -> Tensor:
    """Nothing at all from 2 to 3 kHz: dead bins."""
    Y = torch.fft.rfft(y)
    n = Y.shape[-1]
    Y[..., n // 4 : 3 * n // 8] = 0
    return torch.fft.irfft(Y, y.shape[-1])


def with_noise(extra: Tensor, **kwargs: int) -> FarField:
    """A scene whose noise is louder by ``extra``, so that the mask knows of it."""
    scene = far_field(**kwargs)
    return replace(scene, n=scene.n + extra)


def tone(level: float) -> Tensor:
    return level * torch.sin(torch.arange(SAMPLE_RATE, dtype=torch.float64) * 2 * torch.pi / 16)


CASES = {
    "nothing broken": Case(),
    "another reference mic": Case(reference_mic=3, heard=3),
    "another mic dead": Case(at_mic(3, lambda y: 0.0)),
    "reference mic dead": Case(at_mic(3, lambda y: 0.0), reference_mic=3),
    "first mic dead as reference": Case(at_mic(0, lambda y: 0.0), heard=1),
    "another mic NaN": Case(at_mic(3, lambda y: NAN)),
    "reference mic NaN": Case(at_mic(3, lambda y: NAN), reference_mic=3),
    "another mic duplicated": Case(at_mic(3, lambda y: y[1])),
    "reference mic a copy": Case(at_mic(3, lambda y: y[1]), reference_mic=3, heard=1),
    "reference mic copied elsewhere": Case(at_mic(3, lambda y: y[0])),
    "another mic inverted": Case(at_mic(3, lambda y: -y[3])),
    "reference mic inverted": Case(at_mic(3, lambda y: -y[3]), reference_mic=3, heard=3),
    "another mic clipped": Case(at_mic(3, lambda y: y[3].clamp(-0.05, 0.05))),
    "reference mic clipped": Case(
        at_mic(3, lambda y: y[3].clamp(-0.05, 0.05)), reference_mic=3, heard=3
    ),
    "all mics clipped": Case(lambda y: y.clamp(-0.05, 0.05)),
    "another mic 40 dB louder": Case(at_mic(3, lambda y: 100 * y[3])),
    "reference mic 40 dB louder": Case(at_mic(3, lambda y: 100 * y[3]), reference_mic=3, heard=3),
    "another mic 40 dB quieter": Case(at_mic(3, lambda y: 0.01 * y[3])),
    "reference mic 40 dB quieter": Case(at_mic(3, lambda y: 0.01 * y[3]), reference_mic=3, heard=3),
    "an infinite sample": Case(at_samples(3, slice(5000, 5001), INF)),
    "an infinite sample at the reference mic": Case(
        at_samples(3, slice(5000, 5001), INF), reference_mic=3, heard=3
    ),
    "a NaN sample in every mic": Case(at_samples(slice(None), slice(5000, 5001), NAN)),
    "a burst of NaN": Case(at_samples(3, slice(5000, 6000), NAN)),
    "a mic that dies half way": Case(at_samples(3, slice(8000, None), 0.0)),
    "one mic alive": Case(at_samples(slice(0, 5), slice(None), 0.0), heard=5),
    "one mic not NaN": Case(at_samples(slice(0, 5), slice(None), NAN), heard=5),
    "all mics identical": Case(lambda y: y[:1].expand(6, -1)),
    "two pairs of copies": Case(lambda y: y[[0, 1, 2, 3, 2, 3]]),
    "fewer frames than mics": Case(frames=(4, 8)),
    "as many frames as mics": Case(frames=(4, 10)),
    "two frames": Case(frames=(4, 6)),
    "one frame": Case(frames=(5, 6)),
    "another frame, another reference mic": Case(frames=(33, 34), reference_mic=2, heard=2),
    "all-zero mask": Case(mask=torch.zeros_like),
    "all-one mask": Case(mask=torch.ones_like),
    "constant mask": Case(mask=lambda mask: torch.full_like(mask, 0.5)),
    "mask all NaN": Case(mask=lambda mask: NAN * mask),
    "mask with NaN": Case(mask=bins((slice(None), slice(10, 20)), NAN)),
    "mask zero in some bins": Case(mask=bins(slice(60, 120), 0.0)),
    "mask one in some bins": Case(mask=bins(slice(60, 120), 1.0)),
    "mask known in twenty frames": Case(mask=bins((slice(None), slice(20, None)), NAN)),
    "dead bins": Case(band_stop),
    "1 mic": Case(scene=far_field(1)),
    "2 mics": Case(scene=far_field(2)),
    "2 mics, one inverted": Case(at_mic(1, lambda y: -y[1]), scene=far_field(2)),
    "2 mics, one dead": Case(at_mic(1, lambda y: 0.0), scene=far_field(2)),
    "2 mics, one a copy": Case(at_mic(1, lambda y: y[0]), scene=far_field(2)),
    "16 mics": Case(scene=far_field(16)),
    "16 mics, 5 frames": Case(scene=far_field(16), frames=(4, 9)),
    "DC offset": Case(scene=with_noise(torch.tensor(0.02))),
    "DC offsets that differ": Case(
        scene=with_noise(torch.tensor([0.1, -0.1, 0.05, 0.09, -0.07, 0.1])[:, None])
    ),
    "DC offset of another mic": Case(
        scene=with_noise(torch.tensor([0, 0, 0, 0.05, 0, 0])[:, None])
    ),
    "a loud tone": Case(scene=with_noise(tone(0.2))),
    "level -80 dB": Case(lambda y: 1e-4 * y),
    "level +60 dB": Case(lambda y: 1e3 * y),
    "silence half way": Case(lambda y: torch.cat([y[:, :8000], 0 * y[:, 8000:]], -1)),
    "silence at first": Case(lambda y: torch.cat([0 * y[:, :8000], y[:, 8000:]], -1)),
    "quantised to 8 bits": Case(lambda y: (128 * y).round() / 128),
    "little noise": Case(scene=far_field(snr_db=20, self_noise_db=-30)),
    "much noise": Case(scene=far_field(snr_db=-15)),
    "no self-noise": Case(scene=far_field(self_noise_db=-200)),
}
BEAMS = {
    "mvdr_souden": lambda at: mvdr_souden(at.speech, at.noise, at.mic, at.loading),
    "mvdr_rtf": lambda at: mvdr_rtf(
        at.noise,
        relative_transfer_function(at.speech, at.noise, at.mic, loading=at.loading),
        at.mic,
        at.loading,
    ),
    "gev": lambda at: gev(at.speech, at.noise, at.mic, at.loading),
    "sdw_mwf": lambda at: sdw_mwf(at.speech, at.noise, at.mic, loading=at.loading),
    "sdw_mwf_rank1": lambda at: sdw_mwf(
        at.speech, at.noise, at.mic, rank1=True, loading=at.loading
    ),
    "delay_and_sum": lambda at: delay_and_sum(at.steering, at.usable, at.mic),
    "superdirective": lambda at: superdirective(at.diffuse, at.steering, at.usable, at.mic),
    "mvdr_steered": lambda at: mvdr_steered(at.noise, at.steering, at.mic, at.loading),
    "mpdr": lambda at: mpdr(at.mixture, at.steering, at.mic, at.mixture_loading),
    "lcmv": lambda at: lcmv(at.noise, at.steering, at.interferer, at.mic, at.loading),
}
BLIND = ("mvdr_souden", "mvdr_rtf", "gev", "sdw_mwf", "sdw_mwf_rank1")


class Statistics:
    """All that a beamformer may ask for, from a spectrum and a mask."""

    def __init__(self, X: Tensor, mask: Tensor, scene: FarField, mic: int) -> None:
        n_mics = X.shape[0]
        sums = covariance_sums(X, torch.stack([mask, 1 - mask, torch.ones_like(mask)]))
        self.speech, self.noise, self.mixture = sums.mean()
        loading = loading_for_frames(sums.weight[..., 0, 0], n_mics)
        self.loading, self.mixture_loading = loading[1], loading[2] + MIXTURE_LOADING
        self.usable = usable_mics(self.mixture, mic, keep_one_copy=False)
        positions = scene.positions_m
        self.diffuse = diffuse_covariance(positions, FREQS)
        self.steering = steering_vector(positions, FREQS, scene.azimuth_deg, reference_mic=mic)
        noise_azimuth = torch.tensor([scene.noise_azimuth_deg])
        self.interferer = steering_vector(positions, FREQS, noise_azimuth)
        self.mic = mic


@cache
def prepared(name: str) -> tuple[Tensor, Tensor, Tensor, Statistics, Statistics, Tensor]:
    """Mixture, talker, mask, statistics for blind and for steered beams, gains of the mics."""
    case = CASES[name]
    X, target = (
        STFT_CORE(x.float())[..., slice(*case.frames)]
        for x in (case.change(case.scene.x + case.scene.n), case.scene.x)
    )
    mask = case.mask(ratio_mask(case.scene)[..., slice(*case.frames)])
    blind = Statistics(X, mask, case.scene, case.reference_mic)
    gains = mic_gains(blind.steering, blind.mixture, case.reference_mic)
    even = Statistics(X / gains[:, None, None], mask, case.scene, case.reference_mic)
    return X, target, mask, blind, even, gains


@pytest.mark.parametrize("beam", BEAMS)
@pytest.mark.parametrize("name", CASES)
def test_no_worse_than_the_reference_mic(name, beam):
    case = CASES[name]
    X, target, _, blind, even, gains = prepared(name)
    w = BEAMS[beam](blind) if beam in BLIND else BEAMS[beam](even) / gains
    assert w.dtype == torch.complex64
    assert torch.isfinite(w).all()
    Y = apply_beamformer(w, X)
    assert torch.isfinite(Y).all()
    # geometry knows the talker at the reference mic even if that mic is dead
    wanted = case.heard if beam in BLIND else case.reference_mic
    alone = si_sdr_db(finite_or_zero(X[case.heard]), target[case.heard])
    assert si_sdr_db(Y, target[wanted]) >= alone - MARGIN_DB


@pytest.mark.parametrize("value", [0.0, NAN, INF])
@pytest.mark.parametrize("beam", BEAMS)
def test_silence_or_garbage_alone_gives_silence(beam, value):
    X = torch.full((6, 257, 9), value, dtype=torch.complex64)
    statistics = Statistics(X, torch.rand(257, 9), far_field(), 0)
    w = BEAMS[beam](statistics)
    assert torch.isfinite(w).all()
    assert apply_beamformer(w, X).abs().max() == 0


@pytest.mark.parametrize("beam", BEAMS)
def test_a_broken_bin_does_not_touch_the_others(beam):
    X, _, mask, whole, _, _ = prepared("nothing broken")
    X = X.clone()
    X[2, 40] = NAN
    X[:, 90] = INF
    Y = apply_beamformer(BEAMS[beam](Statistics(X, mask, far_field(), 0)), X)
    expected = apply_beamformer(BEAMS[beam](whole), prepared("nothing broken")[0])
    assert torch.isfinite(Y).all()
    others = torch.ones(257, dtype=torch.bool)
    others[[40, 90]] = False
    torch.testing.assert_close(Y[others], expected[others])
    assert Y[40].abs().max() > 0


@pytest.mark.parametrize("beam", BLIND)
def test_a_broken_mic_is_as_good_as_absent(beam):
    without = Case(
        scene=replace(
            far_field(),
            **{
                part: getattr(far_field(), part)[[0, 1, 2, 4, 5]]
                for part in ("x", "n", "positions_m")
            },
        )
    )
    X = STFT_CORE((without.scene.x + without.scene.n).float())
    five = BEAMS[beam](Statistics(X, ratio_mask(without.scene), without.scene, 0))
    for name in ("another mic dead", "another mic NaN", "another mic duplicated"):
        statistics = prepared(name)[3]
        statistics.loading = loading_for_frames((1 - ratio_mask(far_field())).sum(-1), 5)
        w = BEAMS[beam](statistics)
        assert w[:, 3].abs().max() == 0
        torch.testing.assert_close(w[:, [0, 1, 2, 4, 5]], five, rtol=1e-3, atol=1e-4)


def test_a_mic_that_breaks_live_leaves_the_beam_finite_and_comes_back():
    """Recursive statistics forget a NaN mic; no state is poisoned."""
    scene = far_field()
    y = (scene.x + scene.n).float()
    y[3, 5000:8000] = NAN
    X, mask = STFT_CORE(y), ratio_mask(scene)
    speech, _ = recursive_covariance(X, mask, 0.9)
    noise, _ = recursive_covariance(X, 1 - mask, 0.9)
    w = mvdr_souden(speech, noise, 3, loading=1e-2)
    assert torch.isfinite(apply_beamformer(w, X)).all()
    assert (w[:, -1, 3].abs() > 0).all()
