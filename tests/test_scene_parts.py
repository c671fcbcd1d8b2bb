"""What talkers and noises of a scene may be told: facing, level against each other, field."""

import numpy as np
import pytest
from scipy.signal import butter, csd, sosfilt, welch

from simulate import Scene, SceneConfig, render, sample_scene
from simulate.noise import diffuse_coherence, diffuse_noise
from simulate.rooms import room_impulse_responses
from simulate.synthetic import APPLIANCE_KINDS, SYNTHETIC_KINDS, synthetic_noise
from simulate.voice import facing, mouths

FS = 16000


def scene(index: int = 0, **changes) -> Scene:
    data = {"method": "fast", "duration_s": 1, "room": {"rt60_s": 0.25}}
    return sample_scene(SceneConfig.model_validate(data | changes), 2, index)


def db(power: float) -> float:
    return 10 * np.log10(power)


@pytest.mark.parametrize("index", range(3))
def test_sir_at_the_reference_mic_is_exact_and_parts_add_up(index):
    sir_db = [-5.0, 0.0, 8.0][index]
    mix = render(scene(index, talkers={"count": 3, "sir_db": sir_db}))
    power = np.mean(mix.image[:, 0] ** 2, axis=-1)
    assert [db(power[0] / p) for p in power[1:]] == pytest.approx([sir_db] * 2, abs=0.01)
    assert np.abs(mix.image.sum(axis=0) + mix.noise - mix.mixture).max() <= 1e-6


def test_levels_against_each_other_change_a_talker_as_a_whole():
    plain, levelled = (render(scene(talkers={"count": 2, "sir_db": sir})) for sir in (None, 6))
    for k in range(2):
        gains = [
            getattr(levelled, name)[k].std() / getattr(plain, name)[k].std()
            for name in ("image", "early", "direct", "dry")
        ]
        assert gains == pytest.approx([gains[0]] * 4, rel=1e-6)


@pytest.mark.parametrize("angle_deg", [0.0, 90.0, 180.0])
def test_talkers_face_as_far_from_the_array_as_they_are_told(angle_deg):
    drawn = scene(talkers={"count": 2, "facing_deg": angle_deg})
    for talker in drawn.talkers:
        towards = np.array(drawn.origin_m)[:2] - np.array(talker.position_m)[:2]
        cosine = np.dot(talker.facing[:2], towards) / np.linalg.norm(towards)
        assert cosine == pytest.approx(np.cos(np.radians(angle_deg)), abs=1e-5)


def test_who_turns_away_is_heard_less_directly():
    """Behind the head 8 dB less arrives directly, and no less of what the room gives back."""
    room, source, mic = np.array([5.0, 4, 3]), np.array([[1.5, 2, 1.5]]), np.array([[3.5, 2, 1.4]])
    direct, late = [], []
    for angle_deg in (0, 180):
        mouth = mouths([facing(source[0], mic[0], angle_deg)])
        rng = np.random.default_rng(0)
        rir = room_impulse_responses(room, 0.4, source, mic, method="fast", rng=rng, mouths=mouth)[
            0, 0
        ]
        direct.append(np.abs(rir[:120]).max())
        late.append(np.mean(rir[1500:4000] ** 2))
    assert db((direct[0] / direct[1]) ** 2) == pytest.approx(-20 * np.log10(0.4), abs=0.1)
    assert late[0] == pytest.approx(late[1], rel=0.01)


@pytest.mark.parametrize("index", range(3))
def test_the_direct_sound_is_inside_the_image_and_free_of_the_room(index):
    mix = render(scene(index, method="exact", room={"rt60_s": 0.15}))
    talker, image, direct = mix.scene.talkers[0], mix.image[0, 0], mix.direct[0, 0]
    distance = np.linalg.norm(np.array(talker.position_m) - mix.scene.mics_m[0])
    delay = distance / 343 * FS
    spectrum = np.fft.rfft(mix.dry[0], 2 * FS)
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(2 * FS) * delay)
    expected = np.fft.irfft(spectrum * turn)[:FS] / distance
    expected = sosfilt(butter(2, 20, "high", fs=FS, output="sos"), expected)  # as in every room
    assert np.std(direct - expected) < 0.01 * expected.std()
    assert np.std(image - direct) > 0.05 * image.std()


