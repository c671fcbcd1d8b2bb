"""Metrics against closed forms, a literal slow version, second implementations, and bad input."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest

from clearbeam import metrics
from clearbeam.metrics import (
    CLAMP_DB,
    METRICS,
    SAMPLE_RATE,
    attenuation,
    estoi,
    pesq_wb,
    sdr,
    si_sdr,
    stoi,
)

# pesq needs a C compiler to install, so it may be missing where the tests run.
INSTALLED = [metric for metric in METRICS.values() if metric.available]


def voice(seconds: float = 2.0, pitch_hz: float = 140.0, seed: int = 0) -> np.ndarray:
    """Harmonics under a syllable-rate envelope with pauses: enough of a voice for PESQ and STOI."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    glide = 2 * np.pi * pitch_hz * (t + 0.02 * np.sin(2 * np.pi * 0.7 * t))
    tone = sum(np.cos(k * glide + rng.uniform(0, 6)) / k for k in range(1, 40))
    envelope = np.clip(np.sin(2 * np.pi * 3.1 * t + 0.3), 0, None) ** 0.7
    return envelope * (tone + 0.2 * rng.standard_normal(t.size))


def noise_like(x: np.ndarray, snr_db: float, seed: int = 1) -> np.ndarray:
    n = np.random.default_rng(seed).standard_normal(x.size)
    return n * np.linalg.norm(x) / np.linalg.norm(n) * 10 ** (-snr_db / 20)


def literal_sdr(estimate: np.ndarray, reference: np.ndarray, taps: int) -> float:
    """BSS-eval word for word: least squares on a matrix whose columns are the delayed reference."""
    delayed = np.zeros((reference.size + taps - 1, taps))
    for delay in range(taps):
        delayed[delay : delay + reference.size, delay] = reference
    padded = np.pad(estimate, (0, taps - 1))
    target = delayed @ np.linalg.lstsq(delayed, padded)[0]
    return float(10 * np.log10(np.sum(target**2) / np.sum((padded - target) ** 2)))


@pytest.mark.parametrize("snr_db", [-30.0, 0.0, 12.5, 60.0])
def test_si_sdr_of_orthogonal_noise_is_the_energy_ratio(snr_db):
    s = voice()
    n = noise_like(s, 0)
    n -= (n @ s) / (s @ s) * s
    n *= np.linalg.norm(s) / np.linalg.norm(n) * 10 ** (-snr_db / 20)
    assert si_sdr(s + n, s) == pytest.approx(snr_db, abs=1e-9)


@pytest.mark.parametrize("snr_db", [-30.0, 0.0, 12.5, 60.0])
def test_sdr_of_an_impulse_is_the_energy_within_the_taps_over_the_energy_beyond(snr_db):
    # The delays of an impulse span the first 512 samples and nothing else.
    rng = np.random.default_rng(0)
    reference = np.eye(1, 2000)[0]
    response, rest = rng.standard_normal(512), rng.standard_normal(2000 - 512)
    rest *= np.linalg.norm(response) / np.linalg.norm(rest) * 10 ** (-snr_db / 20)
    # The loading, 120 dB down, moves an error of -60 dB by a millionth.
    assert sdr(np.concatenate([response, rest]), reference) == pytest.approx(snr_db, abs=1e-5)


def test_sdr_forgives_a_delay_within_its_taps_and_si_sdr_does_not():
    s = np.pad(voice(), (0, 600))
    assert sdr(np.roll(s, 511), s) == CLAMP_DB
    assert max(sdr(np.roll(s, 513), s), sdr(np.roll(s, 100), s, taps=50)) < 20
    assert si_sdr(np.roll(s, 20), s) < 0


def test_sdr_equals_the_literal_projection():
    rng = np.random.default_rng(3)
    s = rng.standard_normal(400)
    s_hat = np.convolve(s, rng.standard_normal(9))[:400] + rng.standard_normal(400)
    for taps in (1, 2, 16, 64):
        assert sdr(s_hat, s, taps=taps) == pytest.approx(literal_sdr(s_hat, s, taps), abs=1e-8)


def test_sdr_with_one_tap_is_si_sdr():
    s = voice()
    s_hat = s + noise_like(s, 7)
    assert sdr(s_hat, s, taps=1) == pytest.approx(si_sdr(s_hat, s), abs=1e-9)


@pytest.mark.parametrize("metric", INSTALLED, ids=lambda metric: metric.name)
@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_no_metric_hears_the_level(metric, scale):
    s = voice()
    s_hat = s + noise_like(s, 7)
    assert metric.measure(scale * s_hat, s) == pytest.approx(metric.measure(s_hat, s), abs=1e-4)


@pytest.mark.parametrize("metric", INSTALLED, ids=lambda metric: metric.name)
def test_every_metric_falls_as_noise_grows(metric):
    s = voice()
    scores = [metric.measure(s + noise_like(s, snr_db), s) for snr_db in (40, 15, 5, -10)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] > metric.worst


def test_equal_and_opposite_ends_of_the_ratio_are_clamped():
    s = voice()
    assert si_sdr(-3 * s, s) == sdr(-3 * s, s) == CLAMP_DB
    assert si_sdr([1.0, 0.0], [0.0, 1.0]) == -CLAMP_DB


