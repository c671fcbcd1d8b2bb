"""Room responses against physics, and the fast method against the exact one."""

from functools import cache

import numpy as np
import pytest
from scipy.signal import butter, csd, resample, sosfilt, welch

from simulate.decay import SPEED_OF_SOUND, lattice_energy, measure_rt60, solve_absorption
from simulate.images import add_delays
from simulate.noise import diffuse_coherence
from simulate.rooms import room_impulse_responses

FS = 16000
METHODS = ["exact", "fast"]


def scene(seed: int, rt60_s: float, n_sources: int = 2, n_mics: int = 1):
    rng = np.random.default_rng(seed)
    room = rng.uniform([3.5, 3, 2.4], [7, 5, 3.2])
    sources = rng.uniform(0.5, room - 0.5, (n_sources, 3))
    mics = rng.uniform(0.8, room - 0.8) + rng.uniform(-0.05, 0.05, (n_mics, 3))
    return room, rt60_s, sources, mics


def isolated_direct_path(method: str, distance_m: float) -> tuple[float, float]:
    """Delay in samples and height of the direct path, interpolated 32 times, nothing else near."""
    room = np.array([9.0, 8.0, 7.0])
    mic = np.array([4.5, 4.0, 3.5])
    toward = np.array([0.48, 0.6, 0.64])
    rir = room_impulse_responses(room, 0.3, [mic + distance_m * toward], [mic], method=method)
    start = rir[0, 0, :160]
    fine = resample(np.pad(start, (64, 64)).astype(float), 32 * 288)
    return np.argmax(fine) / 32 - 64, fine.max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("distance_m", [0.3, 0.77, 1.5])