def test_a_cylindrical_field_counts_horizontal_distance():
    rng = np.random.default_rng(0)
    mics = np.array([[0, 0, 0], [0.06, 0, 0], [0, 0, 0.3]])
    x = diffuse_noise(rng.standard_normal(15 * FS), mics, rng, FS, "cylindrical")
    np.testing.assert_allclose(x[0], x[2], atol=1e-3 * x.std())
    f, cross = csd(x[0], x[1], FS, nperseg=256)
    power = [welch(channel, FS, nperseg=256)[1] for channel in x]
    measured = cross.real / np.sqrt(power[0] * power[1])
    expected = diffuse_coherence(mics, f, "cylindrical")[:, 0, 1]
    assert np.abs(measured - expected)[3:-1].max() < 0.12


def test_the_field_of_a_config_reaches_the_mixture():
    mics = {"names": ["laptop_2mic"]}
    drawn = scene(noise_mix={"diffuse": {"field": "cylindrical"}}, array=mics)
    assert drawn.noises[0].field == "cylindrical"
    spherical = drawn.noises[0].model_copy(update={"field": "spherical"})
    other = drawn.model_copy(update={"noises": [spherical]})
    assert np.abs(render(drawn).noise - render(other).noise).max() > 1e-4


@pytest.mark.parametrize("kind", APPLIANCE_KINDS)
def test_appliances_have_unit_power_and_repeat(kind):
    first, again, other = (
        synthetic_noise(kind, FS, FS, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.mean(first**2) == pytest.approx(1) and np.abs(first - other).max() > 0.1


def test_appliances_sound_different():
    level = []
    for kind in APPLIANCE_KINDS:
        power = welch(synthetic_noise(kind, 4 * FS, FS, np.random.default_rng(0)), FS)[1]
        level.append(10 * np.log10(power / power.sum()))
    apart = [np.abs(a - b).mean() for i, a in enumerate(level) for b in level[:i]]
    assert min(apart) > 2


def test_appliances_stand_somewhere_and_are_no_part_of_other_noises():
    kinds = set()
    for index in range(12):
        drawn = scene(index, noise_mix={"diffuse": {}, "appliance": {}})
        field, appliance = drawn.noises
        assert field.position_m is None and appliance.position_m is not None
        kinds.add(appliance.segments[0].path.removeprefix("builtin:"))
        assert field.segments[0].path.removeprefix("builtin:") in SYNTHETIC_KINDS
    assert kinds <= set(APPLIANCE_KINDS) and len(kinds) > 2
    assert np.all(np.isfinite(render(drawn).mixture))


def test_the_measured_rt60_is_near_the_requested_one():
    rt60_s = [render(scene(index, room={"rt60_s": 0.3})).measured_rt60_s for index in range(4)]
    assert np.median(rt60_s) == pytest.approx(0.3, rel=0.1)


def test_the_shipped_walking_scene_has_all_of_it():
    config = SceneConfig.load("walking").model_copy(update={"duration_s": 0.5})
    drawn = [sample_scene(config, 0, index) for index in range(12)]
    walks = [talker.path is not None for each in drawn for talker in each.talkers]
    assert 0.2 < np.mean(walks) < 0.8
    assert {mic.omni for each in drawn for mic in each.mics} == {1.0, 0.5}
    mix = render(next(each for each in drawn if each.talkers[0].path))
    assert np.abs(mix.image.sum(axis=0) + mix.noise - mix.mixture).max() <= 1e-6
    snr_db = db(np.mean(mix.image[:, 0].sum(axis=0) ** 2) / np.mean(mix.noise[0] ** 2))
    assert snr_db == pytest.approx(mix.scene.snr_db, abs=0.01)
