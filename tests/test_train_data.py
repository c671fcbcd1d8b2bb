"""Clips, their order and what augmentation does to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training import write_small

from multichannel.augment import AUGMENTATIONS, augment
from multichannel.cache import CachedClips, FrontEnd, create_cache, write_row
from multichannel.data import Order, PackedClips, Recorded, batch_of, crop, pack
from multichannel.stft import STFT

FS = 16_000


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return Recorded(write_small(tmp_path_factory.mktemp("mixtures"), count=3))


def _clip(n_mics: int = 3, n_samples: int = FS, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixture = 0.1 * rng.standard_normal((n_mics, n_samples)).astype(np.float32)
    return {"mixture": mixture, "early": 0.5 * mixture[0]}


def _spectra_clip(n_samples: int = FS) -> dict[str, np.ndarray]:
    clip = _clip(2, n_samples)
    X = STFT()(torch.from_numpy(clip["mixture"])).numpy()
    return {"spectra": X, "cues": np.abs(X) / np.abs(X).max(), "early": clip["early"]}


def test_every_clip_is_seen_once_an_epoch():
    order = Order(np.full(24, 100), batch=4, seed=7)
    assert sorted(np.concatenate([order.of(step) for step in range(6)])) == list(range(24))
    assert not np.array_equal(order.of(0), order.of(6))


def test_the_order_depends_on_seed_and_step_alone():
    lengths = np.random.default_rng(0).integers(100, 900, 40)
    forwards = Order(lengths, 5, seed=1)
    steps = [forwards.of(step) for step in range(20)]
    backwards = Order(lengths, 5, seed=1)
    for step in reversed(range(20)):
        assert np.array_equal(backwards.of(step), steps[step])
    assert not np.array_equal(Order(lengths, 5, seed=2).of(0), steps[0])


def test_clips_of_a_batch_are_of_like_length():
    lengths = np.random.default_rng(0).integers(100, 900, 400)
    order = Order(lengths, 8, seed=1)
    spread = np.mean([np.ptp(lengths[order.of(step)]) for step in range(50)])
    assert spread < 0.1 * np.ptp(lengths)
    assert sorted(np.concatenate([order.of(step) for step in range(50)])) == list(range(400))


def test_endless_clips_never_come_again():
    order = Order(None, 4, seed=0)
    assert np.array_equal(np.concatenate([order.of(3), order.of(4)]), np.arange(12, 20))


def test_fewer_clips_than_a_batch_are_refused():
    with pytest.raises(ValueError, match="at least 8 clips for a batch, found 5"):
        Order(np.full(5, 10), 8, 0)


def test_packed_clips_are_the_recorded_ones(recorded, tmp_path):
    pack(recorded.records, tmp_path)
    packed = PackedClips(tmp_path)
    assert np.array_equal(packed.lengths, recorded.lengths)
    for index in range(3):
        ours, theirs = packed.clip(index), recorded.clip(index)
        assert ours["mixture"].shape == theirs["mixture"].shape
        for name in theirs:
            assert np.abs(ours[name] - theirs[name]).max() < 1e-3 * np.abs(theirs["mixture"]).max()


def test_cached_clips_are_what_the_front_end_gives(recorded, tmp_path):
    front_end = FrontEnd("mono", causal_every=2)
    create_cache(tmp_path, recorded.lengths - np.array([0, 2000, 0]))
    for row in range(2):
        clip = crop(recorded.clip(row), int(recorded.lengths[row]) - 2000 * row)
        made = front_end(clip, row)
        write_row(tmp_path, row, made)
        kept = CachedClips(tmp_path).clip(row)
        for name, x in made.items():
            assert kept[name].shape == x.shape
            assert np.linalg.norm(kept[name] - x) < 5e-3 * np.linalg.norm(x), name
        reference = STFT()(torch.from_numpy(clip["mixture"][0])).numpy()
        assert np.linalg.norm(kept["spectra"][1] - reference) < 2e-3 * np.linalg.norm(reference)


def test_a_crop_of_spectra_fits_its_samples():
    stft, clip = STFT(), _spectra_clip(2 * FS)
    cut = crop(clip, FS // 2, np.random.default_rng(3))
    X = torch.from_numpy(cut["spectra"][0])
    x = stft.inverse(X, FS // 2).numpy()
    assert np.abs(0.5 * x - cut["early"])[:-512].max() < 1e-5


def test_smaller_clips_end_in_zeros():
    batch = batch_of([_clip(2, 100), _clip(4, 80)])
    assert batch["mixture"].shape == (2, 4, 100) and batch["early"].shape == (2, 100)
    assert batch["mixture"][0, 2:].abs().max() == 0 and batch["early"][1, 80:].abs().max() == 0


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_augmentation_changes_a_clip_repeatably_and_keeps_its_form(name):
    clip = _clip()
    before = {key: x.copy() for key, x in clip.items()}
    chosen = {name: {"probability": 1.0}}
    once, again = (augment(clip, chosen, np.random.default_rng(1)) for _ in range(2))
    other = augment(clip, chosen, np.random.default_rng(2))
    for key, x in clip.items():
        assert np.array_equal(x, before[key])
        assert np.array_equal(once[key], again[key])
        assert once[key].dtype == np.float32 and once[key].shape[-1] == x.shape[-1]
        assert np.isfinite(once[key]).all()
    changed = [
        one["mixture"].shape != clip["mixture"].shape
        or not np.array_equal(one["mixture"], clip["mixture"])
        for one in (once, other)
    ]
    assert any(changed)


@pytest.mark.parametrize("name", ["clipping", "codec", "dead_mic", "mic_dropout", "mic_subset"])
def test_damage_is_done_to_the_mixture_alone(name):
    clip = _clip()
    for seed in range(4):
        done = augment(clip, {name: {"probability": 1.0}}, np.random.default_rng(seed))
        assert np.array_equal(done["early"], clip["early"])
        if "mic" in name:
            assert np.array_equal(done["mixture"][0], clip["mixture"][0])


@pytest.mark.parametrize("name", ["gain", "equaliser", "band_limit", "frequency_mask", "time_mask"])
def test_what_cannot_be_undone_is_not_wanted_either(name):
    """The talker is half of mic 0 before, and so he is after."""
    done = augment(_clip(), {name: {"probability": 1.0}}, np.random.default_rng(5))
    assert np.abs(done["early"] - 0.5 * done["mixture"][0]).max() < 1e-5


@pytest.mark.parametrize("name", ["gain", "frequency_mask", "time_mask"])
def test_spectra_are_augmented_as_waveforms_are(name):
    clip, stft = _spectra_clip(), STFT()
    chosen = {name: {"probability": 1.0}}
    for seed in range(3):
        done = augment(clip, chosen, np.random.default_rng(seed))
        wave = augment(_clip(2), chosen, np.random.default_rng(seed))
        x = stft.inverse(torch.from_numpy(done["spectra"][0]), FS).numpy()
        # edges of a mask are blurred by the window
        assert np.linalg.norm(x - wave["mixture"][0]) < 0.2 * np.linalg.norm(wave["mixture"])


def test_probabilities_are_kept():
    rng, clip = np.random.default_rng(0), _clip(1, 100)
    gains = {"gain": {"probability": 0.3}}
    changed = sum(augment(clip, gains, rng)["early"][0] != clip["early"][0] for _ in range(1000))
    assert 250 < changed < 350
