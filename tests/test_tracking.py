"""Windows over a meeting and the talkers in them: whoever comes back, comes back as himself."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scenes import SAMPLE_RATE, arriving, circle

from multichannel.stft import STFT
from separation.tracking import NOBODY, Piece, Tracker, shared_sound
from separation.voices import Voices, clarity, heard_voices, likeness
from separation.wiener import LONG
from separation.windows import joined, windows

WINDOW, HOP = 2 * SAMPLE_RATE, SAMPLE_RATE
AZIMUTHS = (20.0, 110.0, 250.0)
FORMANTS_HZ = (500.0, 1100.0, 2600.0)
N_MICS = 4


def cut(x: np.ndarray, n_block: int, n_window: int, n_hop: int, n_whole: int):
    blocks = [x[:, i : i + n_block] for i in range(0, x.shape[1], n_block)]
    return list(windows(blocks, n_window, n_hop, n_whole))


@pytest.mark.parametrize("n_samples", [41, 50, 99, 100, 101, 105, 223])
@pytest.mark.parametrize("n_block", [1, 7, 300])
def test_windows_overlap_are_of_one_length_and_end_with_the_recording(n_samples, n_block):
    x = np.arange(n_samples, dtype=np.float32)[None]
    found = cut(x, n_block, 20, 10, 40)
    assert found[0].start == 0 and found[-1].start == n_samples - 20
    assert all(0 < b.start - a.start <= 10 for a, b in pairwise(found))
    for window in found:
        assert np.array_equal(window.x, x[:, window.start : window.start + 20])
        assert not window.whole


@pytest.mark.parametrize("n_samples", [1, 15, 40])
def test_a_short_recording_is_one_window(n_samples):
    x = np.arange(n_samples, dtype=np.float32)[None]
    (found,) = cut(x, 9, 20, 10, 40)
    assert np.array_equal(found.x, x) and found.start == 0 and found.whole


def test_no_more_is_read_than_a_window_needs():
    n_read = 0

    def blocks():
        nonlocal n_read
        for _ in range(1000):
            n_read += 5
            yield np.zeros((2, 5), np.float32)

    for window in windows(blocks(), 20, 10, 40):
        assert n_read <= window.start + 20 + max(10 + 5, 40)
    assert n_read == 5000


def test_windows_that_do_not_overlap_are_refused():
    with pytest.raises(ValueError, match="expected a hop below the window"):
        list(windows([], 20, 20, 40))


@pytest.mark.parametrize("n_fade", [1, 4, 100])
def test_windows_of_a_recording_join_to_the_recording(n_fade):
    x = np.random.default_rng(0).standard_normal((2, 223)).astype(np.float32)
    pieces = [(w.start, w.x) for w in cut(x, 50, 20, 12, 40)]
    assert np.allclose(np.concatenate([*joined(pieces, n_fade)], axis=1), x, atol=1e-6)


def test_what_changes_from_window_to_window_fades_where_both_are_sure():
    ones = np.ones(20, np.float32)
    y = np.concatenate([*joined([(0, ones), (10, 0 * ones)], 4)])
    assert np.all(y[:13] == 1) and np.all(y[17:] == 0)
    assert np.all(np.diff(y[12:18]) < 0)


class Room:
    """Talkers of different voices around an array, who speak when they are told to."""

    def __init__(self, n_talkers: int = 3) -> None:
        self.n_talkers = n_talkers

    def image(self, talker: int, start: int) -> torch.Tensor:
        """What the mics hear ``(mics, window)`` of a talker in the window from `start` on."""
        parts = range(start // HOP, start // HOP + WINDOW // HOP)
        dry = torch.cat([self._said(talker, part) for part in parts])
        return arriving(dry, circle(N_MICS), AZIMUTHS[talker]).float()

    def _said(self, talker: int, part: int) -> torch.Tensor:
        g = torch.Generator().manual_seed(100 * talker + part)
        white = torch.randn(HOP, generator=g, dtype=torch.float64)
        freqs = torch.fft.rfftfreq(HOP, 1 / SAMPLE_RATE)
        shape = 0.1 + torch.exp(-((freqs - FORMANTS_HZ[talker]) ** 2) / 400**2)
        return torch.fft.irfft(torch.fft.rfft(white) * shape, HOP)

    def piece(self, number: int, talkers: list[int], leak: float = 0.1) -> Piece:
        """A window in which these speak, separated but for a leak, in this order."""
        start = number * HOP
        images = torch.stack([self.image(k, start) for k in talkers])
        x = images.sum(0) + 0.01 * torch.randn(N_MICS, WINDOW, generator=torch.manual_seed(number))
        streams = (1 - leak) * images[:, 0] + leak * x[0]
        voices = heard_voices(x, streams, STFT(LONG), SAMPLE_RATE)
        return Piece(start, streams.numpy(), voices)


def named(pieces: list[Piece], n_talkers: int | None = None) -> list[list[int]]:
    """Final talker of each stream in each window."""
    tracker = Tracker()
    for piece in pieces:
        tracker.add(piece)
    known = tracker.settled(n_talkers)
    numbers = [known.add(piece) for piece in pieces]
    talker_of, voices = known.finish()
    assert len(voices.seconds) == max(talker_of) + 1
    return [[NOBODY if n == NOBODY else talker_of[n] for n in row] for row in numbers]


def tracked(plan: list[list[int]], n_talkers: int | None = None, leak: float = 0.1):
    """The same of windows in which those of a plan talk."""
    room = Room()
    return named([room.piece(n, talkers, leak) for n, talkers in enumerate(plan)], n_talkers)


def test_permutations_are_followed():
    plan = [[0, 1], [1, 0], [0, 1], [0, 1], [1, 0], [1, 0]]
    assert tracked(plan) == plan


def test_who_was_silent_for_long_comes_back_in_the_same_stream():
    plan = [[0], [0, 1], [1, 0], *[[1]] * 12, [2], [2, 1], [2], [0], [0, 2], [1], [1, 0]]
    assert tracked(plan) == plan


def test_the_memory_and_not_only_the_overlap_knows_him():
    """Every change is a jump: no window shares a talker with the one before."""
    plan = [[0], [1], [2], [1], [0], [2], [0], [1]]
    assert tracked(plan) == plan


def test_no_more_talkers_than_told():
    found = tracked([[0], [1], [2], [0], [1], [2]], n_talkers=2)
    assert {k for row in found for k in row} - {NOBODY} == {0, 1}


def test_who_is_told_apart_by_number_stays_apart_though_alike(monkeypatch):
    monkeypatch.setattr("separation.tracking._SAME", -2.0)
    plan = [[0], [1], [0], [1]]
    assert tracked(plan, n_talkers=2) == plan
    assert {k for row in tracked(plan) for k in row} <= {0, NOBODY}


def test_one_talker_whom_a_window_splits_is_still_one():
    assert tracked([[0, 0] if n % 2 else [0] for n in range(6)], leak=0) == [[0], [0, 0]] * 3


def test_silence_is_nobody_and_a_faint_noise_is_no_talker():
    room = Room()
    pieces = [room.piece(number, [0]) for number in range(6)]
    for number, level in ((3, 1e-4), (4, 0.0)):
        x = level * torch.randn(N_MICS, WINDOW, generator=torch.manual_seed(1))
        voices = heard_voices(x, x[:1], STFT(LONG), SAMPLE_RATE)
        pieces[number] = Piece(pieces[number].start, x[:1].numpy(), voices)
    assert named(pieces) == [[0], [0], [0], [NOBODY], [NOBODY], [0]]


def test_noise_in_a_stream_of_its_own_is_nobody():
    """A stream of what comes from everywhere, in every window, loud enough for a soft talker's."""
    room, pieces = Room(), []
    for number, talkers in enumerate([[0], [1, 0], [1], [0], [0, 1], [1]]):
        piece = room.piece(number, talkers, leak=0.03)
        noise = 0.3 * torch.randn(N_MICS, WINDOW, generator=torch.manual_seed(50 + number))
        noise *= float(np.abs(piece.streams).std())
        images = torch.stack([room.image(k, number * HOP) for k in talkers])
        streams = torch.cat([torch.from_numpy(piece.streams), noise[:1]])
        voices = heard_voices(images.sum(0) + noise, streams, STFT(LONG), SAMPLE_RATE)
        pieces.append(Piece(number * HOP, streams.numpy(), voices))
        clear = clarity(voices)
        assert clear[-1] < 0.8 * clear[0]
    assert named(pieces) == [[0, -1], [1, 0, -1], [1, -1], [0, -1], [0, 1, -1], [1, -1]]