def test_direct_path_arrives_after_distance_over_speed_of_sound(method, distance_m):
    delay, _ = isolated_direct_path(method, distance_m)
    assert delay == pytest.approx(distance_m / SPEED_OF_SOUND * FS, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_direct_path_falls_with_the_inverse_of_distance(method):
    for distance_m in (0.3, 0.6, 1.2):
        _, height = isolated_direct_path(method, distance_m)
        assert height * distance_m == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_arrives_ahead_of_the_direct_path(method):
    room, rt60_s, sources, mics = scene(3, 0.25)
    rir = room_impulse_responses(room, rt60_s, sources, mics, method=method)
    for response, source in zip(rir[:, 0], sources, strict=True):
        # Half the length of the delays' windowed sinc may show.
        direct = np.linalg.norm(source - mics[0]) / SPEED_OF_SOUND * FS
        ahead = response[: max(0, int(direct) - 41)]
        assert np.all(np.abs(ahead) < 1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_measured_rt60_is_the_requested_one(method):
    ratios = []
    for seed, rt60_s in enumerate([0.2, 0.25, 0.3, 0.35, 0.4, 0.3]):
        rir = room_impulse_responses(*scene(seed, rt60_s), method=method)
        ratios += [measure_rt60(response, FS) / rt60_s for response in rir[:, 0]]
    assert np.median(ratios) == pytest.approx(1, abs=0.05)
    assert np.all(np.abs(np.array(ratios) - 1) < 0.2)


def counted_energy(room, absorption, source, mic, edges) -> np.ndarray:
    """Energy of all images that arrive between `edges`, counted one by one."""
    n = np.arange(-14, 15)
    position, walls = [], []
    for length, s in zip(room, source, strict=True):
        position.append(np.concatenate([2 * n * length + s, 2 * n * length - s]))
        walls.append(np.concatenate([np.abs(2 * n), np.abs(2 * n - 1)]))
    away = [(p - m) ** 2 for p, m in zip(position, mic, strict=True)]
    distance = np.sqrt(away[0][:, None, None] + away[1][:, None] + away[2])
    order = walls[0][:, None, None] + walls[1][:, None] + walls[2]
    energy = (1 - absorption) ** order / distance**2
    return np.histogram(distance / SPEED_OF_SOUND, edges, weights=energy)[0]


def test_closed_form_decay_equals_counting_the_images():
    room, absorption = np.array([4.1, 3.3, 2.6]), 0.3
    places = np.random.default_rng(0).uniform(0.1, room - 0.1, (12, 2, 3))
    edges = np.arange(0.04, 0.19, 0.01)
    counted = np.mean([counted_energy(room, absorption, s, m, edges) for s, m in places], axis=0)
    expected = (
        lattice_energy(room, np.full(6, np.log1p(-absorption)), (edges[:-1] + edges[1:]) / 2) * 0.01
    )
    error_db = 10 * np.log10(counted / expected)
    assert np.abs(error_db).max() < 0.5 and abs(error_db.mean()) < 0.1


def test_rt60_is_measured_exactly_on_an_exponential():
    t = np.arange(FS) / FS
    sign = np.random.default_rng(0).choice([-1, 1], FS)
    for rt60_s in (0.1, 0.3, 0.6):
        rir = sign * 10 ** (-3 * t / rt60_s)
        assert measure_rt60(rir, FS) == pytest.approx(rt60_s, rel=1e-3)
        assert measure_rt60(rir, FS, range_db=20) == pytest.approx(rt60_s, rel=1e-3)


def test_a_response_that_does_not_decay_has_no_rt60():
    with pytest.raises(ValueError, match="expected a decay"):
        measure_rt60(np.eye(1, 100)[0], FS)


def test_delays_equal_the_literal_windowed_sinc():
    rng = np.random.default_rng(0)
    delay, gain = rng.uniform(3, 290, (2, 40)), rng.uniform(0.1, 1, (2, 40))
    delay[0, 0], delay[1, 1] = 100.0, 299.5
    expected = np.zeros((2, 300))
    for m in range(2):
        for d, g in zip(delay[m], gain[m], strict=True):
            t = np.arange(300) - d
            k = np.abs(np.arange(300) - np.round(d)) <= 40
            expected[m] += g * k * np.sinc(t) * (0.5 + 0.5 * np.cos(np.pi * t / 41))
    np.testing.assert_allclose(add_delays(delay, gain, 300), expected, atol=1e-9)


def clarity(rir: np.ndarray) -> tuple[float, float]:
    """C50 and direct-to-reverberant ratio in dB of one response, above the room's lowest modes."""
    rir = sosfilt(butter(2, 100, "high", fs=FS, output="sos"), rir)
    direct, energy = np.argmax(np.abs(rir)), rir**2
    c50, drr = (
        10 * np.log10(energy[: direct + n].sum() / energy[direct + n :].sum()) for n in (800, 40)
    )
    return c50, drr


@cache
def responses(method: str, seed: int) -> np.ndarray:
    place = scene(seed + 20, 0.2 + seed % 5 * 0.05, n_sources=3)
    return room_impulse_responses(*place, method=method, rng=np.random.default_rng(seed))[:, 0]


@pytest.mark.parametrize(("method", "rooms"), [("fast", 10), ("hybrid", 4), ("ray", 4)])
def test_every_method_has_the_clarity_and_direct_to_reverberant_ratio_of_exact(method, rooms):
    difference = []
    for seed in range(rooms):
        for f, e in zip(responses(method, seed), responses("exact", seed), strict=True):
            difference.append(np.subtract(clarity(f), clarity(e)))
    median, spread = np.median(difference, axis=0), np.abs(difference).max(axis=0)
    # Listeners notice 1.1 dB of clarity; a single place differs from the mean over a room.
    assert abs(median[0]) < 0.55 and abs(median[1]) < (0.1 if method == "fast" else 0.3)
    # What follows the direct sound at once is only statistical behind rays alone.
    assert spread[0] < 2 and spread[1] < {"fast": 0.6, "hybrid": 0.8, "ray": 2.2}[method]


@pytest.mark.parametrize("method", [*METHODS, "hybrid", "ray"])
def test_late_sound_is_as_coherent_between_microphones_as_a_diffuse_field(method):
    room, rt60_s = np.array([5.6, 4.9, 4.1]), 0.4
    sources = np.random.default_rng(5).uniform(0.5, room - 0.5, (8, 3))
    mics = np.array([[2.5, 2.2, 1.4], [2.56, 2.25, 1.46]])
    late = room_impulse_responses(
        room, rt60_s, sources, mics, method=method, rng=np.random.default_rng(0)
    )[:, :, 1100:5000]
    late = late * np.exp(6.9 / rt60_s * np.arange(late.shape[-1]) / FS)
    f, cross = csd(late[:, 0], late[:, 1], FS, nperseg=256)
    power = [welch(late[:, m], FS, nperseg=256)[1].mean(axis=0) for m in (0, 1)]
    measured = cross.mean(axis=0).real / np.sqrt(power[0] * power[1])
    expected = diffuse_coherence(mics, f)[:, 0, 1]
    error = np.abs(measured - expected)[2:]
    # An image lattice sends its late sound mostly along its longest side, so exact is less diffuse.
    assert error.mean() < (0.15 if method == "exact" else 0.1)


def test_the_high_pass_leaves_no_offset():
    room, rt60_s, sources, mics = scene(1, 0.4)
    for method in METHODS:
        rir = room_impulse_responses(room, rt60_s, sources, mics, method=method)
        assert abs(rir.sum(axis=-1)).max() < 0.1 * np.sqrt((rir**2).sum(axis=-1)).max()


def test_a_far_direct_path_stays_exact():
    room = np.array([40.0, 10.0, 6.0])
    rir = room_impulse_responses(room, 0.8, [[2, 5, 2]], [[36, 5, 2]], method="fast")[0, 0]
    direct = 34 / SPEED_OF_SOUND * FS
    assert np.all(np.abs(rir[: int(direct) - 41]) < 1e-6)
    assert np.abs(rir[int(direct) - 1 : int(direct) + 3]).max() == pytest.approx(1 / 34, rel=0.1)


def test_responses_repeat_with_their_generator_and_differ_with_another():
    place = scene(0, 0.3)
    first, again, other = (
        room_impulse_responses(*place, method="fast", rng=np.random.default_rng(s))
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_the_library_is_left_as_a_user_had_set_it():
    from pyroomacoustics import constants

    constants.set("c", 350.0)
    try:
        rir = room_impulse_responses(*scene(0, 0.2), method="exact")
        assert constants.get("c") == 350.0
    finally:
        constants.set("c", 343.0)
    np.testing.assert_array_equal(rir, room_impulse_responses(*scene(0, 0.2), method="exact"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rt60_s": 0.01}, "expected an RT60 that a room of"),
        ({"rt60_s": -1.0}, "expected rt60_s > 0"),
        ({"rt60_s": float("nan")}, "expected rt60_s > 0"),
        ({"sources_m": [[9, 1, 1]]}, "expected every source inside the room"),
        ({"mics_m": [[1, 1, 3.5]]}, "expected every microphone inside the room"),
        ({"mics_m": [1, 1, 1]}, "expected microphone positions of shape"),
        ({"method": "quick"}, "expected a method of exact, fast"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    valid = {
        "room_size_m": [5, 4, 3],
        "rt60_s": 0.3,
        "sources_m": [[1, 1, 1]],
        "mics_m": [[2, 2, 1]],
    }
    with pytest.raises(ValueError, match=message):
        room_impulse_responses(**(valid | change))


def test_more_absorption_shortens_the_rt60():
    room = np.array([5.0, 4.0, 3.0])
    absorption = [solve_absorption(room, rt60_s) for rt60_s in (0.8, 0.4, 0.2)]
    assert absorption == sorted(absorption) and absorption[0] > 0
