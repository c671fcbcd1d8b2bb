"""Walking talkers: the right way, the right Doppler, no clicks, and standing still as a limit."""

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, fftconvolve, sosfilt

from simulate import Scene, SceneConfig, render, sample_scene
from simulate.motion import convolve_moving, draw_path, headings, stations
from simulate.scene_config import MotionConfig
from simulate.timeline import Segment

FS = 16000
ROOM, ORIGIN = np.array([6.0, 5.0, 2.7]), np.array([3.0, 2.5, 1.0])


def scene(speed: float | None, index: int = 0, **changes) -> Scene:
    motion = None if speed is None else {"speed_m_s": speed, "kind": ["waypoints"]}
    data = {"method": "fast", "duration_s": 0.5, "talkers": {"count": 2, "motion": motion}}
    data |= {"room": {"rt60_s": 0.2}, "array": {"names": ["laptop_2mic"]}}
    return sample_scene(SceneConfig.model_validate(data | changes), 5, index)


def path(kind: str, seed: int, speed: float = 1.2, duration_s: float = 6.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    start = np.array([rng.uniform(0.5, 1.8), rng.uniform(0.5, 4.5), 1.6])
    config = MotionConfig(kind=[kind], speed_m_s=speed)
    return np.array(draw_path(config, start, ORIGIN, 0.3 + 0 * ROOM, ROOM - 0.3, duration_s, rng))


@pytest.mark.parametrize("kind", ["line", "arc", "waypoints"])
@pytest.mark.parametrize("seed", range(12))
def test_walks_keep_their_speed_the_room_and_clear_of_the_array(kind, seed):
    way = path(kind, seed)
    if len(way) > 1:
        speed = np.linalg.norm(np.diff(way[:, 1:], axis=0), axis=1) / np.diff(way[:, 0])
        np.testing.assert_allclose(speed, 1.2, rtol=1e-3)
    places, _ = stations([*map(tuple, way)], 6 * FS, FS, 0.05)
    assert np.all(places >= 0.3 - 1e-6) and np.all(places <= ROOM - 0.3 + 1e-6)
    assert np.all(places[:, 2] == 1.6)
    distance = np.linalg.norm((places - ORIGIN)[:, :2], axis=1)
    assert np.all(distance > 0.44)
    if kind == "arc":
        np.testing.assert_allclose(distance, distance[0], rtol=1e-3)


def test_stations_are_close_and_progress_follows_the_clock():
    way = [(0.0, 0.0, 0.0, 1.0), (1.0, 1.0, 0.0, 1.0), (2.0, 1.0, 1.0, 1.0)]
    places, progress = stations(way, 3 * FS, FS, 0.01)
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() <= 0.01 + 1e-9
    assert progress[0] == 0 and progress[-1] == pytest.approx(len(places) - 1)
    np.testing.assert_allclose(places[round(progress[FS // 2])], [0.5, 0, 1], atol=0.01)
    np.testing.assert_allclose(places[round(progress[FS * 3 // 2])], [1, 0.5, 1], atol=0.01)
    assert np.all(np.diff(progress) >= 0) and np.all(progress[2 * FS :] == progress[-1])


@pytest.mark.parametrize("method", ["fast", "exact"])
def test_zero_speed_is_the_static_scene(method):
    still, static = (render(scene(speed, method=method)) for speed in (0.0, None))
    for name in ("mixture", "image", "early", "direct", "noise"):
        assert np.abs(getattr(still, name) - getattr(static, name)).max() <= 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_passing_stations_that_sound_alike_is_plain_convolution(seed):
    rng = np.random.default_rng(seed)
    x, h = rng.standard_normal(FS // 2), rng.standard_normal((2, 300)) * 0.97 ** np.arange(300)
    progress = np.sort(rng.uniform(0, 7, FS // 2))
    progress[: FS // 8], progress[-1] = progress[FS // 8], 7.0
    moving = convolve_moving(x, np.repeat(h[None], 8, axis=0), progress)
    expected = fftconvolve(x[None], h, axes=1)[:, : len(x)]
    assert np.abs(moving - expected).max() <= 1e-6 * np.abs(expected).max() * 10


def walk_past(tmp_path, x: np.ndarray) -> tuple[Scene, np.ndarray]:
    """One talker plays x and walks away from the array at 1.5 m/s; his distance at each sample."""
    soundfile.write(tmp_path / "x.wav", x, FS, subtype="DOUBLE")
    drawn = scene(None, talkers={"distance_m": 1})
    seconds = len(x) / FS
    segment = Segment(path=str(tmp_path / "x.wav"), start_s=0, seconds=seconds, at_s=0)
    mic = np.array(drawn.mics_m[0])
    size = np.array(drawn.room_size_m)
    towards = np.where(mic < size / 2, 1.0, -1.0) * [1, 0, 0]
    ends = [mic + d * towards for d in (0.4, 0.4 + 1.5 * seconds)]
    way = [(t, *end.tolist()) for t, end in zip((0.0, seconds), ends, strict=True)]
    talker = drawn.talkers[0].model_copy(
        update={"segments": [segment], "path": way, "position_m": tuple(ends[0].tolist())}
    )
    changes = {"talkers": [talker], "n_samples": len(x), "snr_db": 80}
    return drawn.model_copy(update=changes), 0.4 + 1.5 * np.arange(len(x)) / FS


def test_the_direct_sound_of_a_walker_has_the_delay_and_level_of_his_place(tmp_path):
    n = np.arange(FS // 2)
    tone = 0.5 * np.sin(2 * np.pi * 500 * n / FS)
    drawn, distance = walk_past(tmp_path, tone)
    mix = render(drawn)
    heard = mix.direct[0, 0] / np.abs(mix.dry).max()
    # Sound that leaves at sample n arrives distance / c later, so what is heard left before.
    arrival = n + distance / 343 * FS
    left = np.interp(n, arrival, n)
    expected = np.sin(2 * np.pi * 500 * left / FS) / np.interp(left, n, distance)
    expected = sosfilt(butter(2, 20, "high", fs=FS, output="sos"), expected)  # as in every room
    inside = slice(1200, -200)
    assert np.abs(heard - expected)[inside].max() < 0.01 * np.abs(expected[inside]).max()
    assert np.abs(mix.image.sum(axis=0) + mix.noise - mix.mixture).max() <= 1e-6


def test_a_walker_makes_no_clicks(tmp_path):
    n = np.arange(FS // 2)
    drawn, _ = walk_past(tmp_path, np.sin(2 * np.pi * 500 * n / FS))
    image = render(drawn).image[0, 0, 4000:-100]
    windowed = image * np.hanning(len(image))
    power = np.abs(np.fft.rfft(windowed)) ** 2
    f = np.fft.rfftfreq(len(image), 1 / FS)
    # A jump of the waveform would spread over all frequencies.
    far = power[(f < 350) | (f > 700)].sum() / power.sum()
    assert far < 1e-5


def test_walkers_change_nothing_for_the_others():
    some = sample_scene(
        SceneConfig.model_validate({"talkers": {"count": 2, "motion": {"probability": 0}}}), 0, 0
    )
    none = sample_scene(SceneConfig.model_validate({"talkers": {"count": 2}}), 0, 0)
    assert some == none
    assert Scene.model_validate_json(scene(1.0).model_dump_json()) == scene(1.0)


def test_noises_walk_and_parts_still_add_up():
    motion = {"kind": ["line"], "speed_m_s": 1.0, "step_m": 0.05}
    noisy = {"diffuse": {}, "appliance": {"motion": motion}}
    drawn = scene(None, noise_mix=noisy)
    field, walker = drawn.noises
    assert walker.path and not field.path and not any(t.path for t in drawn.talkers)
    mix = render(drawn)
    assert np.abs(mix.image.sum(axis=0) + mix.noise - mix.mixture).max() <= 1e-6
    stays = drawn.model_copy(update={"noises": [field, walker.model_copy(update={"path": None})]})
    assert np.abs(render(stays).noise - mix.noise).max() > 1e-3


def test_who_faces_ahead_faces_where_the_walk_goes():
    way = [(0.0, 1.0, 1.0, 1.6), (1.0, 2.0, 1.0, 1.6), (2.0, 2.0, 2.0, 1.6)]
    places, _ = stations(way, 2 * FS, FS, 0.1)
    heading = np.array(headings(places))
    np.testing.assert_allclose(heading[3], [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(heading[-3], [0, 1, 0], atol=1e-9)
    walk = {"speed_m_s": 1.0, "facing": "ahead", "step_m": 0.05}
    drawn = scene(None, talkers={"motion": walk})
    talker = drawn.talkers[0]
    assert talker.ahead and talker.path
    other = talker.model_copy(update={"ahead": False})
    differs = render(drawn).direct - render(drawn.model_copy(update={"talkers": [other]})).direct
    assert np.abs(differs).max() > 1e-4
