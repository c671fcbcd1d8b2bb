"""The same talker in all windows of a meeting: by what windows share, by place, by voice.

Streams of neighbouring windows are compared where the windows overlap, and with what is remembered
of every talker so far, which silence does not wear off. Some who are first taken for two turn out
to be one as more is heard of them; they are made one at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from separation.voices import Voices, clarity, likeness
from separation.windows import Sound

NOBODY = -1
# What the same sound in both windows counts beside the likeness; less where all are known, as two
# who talk in turns may share a stream of one window.
_OVERLAP_SHARE, _OVERLAP_KNOWN = 1.0, 0.3
_NEW = 0.45  # who is less like everybody is somebody new
_NOBODY_KNOWN = 0.35  # or nobody, when all are known
_SAME = 0.65  # two who are more alike are one
_SPLIT = 0.5  # a stream too many is his whom it is more like
_KEPT = 0.99  # of what is remembered of a talker, a window in which he is heard
_MOST = 32  # talkers remembered at once
_SHORTEST_S = 1.5  # who is heard less is nobody by himself
_QUIETEST_DB = 25.0  # below the loudest talker; whatever is quieter is noise
_MOST_OF = 0.5  # a talker has, once at least, of the largest share that anybody has of a window
# Noise in a window: so far below its loudest stream, or half as far and less clear by this.
_LEFT_DB, _UNCLEAR = 12.0, 0.85
_UNCLEAR_AT_ALL = 0.7  # of what is usual in the meeting: who is less clear is noise
_FAINT = 0.3  # of the energy of the loudest in what windows share: less is little to go by


class Piece(NamedTuple):
    """Streams ``(talkers, n)`` of the window from sample ``start`` on, and their voices."""

    start: int
    streams: Sound
    voices: Voices


@dataclass
class Tracker:
    """Gives every stream of window after window a number, the same one for the same talker.

    `finish` says which numbers turned out to be one talker; `settled` knows from the beginning who
    was found in the end.
    """

    memory: Voices | None = None
    weight: list[float] = field(default_factory=list)  # behind what is remembered of each
    owner: list[int] = field(default_factory=list)  # number -> place in the memory
    knows_all: bool = False  # nobody new is met, and nothing more is remembered
    _heard: dict[int, None] = field(default_factory=dict)  # numbers, as they were first heard
    _before: tuple[Piece, list[int]] | None = None

    def add(self, piece: Piece) -> list[int]:
        """Numbers of the streams of the next window, `NOBODY` for one that says nothing."""
        scores, talks = self._scores(piece), talking(piece)
        scores[~talks] = -1  # like nobody
        n_streams, n_known = scores.shape
        new = np.full((n_streams, n_streams), _NOBODY_KNOWN if self.knows_all else _NEW)
        rows, columns = linear_sum_assignment(np.hstack([scores, new]), maximize=True)
        places = [NOBODY] * n_streams
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if column < n_known:
                places[row] = column
                self._remember(column, piece.voices.some([row]))
            elif self.knows_all and scores[row].max(initial=-1) > _SPLIT:
                places[row] = int(scores[row].argmax())  # a window has split him
            elif talks[row] and piece.voices.seconds[row] > 0 and not self.knows_all:
                places[row] = self._meet(piece.voices.some([row]))
        numbers = [NOBODY if p == NOBODY else self.owner.index(p) for p in places]
        self._before = (piece, numbers)
        self._heard |= dict.fromkeys(n for n in numbers if n != NOBODY)
        if self.memory is not None and len(self.weight) > _MOST:
            self._keep(np.arange(len(self.weight)) != self.memory.share.argmin())
        return numbers

    def _scores(self, piece: Piece) -> NDArray[np.float64]:
        """How well each stream goes on from each talker who is known ``(streams, talkers)``."""
        if self.memory is None:
            return np.zeros((len(piece.streams), 0))
        scores = likeness(piece.voices, self.memory)
        if self._before is not None:
            before, numbers = self._before
            same = shared_sound(before, piece)
            share = _OVERLAP_KNOWN if self.knows_all else _OVERLAP_SHARE
            for k, number in enumerate(numbers):
                if number != NOBODY and self.owner[number] != NOBODY:
                    scores[:, self.owner[number]] += share * same[:, k]
        return scores

    def _meet(self, voice: Voices) -> int:
        known = self.memory
        self.memory = voice if known is None else _joined(known, voice)
        self.weight.append(float(voice.seconds[0]))
        self.owner.append(len(self.weight) - 1)
        return len(self.weight) - 1

    def _remember(self, place: int, voice: Voices) -> None:
        assert self.memory is not None
        if self.knows_all:
            return
        added, before = float(voice.seconds[0]), _KEPT * self.weight[place]
        if added > 0:
            _mix(self.memory, place, voice, before, added)
            self.weight[place] = before + added

    def _merge(self, one: int, other: int) -> None:
        """Let two talkers be one, in the place of the first."""
        assert self.memory is not None
        low, high = sorted((one, other))
        _mix(self.memory, low, self.memory.some([high]), self.weight[low], self.weight[high])
        self.weight[low] += self.weight.pop(high)
        kept = np.arange(len(self.weight) + 1) != high
        self.memory = self.memory.some(kept)
        self.owner = [low if p == high else p - (p > high) for p in self.owner]

    def settled(self, n_talkers: int | None = None) -> Tracker:
        """A tracker for the same windows again, to whom all talkers are known.

        Who was like somebody else as long as little was heard of him is himself this time.

        Args:
            n_talkers: there are no more; found out when left out.
        """
        if self.memory is not None:
            self._leave_out_noise(n_talkers)
            self._make_one(n_talkers)
        return Tracker(self.memory, self.weight, list(range(len(self.weight))), knows_all=True)

    def finish(self) -> tuple[list[int], Voices | None]:
        """Which talker each number is, counted from 0 in the order they were first heard.

        Returns:
            ``talker_of[number]``, `NOBODY` for who was not heard; and what is known of the talkers.
        """
        if self.memory is None:
            return [], None
        places = list(dict.fromkeys(self.owner[n] for n in self._heard))
        talker_of = [places.index(p) if p in places else NOBODY for p in self.owner]
        return talker_of, self.memory.some(places)

    def _make_one(self, n_talkers: int | None) -> None:
        """Let those be one who were heard too little or are alike, or until few enough are left."""
        assert self.memory is not None
        while len(self.weight) > (n_talkers or 1):
            short = [p for p, s in enumerate(self.memory.seconds) if s < _SHORTEST_S]
            alike = likeness(self.memory, self.memory)
            np.fill_diagonal(alike, -np.inf)
            if short:
                pair = (short[0], int(alike[short[0]].argmax()))
            elif n_talkers or alike.max() > _SAME:
                pair = _most_alike(self.memory)
            else:
                break
            self._merge(*pair)

    def _leave_out_noise(self, n_talkers: int | None) -> None:
        """Forget who is far quieter than the loudest, never was most of what the mics heard, or
        comes from everywhere, but leave as many as told; his number is nobody's."""
        assert self.memory is not None
        voices, clear = self.memory, clarity(self.memory)
        heard = voices.level_db > voices.level_db.max() - _QUIETEST_DB
        heard &= voices.share >= _MOST_OF * voices.share[heard].max()
        usual = np.average(clear[heard], weights=voices.seconds[heard] + 1e-6)
        heard &= clear >= _UNCLEAR_AT_ALL * usual
        if n_talkers:
            heard[np.argsort(-voices.share, kind="stable")[:n_talkers]] = True
        self._keep(heard)

    def _keep(self, which: NDArray[np.bool_]) -> None:
        """Forget all but some places ``(talkers,)``; the numbers of the others are nobody's."""
        assert self.memory is not None
        places = np.append(np.where(which, np.cumsum(which) - 1, NOBODY), NOBODY)  # of NOBODY: last
        self.memory = self.memory.some(which)
        self.weight = [w for w, kept in zip(self.weight, which, strict=True) if kept]
        self.owner = [int(places[p]) for p in self.owner]