def test_what_is_never_most_of_a_window_is_nobody_however_clear():
    """And it does not make a nobody of a talker further off, who is less clear."""
    room, rng, pieces = Room(), np.random.default_rng(3), []
    for number, talkers in enumerate([[0], [1], [0], [1, 0], [1], [0]]):
        piece = room.piece(number, talkers)
        far = np.array([0.7 if k == 1 else 1.0 for k in talkers], np.float32)
        clear = piece.voices.coherence * far[:, None, None]
        left = piece.voices.some([0])._replace(share=np.full(1, 0.1, np.float32))
        if not number:
            angles = rng.uniform(0, 2 * np.pi, clear[:1].shape)
            strange = np.exp(1j * angles).astype(np.complex64)
        both = zip(
            piece.voices._replace(coherence=clear), left._replace(coherence=strange), strict=True
        )
        streams = np.concatenate([piece.streams, 0.4 * piece.streams[:1, ::-1]])
        pieces.append(Piece(piece.start, streams, Voices(*map(np.concatenate, both))))
    assert named(pieces) == [[0, -1], [1, -1], [0, -1], [1, 0, -1], [1, -1], [0, -1]]
    assert {k for row in named(pieces, 3) for k in row} == {0, 1, 2}  # unless there are three


@pytest.mark.parametrize(("share", "n_talkers"), [(0.68, 2), (0.98, 1)])
def test_two_who_are_half_alike_are_two_and_two_who_are_nearly_the_same_are_one(share, n_talkers):
    both = Room().piece(0, [0, 1]).voices
    one, other = both.coherence
    between = share * one + np.sqrt(1 - share**2) * other
    memory = both._replace(coherence=np.stack([one, between]), seconds=np.full(2, 9, np.float32))
    alike = likeness(memory, memory)[0, 1]
    assert 0.5 < alike < 0.62 if n_talkers == 2 else alike > 0.7
    assert len(Tracker(memory, [9.0, 9.0], [0, 1]).settled().weight) == n_talkers


