"""Scenes and mixtures: draws repeat, parts add up, levels are exact, places are possible."""

import json

import numpy as np
import pytest
import soundfile

from simulate import Scene, SceneConfig, load_array, load_corpus, render, sample_scene
from simulate.corpus import Corpus, Utterance, read_audio
from simulate.quantity import Choice, Normal, Uniform, bounds, draw
from simulate.scene import Source
from simulate.timeline import Segment, noise_segments, play, speech_segments

FS = 16000


def fast(**changes) -> SceneConfig:
    """A config that renders quickly from what is built in."""
    return SceneConfig.model_validate({"method": "fast", "duration_s": 1.5} | changes)


ALL_NOISES = {"diffuse": {}, "point": {"level_db": -3}, "babble": {"sources": 3}}


@pytest.mark.parametrize("index", range(3))
def test_parts_add_up_to_the_mixture(index):
    mix = render(sample_scene(fast(noise_mix=ALL_NOISES, talkers={"count": 2}), 0, index))
    assert mix.image.shape == mix.early.shape == (2, 6, 24000)
    assert np.abs(mix.image.sum(axis=0) + mix.noise - mix.mixture).max() <= 1e-6


@pytest.mark.parametrize("snr_db", [-5, 0, 20])
def test_snr_at_the_reference_mic_is_exact(snr_db):
    mix = render(sample_scene(fast(snr_db=snr_db, talkers={"count": 2}), 1, 0))
    image, noise = mix.image[:, 0].sum(axis=0), mix.noise[0]
    assert 10 * np.log10(np.mean(image**2) / np.mean(noise**2)) == pytest.approx(snr_db, abs=0.01)


def test_level_at_the_reference_mic_is_exact():
    mix = render(sample_scene(fast(level_dbfs=-30), 1, 0))
    assert 10 * np.log10(np.mean(mix.mixture[0] ** 2)) == pytest.approx(-30, abs=0.01)


def test_a_level_that_would_clip_is_lowered():
    mix = render(sample_scene(fast(level_dbfs=0), 1, 0))
    heard = (mix.mixture, mix.image, mix.early, mix.noise)
    assert 0.9 < max(np.abs(x).max() for x in heard) < 1


@pytest.mark.parametrize("method", ["fast", "exact"])
def test_the_same_index_gives_the_same_samples_in_any_order(method):
    config = fast(method=method, room={"rt60_s": 0.2})
    first = [render(sample_scene(config, 7, i)).mixture for i in (0, 1)]
    again = [render(sample_scene(config, 7, i)).mixture for i in (1, 0)]
    np.testing.assert_array_equal(first, again[::-1])
    assert np.abs(first[0] - first[1]).max() > 1e-3
    assert sample_scene(config, 8, 0) != sample_scene(config, 7, 0)


def test_a_scene_survives_json():
    scene = sample_scene(fast(noise_mix=ALL_NOISES), 0, 0)
    again = Scene.model_validate_json(scene.model_dump_json())
    assert again == scene
    np.testing.assert_array_equal(render(again).mixture, render(scene).mixture)


def click_scene(tmp_path, method: str) -> Scene:
    """One talker who clicks once, so that its images are the room's responses."""
    path = tmp_path / "click.wav"
    soundfile.write(path, np.eye(1, FS)[0], FS, subtype="DOUBLE")
    scene = sample_scene(fast(room={"rt60_s": 0.3}, duration_s=1, snr_db=60), 3, 0)
    click = Segment(path=str(path), start_s=0, seconds=1, at_s=0)
    talker = scene.talkers[0].model_copy(update={"segments": [click]})
    return scene.model_copy(update={"talkers": [talker], "method": method})


@pytest.mark.parametrize("method", ["fast", "exact"])
def test_early_image_ends_50_ms_after_the_direct_path_of_each_mic(tmp_path, method):
    scene = click_scene(tmp_path, method)
    mix = render(scene)
    distance = np.linalg.norm(np.array(scene.mics_m) - scene.talkers[0].position_m, axis=1)
    for early, image, direct in zip(mix.early[0], mix.image[0], distance / 343 * FS, strict=True):
        end = int(direct + 0.05 * FS)
        scale = np.abs(image).max()
        np.testing.assert_allclose(early[: end + 1], image[: end + 1], atol=1e-5 * scale)
        assert np.abs(early[end + 1 :]).max() < 1e-5 * scale
        assert np.abs(image[end + 1 :]).max() > 1e-3 * scale