def talking(piece: Piece) -> NDArray[np.bool_]:
    """Which streams of a window are a talker's ``(streams,)``: the loudest, and those that are
    neither far weaker nor weaker and from everywhere."""
    energy = np.sum(np.square(piece.streams, dtype=float), axis=-1)
    if not len(energy):
        return np.zeros(0, bool)
    clear = clarity(piece.voices)
    below_db = 10 * np.log10((energy.max() + 1e-20) / (energy + 1e-20))
    unclear = clear < _UNCLEAR * clear[energy.argmax()]
    return below_db < np.where(unclear, _LEFT_DB / 2, _LEFT_DB)


def shared_sound(before: Piece, piece: Piece) -> NDArray[np.float64]:
    """How much of the streams is the same where two windows overlap ``(new streams, old ones)``.

    1 for equal ones. What another talker has left in the streams is far weaker than he is, and so
    counts for little, though it correlates with him and with what he left in the others.
    """
    n = before.start + before.streams.shape[-1] - piece.start
    old = before.streams[:, max(0, before.streams.shape[-1] - n) :].astype(float)
    new = piece.streams[:, :n].astype(float)
    energies = [np.sum(y**2, axis=-1) for y in (new, old)]
    least = _FAINT * max(e.max(initial=0.0) for e in energies) + 1e-20
    larger = np.maximum(np.maximum(energies[0][:, None], energies[1]), least)
    return np.asarray(new @ old.T / larger)


def _joined(a: Voices, b: Voices) -> Voices:
    return Voices(*(np.concatenate(pair) for pair in zip(a, b, strict=True)))


def _mix(memory: Voices, place: int, voice: Voices, before: float, added: float) -> None:
    """Let ``memory`` at a place become the mean of itself and a voice, by their weights."""
    share = added / max(before + added, 1e-9)
    for name in ("coherence", "spectrum_db", "level_db"):
        field = getattr(memory, name)
        field[place] += share * (getattr(voice, name)[0] - field[place])
    memory.seconds[place] += voice.seconds[0]
    memory.share[place] = max(memory.share[place], voice.share[0])


def _most_alike(memory: Voices) -> tuple[int, int]:
    alike = likeness(memory, memory)
    np.fill_diagonal(alike, -np.inf)
    one, other = np.unravel_index(int(alike.argmax()), alike.shape)
    return int(one), int(other)
