"""Meetings as microphones hear them: drawn repeatably, in blocks that do not show."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from meetings import short_meeting

from simulate import load_corpus, render
from simulate.meeting import MeetingConfig, sample_meeting
from simulate.meeting_render import meeting_blocks


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"turns": {"overlap_ratio": 0.5}}, "turns: expected overlap_ratio from 0 to 0.4"),
        ({"turns": {"overlap": 0.2}}, "unknown key turns.overlap: did you mean overlap_"),
        ({"turns": {"pause_s": {"uniform": [-1, 1]}}}, "expected pause_s"),
        ({"talkers": {"count": 9}}, "expected talkers.count from 2 to 8, found 9"),
        ({"duration_s": 20}, "expected duration_s from 30 to 3600, found 20"),
        ({"talkers": {"count": 2, "motion": {}}}, "expected a meeting without talkers.motion"),
        ({"noise_mix": {"point": {"motion": {}}}}, "a meeting without noise_mix.point.motion"),
        ({"mics": {}}, "expected a meeting without mics"),
    ],
)
def test_mistakes_of_a_config_are_told_in_one_line(tmp_path, changes, message):
    file = tmp_path / "meeting.yaml"
    file.write_text(json.dumps(changes))
    with pytest.raises(ValueError, match=message) as caught:
        MeetingConfig.load(file)
    assert "\n" not in str(caught.value)


def test_more_talkers_than_the_corpus_has_are_refused():
    crowd = short_meeting(talkers={"count": 8, "distance_m": 1})
    with pytest.raises(ValueError, match="expected 8 named speakers in the corpus, found 6"):
        sample_meeting(crowd, 0, 0)


def joined(blocks, name: str) -> np.ndarray:
    return np.concatenate([getattr(block, name) for block in blocks], axis=-1)


def test_a_meeting_depends_on_seed_and_index_alone():
    config = short_meeting()
    meeting = sample_meeting(config, 4, 2)
    assert sample_meeting(config, 4, 2) == meeting
    assert sample_meeting(config, 4, 1).turns != meeting.turns
    assert sample_meeting(config, 5, 2).turns != meeting.turns


def test_every_talker_says_what_his_speaker_recorded():
    meeting = sample_meeting(short_meeting(duration_s=120), 0, 0)
    speaker = {u.path: u.speaker for u in load_corpus("builtin")}
    text = {u.path: u.text for u in load_corpus("builtin")}
    assert {t.talker for t in meeting.turns} == set(range(len(meeting.scene.talkers)))
    for turn in meeting.turns:
        assert speaker[turn.path] == meeting.speaker(turn)
        assert turn.text == ("" if turn.backchannel else text[turn.path])


def test_blocks_give_what_the_whole_clip_gives():
    noise = {"diffuse": None, "point": {"level_db": 0}, "babble": {"level_db": 3}}
    still = {"backchannels": {"probability": 0}}  # a cut fades out in a meeting only
    scene = sample_meeting(short_meeting(noise_mix=noise, turns=still), 1, 0).scene
    scene = scene.model_copy(update={"n_samples": 16000 * 9 + 123})
    whole, blocks = render(scene), list(meeting_blocks(scene, early=True, block_s=2))
    assert len(blocks) == 5
    for name in ("mixture", "image", "early", "noise", "dry"):
        expected, found = getattr(whole, name), joined(blocks, name)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


def test_a_meeting_in_a_measured_room_is_heard_through_its_responses(tmp_path):
    rng = np.random.default_rng(0)
    decay = 10 ** (-3 * np.arange(4000) / 16000 / 0.25)
    for number in range(4):
        rir = rng.standard_normal((4000, 2)) * decay[:, None]
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * rir, 16000, subtype="FLOAT")
    mix = {"diffuse": {"level_db": 0}, "point": {"level_db": -6}}
    measured = {"measured": {"responses": str(tmp_path)}, "talkers": {"count": 2}, "snr_db": 7}
    still = {"turns": {"backchannels": {"probability": 0}}}
    scene = sample_meeting(short_meeting(noise_mix=mix, **measured, **still), 0, 0).scene
    scene = scene.model_copy(update={"n_samples": 16000 * 5})
    whole, blocks = render(scene), list(meeting_blocks(scene, early=True, block_s=2))
    for name in ("dry", "image", "early"):
        expected, found = (
            x / np.abs(x).max() for x in (getattr(whole, name), joined(blocks, name))
        )
        np.testing.assert_allclose(found, expected, atol=2e-6)
    # Phases of the diffuse noise are a block's own; its level is not.
    noise, image = joined(blocks, "noise"), joined(blocks, "image").sum(axis=0)
    assert 10 * np.log10(np.mean(image[0] ** 2) / np.mean(noise[0] ** 2)) == pytest.approx(7)
    levels = [10 * np.log10(np.mean(x[1, 32000:] ** 2)) for x in (noise, whole.noise)]
    levels[1] += 20 * np.log10(np.abs(image).max() / np.abs(whole.image.sum(axis=0)).max())
    assert levels[0] == pytest.approx(levels[1], abs=1)


def test_levels_are_exact_and_a_diffuse_field_has_no_seams():
    mix = {"diffuse": {"level_db": 0}, "point": {"level_db": -6}}
    scene = sample_meeting(short_meeting(noise_mix=mix, snr_db=7, level_dbfs=-30), 0, 1).scene
    blocks = list(meeting_blocks(scene, block_s=3))
    mixture, image, noise = (joined(blocks, name) for name in ("mixture", "image", "noise"))
    np.testing.assert_allclose(mixture, image.sum(0) + noise, atol=1e-12)
    power = [10 * np.log10(np.mean(x[0] ** 2)) for x in (mixture, image.sum(0), noise)]
    assert power[1] - power[2] == pytest.approx(7, abs=1e-6)
    assert power[0] == pytest.approx(-30, abs=1e-6)
    # Where one piece of the field fades into the next, neither a dip nor a step.
    seams = [noise[0, k * 48000 : k * 48000 + 1600] for k in range(1, 10)]
    at_seams = 10 * np.log10(np.mean(np.square(seams)))
    assert at_seams == pytest.approx(power[2], abs=1)
    steps = np.abs(np.diff(noise[0]))[np.arange(1, 10) * 48000 - 1]
    assert steps.max() < 6 * np.diff(noise[0]).std()


def test_what_blocks_cannot_render_is_refused_not_left_out():
    scene = sample_meeting(short_meeting(), 0, 0).scene

    class Wider(type(scene)):
        mirrors: int = 0

    odd = Wider(**{**dict(scene), "mirrors": 2})
    with pytest.raises(ValueError, match="expected a meeting without mirrors"):
        next(meeting_blocks(odd))
