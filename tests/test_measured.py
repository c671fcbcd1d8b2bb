"""Measured rooms: responses from files make mixtures as those of simulated rooms do."""

import json

import numpy as np
import pytest
import soundfile
from scipy.signal import fftconvolve

from simulate import Scene, SceneConfig, render, sample_scene
from simulate.measured import direct_part, first_part, list_responses, onset, response_rt60

FS = 16000
RT60_S = 0.3


def response(seed: int, n_mics: int = 2, start: int = 80, fs: int = FS) -> np.ndarray:
    """A click after `start` samples, and a tail that decays by 60 dB in RT60_S: (mics, taps)."""
    t = np.arange(round(0.4 * fs)) / fs
    rng = np.random.default_rng(seed)
    rir = 0.02 * rng.standard_normal((n_mics, t.size)) * 10 ** (-3 * t / RT60_S)
    rir[:, :start] = 0
    rir[:, start] = 0.5
    return rir


def folder(tmp_path, n: int = 4, **kwargs):
    for k in range(n):
        soundfile.write(tmp_path / f"{k}.wav", response(k, **kwargs).T, FS, subtype="FLOAT")
    return tmp_path


def scene(responses, index: int = 0, **changes) -> Scene:
    data = {"duration_s": 1, "measured": {"responses": str(responses)}, "method": "fast"}
    return sample_scene(SceneConfig.model_validate(data | changes), 0, index)


def test_images_are_speech_through_the_files_and_parts_add_up(tmp_path):
    both = {"diffuse": {}, "point": {}}
    drawn = scene(folder(tmp_path), talkers={"count": 2}, noise_mix=both)
    mix = render(drawn)
    assert mix.image.shape == (2, 2, FS)
    assert np.abs(mix.image.sum(axis=0) + mix.noise - mix.mixture).max() <= 1e-6
    for talker, dry, image in zip(drawn.talkers, mix.dry, mix.image, strict=True):
        rir = soundfile.read(talker.responses[0])[0].T
        expected = fftconvolve(dry[None], rir, axes=1)[:, :FS]
        np.testing.assert_allclose(image, expected, atol=1e-5 * np.abs(expected).max())


def test_talkers_have_places_of_their_own_in_one_room(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for room in "ab":
        folder(tmp_path / room, 3)
    for index in range(8):
        drawn = scene(tmp_path, index, talkers={"count": 3})
        files = [t.responses[0] for t in drawn.talkers]
        assert len(set(files)) == 3 and len({f.split("/")[-2] for f in files}) == 1
    assert {scene(tmp_path, i).talkers[0].responses[0].split("/")[-2] for i in range(12)} == {*"ab"}


def test_early_and_direct_sound_count_from_the_onset_of_each_microphone():
    rir = np.stack([response(0, 1, start)[0] for start in (40, 300)])
    np.testing.assert_array_equal(onset(rir), [40, 300])
    for part, seconds in ((first_part(rir, 0.05, FS), 0.05), (direct_part(rir, FS), 0.0025)):
        for x, whole, start in zip(part, rir, (40, 300), strict=True):
            end = start + round(seconds * FS) + 1
            np.testing.assert_array_equal(x[:end], whole[:end])
            assert not x[end:].any() and whole[end:].any()


def test_the_rt60_of_a_scene_is_that_of_its_response(tmp_path):
    drawn = scene(folder(tmp_path))
    assert drawn.rt60_s == response_rt60(drawn.talkers[0].responses[0], FS)
    assert drawn.rt60_s == pytest.approx(RT60_S, rel=0.1)


def test_diffuse_noise_comes_from_every_place_and_is_not_one_point(tmp_path):
    mix = render(scene(folder(tmp_path, 8), noise_mix={"diffuse": {}}))
    assert abs(np.corrcoef(mix.noise)[0, 1]) < 0.97
    drawn = scene(folder(tmp_path, 8), noise_mix={"diffuse": {}})
    assert len(drawn.noises[0].responses) == 8


def test_a_manifest_names_rooms_and_a_scene_survives_json(tmp_path):
    folder(tmp_path, 3)
    manifest = tmp_path / "rir.jsonl"
    records = [{"path": f"{k}.wav", "room": "ab"[k % 2]} for k in range(3)]
    manifest.write_text("".join(json.dumps(r) + "\n" for r in records))
    assert [r.room for r in list_responses(str(manifest))] == ["a", "b", "a"]
    drawn = scene(manifest, talkers={"count": 2})
    assert {t.responses[0] for t in drawn.talkers} == {str(tmp_path / f"{k}.wav") for k in (0, 2)}
    again = Scene.model_validate_json(drawn.model_dump_json())
    np.testing.assert_array_equal(render(again).mixture, render(drawn).mixture)


def test_responses_of_another_rate_are_resampled(tmp_path):
    rir = response(0, start=240, fs=48000)
    soundfile.write(tmp_path / "a.wav", rir.T, 48000, subtype="FLOAT")
    drawn = scene(tmp_path / "a.wav", noise_mix={"diffuse": {}})
    assert drawn.rt60_s == pytest.approx(RT60_S, rel=0.1)


def test_a_named_array_gives_the_positions_and_must_fit(tmp_path):
    named = {"responses": str(folder(tmp_path, n_mics=2)), "array": "laptop_2mic"}
    assert scene("", measured=named).array.name == "laptop_2mic"
    with pytest.raises(ValueError, match="expected responses of the 6 microphones"):
        scene("", measured=named | {"array": "circular_6mic"})


def test_what_cannot_be_is_refused(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="expected measured responses"):
        scene(empty)
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"expected a response that can be read.*text\.wav"):
        scene(tmp_path / "text.wav")
    good = tmp_path / "good"
    good.mkdir()
    with pytest.raises(ValueError, match="expected a room with 3 responses, found at most 2"):
        scene(folder(good, 2), talkers={"count": 3})
    with pytest.raises(ValueError, match="in simulated rooms"):
        scene(good, talkers={"motion": {}})


@pytest.mark.parametrize("room", ["house", "surrey_room_a"])
def test_rooms_that_were_really_measured_work(shared, room):
    for index in range(2):
        mix = render(scene(shared / "data" / "rir" / room, index, talkers={"count": 2}))
        assert np.abs(mix.image.sum(axis=0) + mix.noise - mix.mixture).max() <= 1e-6
        assert 0.1 < mix.scene.rt60_s < 3 and np.all(np.isfinite(mix.mixture))
