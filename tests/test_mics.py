"""Microphones as they are built: patterns, mismatch, faults, own noise, clocks; parts still add."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulate import Scene, SceneConfig, render, sample_scene
from simulate.directivity import PATTERNS, FirstOrder
from simulate.mics import Mic, clip, read_with_clock, through_mics, turn_phase
from simulate.noise import diffuse_coherence, diffuse_noise, diffuse_white_noise
from simulate.rooms import direct_responses, room_impulse_responses

FS = 16000
EVERYTHING = {
    "pattern": ["cardioid", "supercardioid"],
    "gain_db": {"normal": [0, 1]},
    "phase_deg": {"uniform": [-10, 10]},
    "rate_offset_ppm": {"uniform": [-80, 80]},
    "dead": 0.3,
    "clipping": 0.5,
    "clip_db": {"uniform": [3, 12]},
    "self_noise_db": -30,
}


def scene(mics: dict | None, index: int = 0, **changes) -> Scene:
    data = {"method": "fast", "duration_s": 1.2, "room": {"rt60_s": 0.25}, "mics": mics}
    return sample_scene(SceneConfig.model_validate(data | changes), 3, index)


def db(power: float) -> float:
    return 10 * np.log10(power)


def snr_db(mix, noise) -> float:
    return db(np.mean(mix.image[:, 0].sum(axis=0) ** 2) / np.mean(noise[0] ** 2))


@pytest.mark.parametrize("index", range(3))
def test_parts_add_up_whatever_the_microphones_do(index):
    mix = render(scene(EVERYTHING, index, talkers={"count": 2}))
    assert np.abs(mix.image.sum(axis=0) + mix.noise - mix.mixture).max() <= 1e-6
    assert np.abs(mix.mixture).max() < 1


@settings(max_examples=4, deadline=None)
@given(snr=st.floats(-10, 25), own=st.floats(-60, -26), seed=st.integers(0, 99))
def test_snr_is_exact_with_and_without_the_noise_of_the_microphones(snr, own, seed):
    mics = {"self_noise_db": own, "gain_db": {"normal": [0, 2]}}
    for counts in (True, False):
        mix = render(scene(mics, seed, snr_db=snr, snr_counts_mics=counts))
        noise = mix.noise if counts else mix.noise - mix.self_noise
        assert snr_db(mix, noise) == pytest.approx(snr, abs=0.01)
        assert snr_db(mix, mix.self_noise) == pytest.approx(-own, abs=0.2)


def test_own_noise_that_leaves_no_room_for_the_snr_is_refused():
    with pytest.raises(ValueError, match=r"expected mics\.self_noise_db below -snr_db"):
        scene({"self_noise_db": -10}, snr_db=[0, 10], snr_counts_mics=True)


def test_ideal_microphones_change_nothing():
    np.testing.assert_array_equal(render(scene({})).mixture, render(scene(None)).mixture)


def test_the_reference_microphone_has_no_fault_and_the_others_have_theirs():
    drawn = [scene(EVERYTHING, i).mics for i in range(40)]
    assert all(not m[0].dead and m[0].clip_db is None and m[0].rate_offset_ppm == 0 for m in drawn)
    others = [mic for mics in drawn for mic in mics[1:]]
    assert np.mean([mic.dead for mic in others]) == pytest.approx(0.3, abs=0.1)
    assert np.mean([mic.clip_db is not None for mic in others]) == pytest.approx(0.5, abs=0.12)
    assert np.std([mic.gain_db for mic in others]) == pytest.approx(1, abs=0.2)


def test_a_dead_microphone_hears_only_itself():
    mix = render(scene({"dead": 1, "self_noise_db": -40}))
    assert not mix.image[:, 1:].any() and not mix.early[:, 1:].any()
    np.testing.assert_array_equal(mix.mixture[1:], mix.self_noise[1:])
    assert np.all(mix.mixture[1:].std(axis=1) > 0) and mix.image[:, 0].any()


def test_a_clipping_microphone_stays_below_its_limit_and_its_distortion_is_noise():
    x = np.random.default_rng(0).standard_normal((2, FS))
    y = clip(x, [Mic(), Mic(clip_db=6)])
    np.testing.assert_array_equal(y[0], x[0])
    assert np.abs(y[1]).max() == pytest.approx(np.abs(x[1]).max() * 10 ** (-6 / 20))
    mix = render(scene({"clipping": 1, "clip_db": 12}))
    flat = np.mean(np.abs(mix.mixture) >= np.abs(mix.mixture).max(axis=1, keepdims=True) - 1e-9, 1)
    assert flat[0] < 1e-3 and np.all(flat[1:] > 1e-3)


def test_gain_and_phase_are_as_stated():
    t = np.arange(FS) / FS
    for f in (200, 1000, 6000):
        tone = np.sin(2 * np.pi * f * t)
        expected = np.sin(2 * np.pi * f * t + np.radians(25)) * 10 ** (3 / 20)
        y = through_mics(tone[None], [Mic(gain_db=3, phase_deg=25)])[0]
        np.testing.assert_allclose(y[2000:-2000], expected[2000:-2000], atol=4e-3)
    x = np.random.default_rng(0).standard_normal(FS)
    assert np.mean(turn_phase(x, 40) ** 2) == pytest.approx(np.mean(x**2), rel=2e-3)


@pytest.mark.parametrize("ppm", [-150.0, 40.0])
def test_a_clock_that_is_off_reads_the_same_sound_at_its_own_times(ppm):
    n = np.arange(4 * FS)
    f = np.array([150.0, 1234.5, 6100.0])[:, None]
    x = np.sin(2 * np.pi * f * n / FS).sum(axis=0)
    expected = np.sin(2 * np.pi * f * n / (1 + ppm * 1e-6) / FS).sum(axis=0)
    y = read_with_clock(x, ppm)
    np.testing.assert_allclose(y[200:-200], expected[200:-200], atol=3e-3)
    assert np.abs(x - expected)[-2000:].max() > 0.5, "the drift must be worth testing"
    np.testing.assert_allclose(read_with_clock(x, 0.0), x, atol=1e-12)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_direct_sound_follows_the_pattern(pattern):
    mic, share = np.array([[2.0, 2, 2]]), PATTERNS[pattern]
    angle = np.radians([0, 60, 90, 180])
    sources = mic + np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    facing = FirstOrder.facing(np.array([share]), np.array([[3.0, 0, 0]]))
    plain, heard = (direct_responses(sources, mic, capsules=c)[:, 0] for c in (None, facing))
    expected = share + (1 - share) * np.cos(angle)
    np.testing.assert_allclose(heard, plain * expected[:, None], atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_directional_rooms_agree_between_methods_until_the_tail_begins(seed):
    rng = np.random.default_rng(seed)
    room = np.array([5.0, 4, 3])
    sources, mics = rng.uniform(0.5, room - 0.5, (2, 3)), np.array([[2.5, 2, 1.3], [2.5, 2.1, 1.4]])
    sides = {
        name: FirstOrder.facing(rng.uniform(0.2, 0.9, 2), rng.standard_normal((2, 3)))
        for name in ("mouths", "capsules")
    }
    exact, fast = (
        room_impulse_responses(room, 0.2, sources, mics, method=m, rng=rng, **sides)[..., :600]
        for m in ("exact", "fast")
    )
    assert np.abs(exact - fast).max() < 5e-3 * np.abs(exact).max()


@pytest.mark.parametrize("field", ["spherical", "cylindrical"])
def test_diffuse_covariance_of_directional_microphones_is_the_mean_over_plane_waves(field):
    rng = np.random.default_rng(0)
    mics = rng.uniform(-0.1, 0.1, (4, 3))
    capsules = FirstOrder.facing(rng.uniform(0, 1, 4), rng.standard_normal((4, 3)))
    f = np.array([0.0, 300, 2000, 5000])
    z, weight = np.polynomial.legendre.leggauss(40)
    if field == "cylindrical":
        z, weight = np.zeros(1), np.array([2.0])
    angle = np.arange(80) * 2 * np.pi / 80
    flat = np.sqrt(1 - z**2)[:, None]
    u = np.stack([flat * np.cos(angle), flat * np.sin(angle), z[:, None] + 0 * angle], -1)
    heard = capsules.gain(np.broadcast_to(u, (4, *u.shape)))
    phase = 2 * np.pi * f[:, None, None, None] / 343 * np.einsum("zad,md->mza", u, mics)
    waves = heard * np.exp(1j * phase)
    expected = np.einsum("fmza,fnza,z->fmn", waves, waves.conj(), weight / 160)
    np.testing.assert_allclose(diffuse_coherence(mics, f, field, capsules), expected, atol=1e-9)


def test_a_field_of_omnidirectional_patterns_is_the_plain_field():
    mics = np.random.default_rng(0).uniform(-0.1, 0.1, (3, 3))
    omni, f = FirstOrder.facing(np.ones(3), np.eye(3)), np.linspace(0, 8000, 9)
    for field in ("spherical", "cylindrical"):
        expected = diffuse_coherence(mics, f, field)
        np.testing.assert_allclose(diffuse_coherence(mics, f, field, omni), expected, atol=1e-12)


def test_diffuse_noise_reaches_directional_microphones_with_their_power():
    rng = np.random.default_rng(0)
    mics = rng.uniform(-0.1, 0.1, (3, 3))
    capsules = FirstOrder.facing(np.array([1, 0.5, 0]), rng.standard_normal((3, 3)))
    expected = capsules.diffuse_power()
    np.testing.assert_allclose(expected, [1, 1 / 3, 1 / 3], atol=1e-12)
    noise = rng.standard_normal(20 * FS)
    heard = diffuse_noise(noise, mics, rng, FS, patterns=capsules)
    np.testing.assert_allclose(heard.var(axis=1), expected, rtol=0.06)
    tail = diffuse_white_noise(mics, 20 * FS, rng, FS, patterns=capsules)[0]
    np.testing.assert_allclose(tail.var(axis=1), expected, rtol=0.06)


def test_patterns_point_where_they_are_told():
    outward = scene({"pattern": "cardioid"})
    away = np.array(outward.mics_m) - outward.origin_m
    axes = np.array([mic.axis for mic in outward.mics])
    np.testing.assert_allclose(axes, away / np.linalg.norm(away, axis=1)[:, None], atol=1e-4)
    assert {m.axis for m in scene({"pattern": "cardioid", "facing": "up"}).mics} == {(0, 0, 1)}
    assert {m.axis for m in scene({"pattern": "cardioid", "facing": 90}).mics} == {(0, 1, 0)}


@pytest.mark.parametrize(
    ("mics", "message"),
    [
        ({"pattern": "cardiod"}, "unknown pattern cardiod: did you mean cardioid"),
        ({"dead": 2}, "dead"),
        ({"facing": "down"}, "facing"),
    ],
)
def test_mistakes_are_told(mics, message):
    with pytest.raises(ValueError, match=message):
        scene(mics)