def test_agreement_with_fast_bss_eval_and_mir_eval():
    fast_bss_eval = pytest.importorskip("fast_bss_eval")
    separation = pytest.importorskip("mir_eval.separation")
    torch = pytest.importorskip("torch")
    s = voice()
    room = np.random.default_rng(2).standard_normal(700) * np.exp(-np.arange(700) / 100)
    for s_hat in (s + noise_like(s, 5), np.convolve(s, room)[: s.size], noise_like(s, 0)):
        pair = torch.tensor(np.stack([s, s_hat]))[:, None]
        assert sdr(s_hat, s) == pytest.approx(float(fast_bss_eval.sdr(*pair)), abs=1e-3)
        assert si_sdr(s_hat, s) == pytest.approx(float(fast_bss_eval.si_sdr(*pair)), abs=1e-6)
        with pytest.warns(FutureWarning):
            theirs = separation.bss_eval_sources(s[None], s_hat[None], False)[0]
        assert sdr(s_hat, s) == pytest.approx(float(theirs[0]), abs=1e-3)


def test_pesq_and_stoi_are_the_packages_with_the_order_turned():
    pesq, pystoi = pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    s = voice()
    s_hat = s + noise_like(s, 12)
    assert pesq_wb(s_hat, s) == pytest.approx(pesq.pesq(16_000, s, s_hat, "wb"), abs=1e-3)
    assert stoi(s_hat, s) == pytest.approx(pystoi.stoi(s, s_hat, 16_000), abs=1e-6)
    assert estoi(s_hat, s) == pytest.approx(pystoi.stoi(s, s_hat, 16_000, True), abs=1e-6)
    # The scores are not symmetric, so an order turned once too often would show.
    assert abs(pesq_wb(s, s_hat) - pesq_wb(s_hat, s)) > 0.01


@pytest.mark.parametrize("level", [1e-6, 1.0, 1e200])
def test_attenuation_is_the_ratio_of_energies(level):
    y = level * voice()
    assert attenuation(0.01 * y, y) == pytest.approx(40)
    assert attenuation(2 * y[::-1], y) == pytest.approx(-20 * math.log10(2))


def test_attenuation_of_silence_is_whole_and_of_failure_none():
    y = voice()
    assert attenuation(0 * y, y) == CLAMP_DB and attenuation(math.nan * y, y) == -CLAMP_DB
    assert math.isnan(attenuation(y, 0 * y))


S = voice()
BROKEN = np.where(np.arange(S.size) == 7, np.nan, S)
INFINITE = np.where(np.arange(S.size) == 7, np.inf, S)
NOTHING = np.zeros(S.size)


@pytest.mark.parametrize("metric", INSTALLED, ids=lambda metric: metric.name)
@pytest.mark.parametrize("s_hat", [BROKEN, INFINITE, NOTHING], ids=["nan", "inf", "silent"])
def test_a_failed_estimate_gets_the_worst_score(metric, s_hat):
    assert metric.measure(s_hat, S) == metric.worst


@pytest.mark.parametrize("metric", INSTALLED, ids=lambda metric: metric.name)
@pytest.mark.parametrize("s_hat", [S, BROKEN, NOTHING], ids=["voice", "nan", "silent"])
def test_a_silent_reference_leaves_the_score_undefined(metric, s_hat):
    assert math.isnan(metric.measure(s_hat, NOTHING))


@pytest.mark.parametrize("metric", INSTALLED, ids=lambda metric: metric.name)
@pytest.mark.parametrize(
    ("s_hat", "s"),
    [(S, BROKEN), (S, INFINITE), (S[:-1], S), (S[None], S[None]), ([], []), (1.0, 1.0)],
    ids=["nan", "inf", "lengths", "2-d", "empty", "0-d"],
)
def test_a_broken_reference_or_shape_is_refused(metric, s_hat, s):
    with pytest.raises(ValueError, match=r"^expected .*, found "):
        metric.measure(s_hat, s)


@pytest.mark.parametrize("name", ["pesq_wb", "stoi", "estoi"])
def test_a_clip_too_short_to_judge_is_undefined(name):
    pytest.importorskip(METRICS[name].package)
    assert math.isnan(METRICS[name].measure(S[2000:4000] + 0.01, S[2000:4000]))


@pytest.mark.parametrize("n_samples", [1, 2, 511, 513])
def test_the_ratios_stand_short_clips(n_samples):
    rng = np.random.default_rng(0)
    s_hat, s = rng.standard_normal((2, n_samples))
    assert np.isfinite([si_sdr(s_hat, s), sdr(s_hat, s)]).all()


def test_sdr_is_finite_where_the_reference_leaves_bands_empty():
    t = np.arange(16_000)
    for s in (np.cos(0.1 * t), np.ones(16_000), np.eye(1, 16_000, 15_999)[0]):
        assert np.isfinite(sdr(s + noise_like(s, 10), s))
        assert sdr(s, s) == CLAMP_DB


def test_a_missing_package_is_named_when_its_metric_is_asked(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not METRICS["pesq_wb"].available and METRICS["si_sdr"].available
    with pytest.raises(ImportError, match="expected the package pesq for pesq_wb, found none"):
        metrics.pesq_wb(S, S)
