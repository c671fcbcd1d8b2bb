"""Meetings: the overlap asked for, turns as people take them, blocks that do not show."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from simulate import load_corpus, read_manifest, render
from simulate.corpus import Utterance
from simulate.meeting import MeetingConfig, draw_meeting, sample_meeting
from simulate.meeting_files import plan_meetings, write_meeting, write_meetings
from simulate.meeting_render import meeting_blocks
from simulate.quantity import Uniform
from simulate.turns import BackchannelConfig, TurnConfig, overlap_ratio, plan_turns


def material(n_talkers: int, shortest_s: float, longest_s: float) -> list[list[Utterance]]:
    """Utterances that need no files; each is 20 of a talker's, with words."""
    rng = np.random.default_rng(n_talkers)
    return [
        [Utterance(f"{k}-{i}", s, f"t{k}", f"words {i}") for i, s in enumerate(seconds)]
        for k, seconds in enumerate(rng.uniform(shortest_s, longest_s, (n_talkers, 20)).round(2))
    ]


def plan(ratio=0.2, n_talkers=4, duration_s=600.0, seed=0, spread=(1.0, 8.0), **turns):
    config = TurnConfig(**turns)
    rng = np.random.default_rng(seed)
    return plan_turns(material(n_talkers, *spread), config, duration_s, ratio, rng)


def on_a_grid(turns, duration_s=600.0, step_s=0.01) -> np.ndarray:
    """How many speak at each moment, by looking at each."""
    moments = np.arange(0, duration_s, step_s) + step_s / 2
    return sum(((moments > t.at_s) & (moments < t.end_s)).astype(int) for t in turns)


@pytest.mark.parametrize("spread", [(1, 4), (0.5, 12), (2, 15)])
@pytest.mark.parametrize("n_talkers", [2, 8])
def test_ten_minutes_have_the_overlap_asked_for_within_two_points(n_talkers, spread):
    errors = [
        overlap_ratio(plan(ratio, n_talkers, seed=seed, spread=spread)) - ratio
        for ratio in (0, 0.05, 0.2, 0.4)
        for seed in range(6)
    ]
    assert np.abs(errors).max() < 0.02


@pytest.mark.parametrize("seed", range(6))
def test_talkers_who_like_to_go_on_alone_still_overlap_as_asked(seed):
    turns = plan(0.4, 2, seed=seed, spread=(2, 15), hold=0.7)
    assert overlap_ratio(turns) == pytest.approx(0.4, abs=0.02)


def test_the_overlap_ratio_is_what_one_counts_by_looking_at_every_moment():
    turns = plan(0.3, seed=3)
    speaking = on_a_grid(turns)
    counted = (speaking >= 2).sum() / (speaking >= 1).sum()
    assert overlap_ratio(turns) == pytest.approx(counted, abs=2e-3)
    assert overlap_ratio([]) == 0


@pytest.mark.parametrize("seed", range(4))
def test_at_most_two_speak_at_once_and_nobody_with_himself(seed):
    turns = plan(0.4, 3, seed=seed)
    assert on_a_grid(turns).max() == 2
    for talker in range(3):
        own = [t for t in turns if t.talker == talker]
        assert all(a.end_s <= b.at_s + 1e-3 for a, b in pairwise(own))
    assert turns == sorted(turns, key=lambda t: t.at_s)
    assert min(t.at_s for t in turns) >= 0 and 580 < max(t.end_s for t in turns) <= 600


def test_without_overlap_all_gaps_are_pauses_of_the_config_and_nobody_cuts_in():
    turns = plan(0.0, seed=1, pause_s=Uniform(uniform=(0.5, 0.7)))
    gaps = [b.at_s - a.end_s for a, b in pairwise(turns)]
    assert 0.499 < min(gaps) < 0.52 and 0.68 < max(gaps) < 0.701
    assert not any(t.backchannel for t in turns)


def test_overlap_comes_in_pieces_worth_having_beside_pauses():
    least = Uniform(uniform=(0.8, 1.2))
    turns = plan(0.1, seed=2, overlap_s=least, backchannels=BackchannelConfig(probability=0))
    gaps = np.array([b.at_s - a.end_s for a, b in pairwise(turns)])
    assert np.mean(gaps > 0) > 0.3 and np.mean(gaps < 0) > 0.1
    # An utterance shorter than the overlap owed can pay no more than its length.
    assert np.all(gaps[gaps < 0] < -0.79)