def test_what_is_remembered_does_not_grow_with_the_meeting(monkeypatch):
    monkeypatch.setattr("separation.tracking._MOST", 4)
    rng, tracker = np.random.default_rng(0), Tracker()
    piece = Room().piece(0, [0])
    for number in range(40):
        spectrum = 20 * rng.standard_normal(piece.voices.spectrum_db.shape).astype(np.float32)
        coherence = rng.standard_normal(piece.voices.coherence.shape).astype(np.complex64)
        voices = piece.voices._replace(spectrum_db=spectrum, coherence=coherence)
        streams = rng.standard_normal(piece.streams.shape).astype(np.float32)
        tracker.add(Piece(number * HOP, streams, voices))
        assert len(tracker.memory.seconds) == len(tracker.weight) <= 4
    assert len(tracker.settled(2).weight) <= 2


def test_the_same_place_is_more_alike_than_another_and_one_mic_has_no_place():
    room = Room()
    a, b = room.piece(0, [0, 1]).voices, room.piece(5, [1, 0]).voices
    alike = likeness(a, b)
    assert min(alike[0, 1], alike[1, 0]) > 0.7 > 0.4 > max(alike[0, 0], alike[1, 1])
    mono = [v._replace(coherence=v.coherence[..., :1]) for v in (a, b)]
    by_voice = likeness(*mono)
    assert by_voice[0, 1] > by_voice[0, 0] and by_voice[1, 0] > by_voice[1, 1]


def test_windows_share_the_sound_of_who_goes_on():
    room = Room()
    same = shared_sound(room.piece(0, [0, 1]), room.piece(1, [1, 2, 0]))
    assert np.array_equal(same > 0.8, [[False, True], [False, False], [True, False]])


def test_no_streams_are_no_talkers():
    x = torch.zeros(N_MICS, WINDOW)
    empty = Piece(0, x[:0].numpy(), heard_voices(x, x[:0], STFT(LONG), SAMPLE_RATE))
    tracker = Tracker()
    assert tracker.add(empty) == [] and tracker.add(empty._replace(start=HOP)) == []
    assert tracker.finish() == ([], None)
    room = Room()
    assert tracker.add(room.piece(2, [0])) == [0]
    assert tracker.add(empty._replace(start=3 * HOP)) == []
    assert tracker.add(room.piece(4, [1, 0])) == [1, 0]
