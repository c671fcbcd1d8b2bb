"""Who speaks when in a meeting: a plan of utterances with a wanted share of overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from simulate.config import Frozen
from simulate.corpus import Utterance
from simulate.quantity import Quantity, Uniform, bounds, draw
from simulate.timeline import Segment

MAX_OVERLAP_RATIO = 0.4


class BackchannelConfig(Frozen):
    """Short words ("mhm") of a listener: how often an utterance gets one, and its length."""

    probability: float = Field(0.2, ge=0, le=1)
    seconds: Quantity = Uniform(uniform=(0.3, 1.0))


class TurnConfig(Frozen):
    """How people take turns; one draw of a quantity for each event.

    overlap_ratio: time at which two or more speak, over the time at which anybody does; 0 to 0.4.
    overlap_s: the shortest overlap worth having when the talker changes. pause_s: silence where
    nobody interrupts. hold: how often a talker goes on after a pause in place of another.
    """

    overlap_ratio: Quantity = 0.15
    overlap_s: Quantity = Uniform(uniform=(0.3, 2))
    pause_s: Quantity = Uniform(uniform=(0.1, 1.2))
    hold: float = Field(0.25, ge=0, le=0.9)
    backchannels: BackchannelConfig = BackchannelConfig()

    @model_validator(mode="after")
    def _sensible(self) -> TurnConfig:
        low, high = bounds(self.overlap_ratio)
        if low < 0 or high > MAX_OVERLAP_RATIO:
            raise ValueError(
                f"expected overlap_ratio from 0 to {MAX_OVERLAP_RATIO}, found {low:g} to {high:g}"
            )
        if bounds(self.pause_s)[0] < 0 or bounds(self.overlap_s)[0] < 0:
            raise ValueError("expected pause_s and overlap_s of at least 0, found less")
        if not bounds(self.backchannels.seconds)[0] > 0:
            raise ValueError("expected backchannels.seconds above 0, found less")
        return self


class Turn(Segment):
    """A stretch of one talker (counted from 0); `text` is "" where only a part is heard."""

    talker: int
    text: str = ""
    backchannel: bool = False

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.at_s + self.seconds


def plan_turns(
    material: Sequence[Sequence[Utterance]],
    config: TurnConfig,
    duration_s: float,
    overlap_ratio: float,
    rng: np.random.Generator,
) -> list[Turn]:
    """Turns that fill a meeting of `duration_s`, by their beginnings.

    material: the utterances of each talker, heard in random order and whole; all of a talker's are
    heard before one comes again. At most two speak at once, and nobody with himself. The overlap
    that is owed grows as people speak; the first change of talker at which it exceeds a drawn
    length pays it all, as far as the two utterances reach. So the ratio is kept whatever the
    utterances are like, and there are both overlaps and pauses. Backchannels are overlap too, and
    come out of the same ratio: with a ratio of 0 there are none.
    Raises ValueError for fewer than two talkers, one without material, or utterances that do not
    fit into the meeting.
    """
    if len(material) < 2 or not all(material):
        raise ValueError(f"expected material of at least 2 talkers, found {len(material)}")
    supply = [_endless(utterances, rng) for utterances in material]
    opening = rng.permutation(len(material)).tolist()  # everybody speaks once before it is free
    floor = _Floor(draw(config.pause_s, rng))
    turns: list[Turn] = []
    while True:
        pause_s, least_s = draw(config.pause_s, rng), draw(config.overlap_s, rng)
        before = turns[-1].talker if turns else None
        # Who goes on alone puts the overlap off; while some is owed, the talker changes.
        hold = config.hold if floor.debt_s(overlap_ratio) <= least_s else 0.0
        talker = opening.pop() if opening else _next_talker(before, len(material), hold, rng)
        utterance = next(supply[talker])
        owed_s = floor.debt_s(overlap_ratio, utterance.seconds)
        if before in (None, talker) or owed_s <= least_s:
            at_s = floor.end_s + pause_s
        else:
            at_s = floor.end_s - floor.reach_s(owed_s, utterance.seconds)
        if at_s + utterance.seconds > duration_s:
            break
        turns.append(_turn(talker, utterance, at_s, utterance.seconds))
        floor.speak(turns[-1])
        aside = _backchannel(floor, talker, material, config.backchannels, overlap_ratio, rng)
        if aside is not None:
            floor.listen(aside)
            # Before it in the list, so that the last turn is always that of the floor's owner.
            turns.insert(-1, aside)
    if not turns:
        raise ValueError(f"expected utterances shorter than {duration_s:g} s, found a longer one")
    return sorted(turns, key=lambda turn: (turn.at_s, turn.talker))


def overlap_ratio(turns: Iterable[Segment]) -> float:
    """Time at which two or more speak, over the time at which anybody does; 0 for no speech."""
    edges = sorted(
        edge for t in turns for edge in ((t.at_s, 1), (t.at_s + t.seconds, -1)) if t.seconds > 0
    )
    anybody = several = 0.0
    speaking = 0
    since = 0.0
    for at_s, step in edges:
        anybody += (at_s - since) * (speaking >= 1)
        several += (at_s - since) * (speaking >= 2)
        speaking, since = speaking + step, at_s
    return several / anybody if anybody else 0.0


@dataclass
class _Floor:
    """How far the meeting has come.

    end_s: when the last utterance ends; alone_s: from when on its talker speaks alone, which is
    where others may come in; anybody_s, several_s: speech and overlap so far.
    """

    end_s: float
    alone_s: float = 0.0
    anybody_s: float = 0.0
    several_s: float = 0.0

    def debt_s(self, ratio: float, next_s: float = 0.0) -> float:
        """Overlap that would bring the ratio about if the next `next_s` of speech began with it.

        With an overlap o, (several + o) / (anybody + next - o) = ratio; solved for o.
        """
        return (ratio * (self.anybody_s + next_s) - self.several_s) / (1 + ratio)

    def reach_s(self, owed_s: float, next_s: float) -> float:
        """As much of the overlap owed as the two utterances allow."""
        return max(0.0, min(owed_s, next_s, self.end_s - self.alone_s))

    def speak(self, turn: Turn) -> None:
        overlap_s = max(0.0, self.end_s - turn.at_s)
        self.anybody_s += turn.seconds - overlap_s
        self.several_s += overlap_s
        self.alone_s = max(self.end_s, turn.at_s)
        self.end_s = turn.end_s

    def listen(self, aside: Turn) -> None:
        self.several_s += aside.seconds
        self.alone_s = aside.end_s


def _backchannel(
    floor: _Floor,
    speaker: int,
    material: Sequence[Sequence[Utterance]],
    config: BackchannelConfig,
    ratio: float,
    rng: np.random.Generator,
) -> Turn | None:
    """A short word of somebody else while `speaker` is alone, if the ratio has room for it.

    A short utterance of the corpus where there is one, else the beginning of another.
    """
    wanted, seconds = rng.random() < config.probability, draw(config.seconds, rng)
    listeners = [k for k in range(len(material)) if k != speaker]
    listener = listeners[int(rng.integers(len(listeners)))]
    low, high = bounds(config.seconds)
    short = [u for u in material[listener] if low <= u.seconds <= high]
    choices = short or material[listener]
    utterance = choices[int(rng.integers(len(choices)))]
    seconds = utterance.seconds if short else min(seconds, utterance.seconds)
    # In the first half, so that the end is left for the next talker to come in.
    latest_s = (floor.alone_s + floor.end_s) / 2 - seconds
    owed_s = ratio * floor.anybody_s - floor.several_s
    if not wanted or latest_s < floor.alone_s or owed_s < seconds:
        return None
    at_s = rng.uniform(floor.alone_s, latest_s)
    return _turn(listener, utterance, at_s, seconds, backchannel=True)


def _next_talker(before: int | None, n_talkers: int, hold: float, rng: np.random.Generator) -> int:
    """The one who spoke before, with probability `hold`, or anybody else."""
    changes = rng.random() >= hold
    return ((before or 0) + (int(rng.integers(1, n_talkers)) if changes else 0)) % n_talkers


def _endless(utterances: Sequence[Utterance], rng: np.random.Generator) -> Iterator[Utterance]:
    """All of them in random order, again and again."""
    while True:
        yield from (utterances[i] for i in rng.permutation(len(utterances)))


def _turn(
    talker: int, utterance: Utterance, at_s: float, seconds: float, backchannel: bool = False
) -> Turn:
    whole = seconds >= utterance.seconds
    return Turn(
        path=utterance.path,
        start_s=0.0,
        seconds=round(float(seconds), 4),
        at_s=round(float(at_s), 4),
        talker=talker,
        text=utterance.text if whole else "",
        backchannel=backchannel,
    )