def test_backchannels_are_short_words_of_somebody_else_inside_an_utterance():
    seconds = Uniform(uniform=(0.4, 0.9))
    turns = plan(0.2, backchannels=BackchannelConfig(probability=1, seconds=seconds))
    asides = [t for t in turns if t.backchannel]
    assert len(asides) > 20
    assert all(0.4 <= t.seconds <= 0.9 and t.text == "" for t in asides)
    for aside in asides:
        around = [t for t in turns if t.at_s <= aside.at_s and aside.end_s <= t.end_s + 1e-4]
        assert len({t.talker for t in around}) == 2


def test_a_short_utterance_makes_a_backchannel_with_its_words():
    known = [[*said, Utterance(f"mhm{k}", 0.5, f"t{k}", "mhm")] for k, said in enumerate(
        material(3, 3, 6))]  # fmt: skip
    turns = plan_turns(known, TurnConfig(), 300, 0.2, np.random.default_rng(0))
    asides = [t for t in turns if t.backchannel]
    assert asides and all(t.text == "mhm" and t.seconds == 0.5 for t in asides)


def test_nobody_repeats_himself_while_he_has_more_to_say():
    said = [t.path for t in plan(0.1, 2) if t.talker == 0 and not t.backchannel]
    assert len(said) > 20 and len(set(said[:20])) == 20


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


def test_what_cannot_be_a_meeting_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least 2 talkers, found 1"):
        plan_turns(material(1, 1, 2), TurnConfig(), 60, 0.1, rng)
    with pytest.raises(ValueError, match="utterances shorter than 30 s"):
        plan_turns(material(2, 40, 50), TurnConfig(), 30, 0.1, rng)
    crowd = short_meeting(talkers={"count": 8, "distance_m": 1})
    with pytest.raises(ValueError, match="expected 8 named speakers in the corpus, found 6"):
        sample_meeting(crowd, 0, 0)


# --------------------------------------------------------------------------------------- with sound


def short_meeting(**changes) -> MeetingConfig:
    small = {"duration_s": 30, "array": {"names": ["laptop_2mic"]}}
    return MeetingConfig.model_validate(
        MeetingConfig.load("meeting").model_dump() | small | changes
    )


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


def test_files_tell_who_said_what_when_and_are_kept(tmp_path):
    config = short_meeting(references=["image", "noise"])
    folder = write_meeting(config, tmp_path / "a", 0, 3)
    record = json.loads((folder / "record.json").read_text())
    assert folder.name == "0000003" and not list(tmp_path.rglob("*.part"))
    meeting = sample_meeting(config, 0, 3)
    assert record["overlap_ratio"] == pytest.approx(meeting.overlap_ratio, abs=1e-4)
    seglst = json.loads((folder / "segments.json").read_text())
    rttm = [line.split() for line in (folder / "segments.rttm").read_text().splitlines()]
    assert [(s["speaker"], s["start_time"], s["words"]) for s in seglst] == [
        (meeting.speaker(t), t.at_s, t.text) for t in meeting.turns
    ]
    assert [(line[7], float(line[3])) for line in rttm] == [
        (s["speaker"], s["start_time"]) for s in seglst
    ]
    stm = (folder / "segments.stm").read_text().splitlines()
    assert [line.split(" ", 5)[5] for line in stm] == [s["words"] for s in seglst if s["words"]]
    read = {
        name: soundfile.read(tmp_path / "a" / path, always_2d=True)[0][:, 0]
        for name, path in [(n, record["paths"][n]) for n in ("mixture", "noise")]
        + [(f"image{k}", p) for k, p in enumerate(record["paths"]["image"])]
    }
    parts = sum(x for name, x in read.items() if name != "mixture")
    np.testing.assert_allclose(read["mixture"], parts, atol=1e-6)
    again = write_meeting(config, tmp_path / "b", 0, 3)
    files = sorted(p.name for p in folder.iterdir())
    assert files == sorted(p.name for p in again.iterdir())
    assert all((folder / n).read_bytes() == (again / n).read_bytes() for n in files)
    before = (folder / "mixture.flac").stat().st_mtime_ns
    assert write_meeting(config, tmp_path / "a", 0, 3) == folder
    assert (folder / "mixture.flac").stat().st_mtime_ns == before