def test_nearer_microphones_hear_the_talker_first(tmp_path):
    scene = click_scene(tmp_path, "exact")
    distance = np.linalg.norm(np.array(scene.mics_m) - scene.talkers[0].position_m, axis=1)
    arrival = np.abs(render(scene).early[0]).argmax(axis=1)
    np.testing.assert_allclose(arrival, distance / 343 * FS, atol=1)


def test_silence_renders_to_finite_samples(tmp_path):
    scene = click_scene(tmp_path, "fast")
    soundfile.write(tmp_path / "click.wav", np.zeros(FS), FS)
    quiet = Source(kind="diffuse", position_m=None, segments=scene.talkers[0].segments)
    for noises in (scene.noises, [quiet]):
        mix = render(scene.model_copy(update={"noises": noises}))
        assert np.all(np.isfinite(mix.mixture)) and np.abs(mix.mixture).max() < 1


def test_everybody_has_a_place_in_the_room():
    config = fast(
        room={"length_m": {"uniform": [2.5, 9]}, "width_m": {"uniform": [2.5, 7]}},
        array={"random": {}, "min_wall_m": 0.3},
        talkers={"count": [1, 2, 3], "distance_m": {"uniform": [0.3, 4]}, "min_angle_deg": 20},
        noise_mix=ALL_NOISES,
    )
    for index in range(60):
        scene = sample_scene(config, 0, index)
        size, mics, origin = (
            np.array(v) for v in (scene.room_size_m, scene.mics_m, scene.origin_m)
        )
        assert np.all(mics[:, :2] > 0.299) and np.all(mics[:, :2] < size[:2] - 0.299)
        talkers = np.array([t.position_m for t in scene.talkers])
        assert np.all(talkers > 0.299) and np.all(talkers < size - 0.299)
        away = talkers - origin
        distance = np.linalg.norm(away, axis=1)
        assert np.all(distance > 0.299) and np.all(distance < 4.001)
        cosine = (away @ away.T) / np.outer(distance, distance)
        angles = np.degrees(np.arccos(np.clip(cosine, -1, 1)))[~np.eye(len(away), dtype=bool)]
        assert np.all(angles > 19.9)
        points = [n.position_m for n in scene.noises if n.position_m is not None]
        assert all(np.all(np.array(p) > 0) and np.all(np.array(p) < size) for p in points)


def test_a_rotated_array_keeps_its_geometry():
    scene = sample_scene(fast(), 0, 0)
    turn = np.radians(scene.rotation_deg)
    rotation = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    expected = load_array("circular_6mic").as_array() @ rotation.T + scene.origin_m
    np.testing.assert_allclose(scene.mics_m, expected, atol=2e-6)


def test_two_talkers_are_two_speakers():
    for index in range(10):
        talkers = sample_scene(fast(talkers={"count": 3}), 0, index).talkers
        assert len({t.speaker for t in talkers}) == 3 and all(t.text for t in talkers)


def test_a_scene_without_any_drawn_noise_has_its_first_kind():
    rare = {"diffuse": {"probability": 0}, "point": {"probability": 0}}
    assert [n.kind for n in sample_scene(fast(noise_mix=rare), 0, 0).noises] == ["diffuse"]


def test_rooms_too_small_for_the_talkers_are_refused():
    config = fast(room={"length_m": 3, "width_m": 3, "height_m": 2.5}, talkers={"distance_m": 5})
    with pytest.raises(ValueError, match=r"no place for a talker at 5\.00 m in a room of 3\.0"):
        sample_scene(config, 0, 0)


def test_an_rt60_out_of_reach_is_refused():
    with pytest.raises(ValueError, match="expected an RT60 that a room of"):
        sample_scene(fast(room={"rt60_s": 0.01}), 0, 0)


@pytest.mark.parametrize(
    ("quantity", "low", "high"),
    [
        (3.0, 3, 3),
        ([1.0, 2.0], 1, 2),
        (Uniform(uniform=(1, 2)), 1, 2),
        (Choice(choice=[1, 5]), 1, 5),
        (Normal(normal=(3, 1)), 0, 6),
    ],
)
def test_draws_stay_in_the_bounds_of_their_quantity(quantity, low, high):
    rng = np.random.default_rng(0)
    drawn = [draw(quantity, rng) for _ in range(2000)]
    assert bounds(quantity) == (low, high)
    assert low <= min(drawn) and max(drawn) <= high
    assert np.ptp(drawn) >= 0.9 * (high - low)


