"""A bank gives the rooms it was made of; a stream of mixtures is the data set of its seed."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest
import soundfile
from scipy.signal import fftconvolve

from simulate import SceneConfig, render, sample_scene
from simulate.bank import Mixtures, write_bank
from simulate.dataset import plan_dataset
from simulate.timeline import play

ROOMS = 3


def config(**changes) -> SceneConfig:
    data = {"method": "fast", "duration_s": 0.5, "room": {"rt60_s": 0.2}, "talkers": {"count": 2}}
    return SceneConfig.model_validate(data | changes)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return write_bank(config(), tmp_path_factory.mktemp("bank"), ROOMS, seed=4)


def test_every_room_is_there_with_the_places_of_its_talkers(bank):
    records = [json.loads(line) for line in bank.read_text().splitlines()]
    for index in range(ROOMS):
        scene = sample_scene(config(), 4, index)
        room = [r for r in records if r["room"] == index]
        assert len(room) == 2 + 8
        assert [tuple(r["position_m"]) for r in room[:2]] == [t.position_m for t in scene.talkers]
        for record in room:
            rir, fs = soundfile.read(bank.parent / record["path"])
            assert fs == 16_000 and rir.shape[1] == 6
            distance = np.linalg.norm(np.array(scene.mics_m)[0] - record["position_m"])
            # A delay's filter reaches 40 samples to either side, and nothing is heard before.
            arrival = round(distance / 343 * fs)
            assert np.abs(rir[: max(0, arrival - 41), 0]).max(initial=0) < 1e-3 / distance
            assert np.abs(rir[: arrival + 2, 0]).max() > 0.5 / distance


def test_mixtures_drawn_from_a_bank_are_heard_in_its_rooms(bank):
    drawn = config(measured={"responses": str(bank), "array": "circular_6mic"})
    scene = sample_scene(drawn, 0, 0)
    mixture = render(scene)
    rooms = {path.split("/")[-2] for t in (*scene.talkers, *scene.noises) for path in t.responses}
    assert len(rooms) == 1
    for talker, image, dry in zip(scene.talkers, mixture.image, mixture.dry, strict=True):
        rir = soundfile.read(talker.responses[0])[0].T
        expected = fftconvolve(dry[None], rir, axes=-1)[:, : scene.n_samples]
        np.testing.assert_allclose(image, expected, atol=1e-5 * np.abs(expected).max())
        assert np.any(play(talker.segments, scene.n_samples, scene.fs))


def test_records_tell_where_talkers_are_as_the_array_of_the_bank_sees_them(bank):
    rooms = [sample_scene(config(), 4, index) for index in range(ROOMS)]
    for record in plan_dataset(config(measured={"responses": str(bank)}), 4):
        number = int(record["talkers"][0]["responses"][0].split("/")[-2])
        scene = rooms[number]
        assert record["array"]["positions_m"] == scene.array.positions_m
        for talker in record["talkers"]:
            (path,) = talker["responses"]
            delay = np.argmax(np.abs(soundfile.read(path)[0]) > 0.5 / talker["distance_m"], axis=0)
            assert delay.mean() == pytest.approx(talker["distance_m"] / 343 * 16_000, abs=4)
            azimuth = np.radians(talker["azimuth_deg"])
            towards = scene.array.as_array() @ [np.cos(azimuth), np.sin(azimuth), 0]
            assert np.all(np.diff(delay[np.argsort(-towards)]) >= -1)


def test_records_do_not_tell_what_nobody_measured(bank, tmp_path):
    alone = tmp_path / "room"
    alone.mkdir()
    for number in range(2):
        (alone / f"{number}.wav").write_bytes(
            (bank.parent / f"0000/0000000/0{number}.wav").read_bytes()
        )
    (record,) = plan_dataset(config(measured={"responses": str(alone)}), 1)
    for talker in record["talkers"]:
        assert talker["azimuth_deg"] is None and talker["distance_m"] is None
        assert talker["responses"][0].endswith(".wav")


def test_records_tell_what_is_not_by_default():
    walk = {"count": 1, "motion": {}, "facing_deg": 0}
    (plain,), (told,) = (plan_dataset(config(talkers=t), 1) for t in ({"count": 1}, walk))
    assert not {"path", "facing", "sir_db", "responses"} & set(plain["talkers"][0])
    assert not {"mics", "self_noise_db"} & set(plain)
    assert len(told["talkers"][0]["path"]) > 1 and told["talkers"][0]["facing"]


def test_a_bank_is_made_once(bank):
    times = {p: p.stat().st_mtime_ns for p in bank.parent.rglob("*.wav")}
    assert write_bank(config(), bank.parent, ROOMS, seed=4) == bank
    assert {p: p.stat().st_mtime_ns for p in bank.parent.rglob("*.wav")} == times
    with pytest.raises(ValueError, match="found another data set"):
        write_bank(config(), bank.parent, ROOMS, seed=5)


def test_a_stream_is_the_data_set_of_its_seed_shared_among_workers():
    whole = [m.mixture for m in islice(Mixtures(config(), seed=3), 4)]
    for index, mixture in enumerate(whole):
        np.testing.assert_array_equal(mixture, render(sample_scene(config(), 3, index)).mixture)
    shares = [islice(Mixtures(config(), 3, first=k, step=2), 2) for k in (0, 1)]
    shared = [mixture.mixture for pair in zip(*shares, strict=True) for mixture in pair]
    for a, b in zip(whole, shared, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("wrong", [{"first": -1}, {"step": 0}])
def test_a_stream_that_cannot_begin_is_refused(wrong):
    with pytest.raises(ValueError, match="expected first >= 0 and step >= 1"):
        Mixtures(config(), **wrong)