def test_a_data_set_of_meetings_has_a_manifest_and_is_completed(tmp_path):
    config = short_meeting()
    write_meeting(config, tmp_path, 7, 1)
    first = tmp_path / "0000" / "0000001" / "mixture.flac"
    before, seen = first.stat().st_mtime_ns, []
    manifest = write_meetings(config, tmp_path, 2, 7, progress=lambda *at: seen.append(at))
    assert seen[0] == (1, 2) and seen[-1] == (2, 2) and seen == sorted(seen)
    assert any(1 < done < 2 for done, _ in seen) and first.stat().st_mtime_ns == before
    records = list(read_manifest(manifest))
    assert [r["id"] for r in records] == ["7-0000000", "7-0000001"]
    assert all(Path(path).is_file() for r in records for path in r["paths"].values())
    with pytest.raises(ValueError, match="another data set"):
        write_meetings(config, tmp_path, 2, 8)


def test_what_blocks_cannot_render_is_refused_not_left_out():
    scene = sample_meeting(short_meeting(), 0, 0).scene

    class Wider(type(scene)):
        mirrors: int = 0

    odd = Wider(**{**dict(scene), "mirrors": 2})
    with pytest.raises(ValueError, match="expected a meeting without mirrors"):
        next(meeting_blocks(odd))


def recorded(folder: Path, speakers: int = 3, each: int = 8) -> Path:
    """A manifest of recordings of a second or two by named speakers."""
    folder.mkdir()
    rng, lines = np.random.default_rng(0), []
    for k in range(speakers * each):
        seconds = 1 + k % 3 / 2
        soundfile.write(folder / f"{k}.wav", rng.normal(0, 0.1, round(seconds * 16_000)), 16_000)
        record = {"path": f"{k}.wav", "seconds": seconds, "speaker": f"s{k % speakers}"}
        lines.append(json.dumps(record | {"text": f"words {k}"}))
    (folder / "speech.jsonl").write_text("\n".join(lines))
    return folder / "speech.jsonl"


def test_recordings_of_a_meeting_that_cannot_be_read_are_replaced_and_told(tmp_path):
    speech = recorded(tmp_path / "corpus")
    config = short_meeting(speech=str(speech), talkers={"count": 2, "distance_m": 1})
    sound, none = draw_meeting(config, 0, 0)
    assert not none and sound == sample_meeting(config, 0, 0)
    bad = sorted({turn.path for turn in sound.turns})[:4]
    Path(bad[0]).unlink()
    for path in bad[1:]:
        Path(path).write_bytes(b"no sound")
    with pytest.warns(UserWarning, match=r"cannot be read \(4\): .*; .* records: 1"):
        manifest = write_meetings(config, tmp_path / "out", 1, 0)
    (record,) = read_manifest(manifest)
    assert record["unreadable"] == bad
    meeting, unreadable = draw_meeting(config, 0, 0)
    assert unreadable == bad and not {turn.path for turn in meeting.turns} & set(bad)
    # The same people in the same room, who say something else.
    assert [t.speaker for t in meeting.scene.talkers] == [t.speaker for t in sound.scene.talkers]
    assert meeting.scene.mics_m == sound.scene.mics_m
    assert meeting.overlap_ratio == pytest.approx(sound.overlap_ratio, abs=0.1)


def test_a_noise_that_cannot_be_read_is_drawn_anew_and_babble_goes_on(tmp_path):
    speech = recorded(tmp_path / "corpus")
    noises = recorded(tmp_path / "noise", 1, 4)
    mix = {"diffuse": {"level_db": 0}, "babble": {"level_db": -3, "sources": 2}}
    config = short_meeting(speech=str(speech), noise=str(noises), noise_mix=mix,
                           talkers={"count": 2, "distance_m": 1})  # fmt: skip
    diffuse, *babble = sample_meeting(config, 0, 0).scene.noises
    for talker in babble:
        assert talker.segments[-1].at_s + talker.segments[-1].seconds == pytest.approx(30)
    bad = [diffuse.segments[0].path, babble[0].segments[0].path]
    for path in bad:
        Path(path).unlink()
    meeting, unreadable = draw_meeting(config, 0, 0)
    assert unreadable == sorted(bad)
    used = {s.path for n in meeting.scene.noises for s in n.segments}
    assert not used & set(bad) and meeting.scene.seed == 0
    for path in noises.parent.glob("*.wav"):
        path.unlink()
    with pytest.raises(ValueError, match="expected noises that can be read"):
        draw_meeting(config, 0, 0)


def test_the_plan_of_meetings_is_what_is_made(tmp_path):
    config = short_meeting()
    planned = plan_meetings(config, 2, 7)
    assert planned[1]["requested_overlap_ratio"]
    made = list(read_manifest(write_meetings(config, tmp_path, 1, 7)))
    assert json.loads(json.dumps(planned[0])) == made[0] | {"paths": {}}