# Corpora


def write_corpus(folder, records):
    manifest = folder / "corpus.jsonl"
    manifest.write_text("".join(json.dumps(r) + "\n" for r in records))
    return manifest


def test_builtin_talkers_have_several_voices_and_transcripts():
    talkers = load_corpus("builtin")
    assert len({t.speaker for t in talkers}) >= 4 and all(t.text for t in talkers)
    x = read_audio(talkers[0].path, FS)
    assert (
        len(x) == pytest.approx(talkers[0].seconds * FS, abs=FS * 0.01) and np.abs(x).max() > 0.05
    )


def test_corpus_paths_are_relative_to_the_manifest_and_splits_are_kept_apart(tmp_path):
    records = [
        {"path": "a/1.flac", "seconds": 2, "speaker": "a", "split": "train", "licence": "CC0"},
        {"path": "b/2.flac", "seconds": 3, "kind": "dog", "split": "test"},
    ]
    manifest = write_corpus(tmp_path, records)
    (found,) = load_corpus(manifest, "test")
    assert found == Utterance(str(tmp_path / "b/2.flac"), 3.0, split="test", kind="dog")
    assert len(load_corpus(manifest)) == 2
    with pytest.raises(ValueError, match="expected recordings of split valid"):
        load_corpus(manifest, "valid")


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"path": "x"}', '{"path": "x", "seconds": "long"}', "3"]
)
def test_a_malformed_manifest_names_its_line(tmp_path, line):
    manifest = tmp_path / "corpus.jsonl"
    manifest.write_text('{"path": "x.wav", "seconds": 1}\n' + line + "\n")
    with pytest.raises(ValueError, match="line 2: expected a record"):
        load_corpus(manifest)


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"found no file .*none\.jsonl"):
        load_corpus(tmp_path / "none.jsonl")


def test_a_recording_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    for name in ("text.wav", "none.wav"):
        with pytest.raises(
            ValueError, match=f"expected a recording that can be read, found .*{name}"
        ):
            read_audio(str(tmp_path / name), FS)


def test_other_rates_are_resampled_and_parts_are_cut(tmp_path):
    tone = np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
    soundfile.write(tmp_path / "tone.wav", np.stack([tone, 0 * tone], axis=1), 48000)
    x = read_audio(str(tmp_path / "tone.wav"), FS, 0.25, 0.5)
    assert len(x) == 8000
    expected = np.sin(2 * np.pi * 440 * (np.arange(8000) / FS + 0.25))
    np.testing.assert_allclose(x[500:-500], expected[500:-500], atol=1e-3)


def test_long_speech_is_cut_and_short_speech_goes_on_with_the_same_speaker():
    corpus = [Utterance(f"{s}{i}", 1.0, s, f"{s}{i}") for s in "ab" for i in range(4)]
    corpus.append(Utterance("long", 30.0, "c", "all"))
    for seed in range(20):
        segments, first, text = speech_segments(
            Corpus(corpus), 4.0, 0.2, np.random.default_rng(seed)
        )
        end = max(s.at_s + s.seconds for s in segments)
        assert end <= 4.0 + 1e-6
        if first.speaker == "c":
            assert [s.seconds for s in segments] == [4.0] and segments[0].start_s <= 26
        else:
            assert all(s.path[0] == first.speaker for s in segments) and end > 3.5
            assert len({s.path for s in segments}) == len(segments)
            assert text.split() == [s.path for s in segments]


def test_speech_of_unknown_speakers_is_never_strung_together():
    corpus = [Utterance(str(i), 1.0) for i in range(5)]
    places = [
        speech_segments(Corpus(corpus), 4.0, 0.2, np.random.default_rng(seed))[0]
        for seed in range(20)
    ]
    assert all(len(p) == 1 for p in places)
    assert np.ptp([p[0].at_s for p in places]) > 1.5


def test_short_noise_fills_the_clip(tmp_path):
    soundfile.write(tmp_path / "noise.wav", 0.5 * np.ones(FS), FS)
    corpus = [Utterance(str(tmp_path / "noise.wav"), 1.0)]
    for seed in range(5):
        x = play(noise_segments(corpus, 3.3, np.random.default_rng(seed)), round(3.3 * FS), FS)
        assert np.count_nonzero(x == 0) <= 8, "segments leave gaps"
        assert np.abs(x).max() < 0.6, "segments overlap"
