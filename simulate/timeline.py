"""What a source plays when: stretches of recordings laid end to end until the clip is full."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from simulate.config import Frozen
from simulate.corpus import Corpus, Utterance, read_audio
from simulate.quantity import draw

_SHORTEST_S = 0.3


class Segment(Frozen):
    """`seconds` of the recording `path` from `start_s` on, heard from `at_s` in the clip on."""

    path: str
    start_s: float
    seconds: float
    at_s: float


def speech_segments(
    corpus: Corpus,
    duration_s: float,
    silence_s: object,
    rng: np.random.Generator,
    without: Collection[str] = (),
) -> tuple[list[Segment], Utterance, str]:
    """Fill a clip with one speaker: (segments, the first utterance, what is said whole or in part).

    A long utterance is cut at random. A short one is followed, after a silence, by others of its
    speaker; where the speaker is unknown or has no other, it stands alone at a random place.
    without: speakers who are taken, as far as the corpus has others.
    """
    first = corpus.draw(rng, without)
    if first.seconds >= duration_s:
        start_s = rng.uniform(0, first.seconds - duration_s)
        return [_segment(first, start_s, duration_s, 0.0)], first, first.text
    others = [u for u in corpus.said_by(first.speaker) if u is not first]
    if not others:
        at_s = rng.uniform(0, duration_s - first.seconds)
        return [_segment(first, 0.0, first.seconds, at_s)], first, first.text
    segments, texts, at_s = [], [], 0.0
    queue = [first, *(others[i] for i in rng.permutation(len(others)))]
    for utterance in queue:
        if duration_s - at_s < _SHORTEST_S:
            break
        seconds = min(utterance.seconds, duration_s - at_s)
        segments.append(_segment(utterance, 0.0, seconds, at_s))
        texts.append(utterance.text)
        at_s += seconds + max(0.0, draw(silence_s, rng))
    return segments, first, " ".join(t for t in texts if t)


def noise_segments(
    corpus: Sequence[Utterance], duration_s: float, rng: np.random.Generator
) -> list[Segment]:
    """Fill a clip with one noise recording from a random place, beginning again where it ends."""
    noise = corpus[int(rng.integers(len(corpus)))]
    start_s = rng.uniform(0, noise.seconds)
    if noise.seconds >= duration_s:
        start_s = rng.uniform(0, noise.seconds - duration_s)
    segments, at_s = [], 0.0
    while duration_s - at_s > 1e-3:
        seconds = min(noise.seconds - start_s, duration_s - at_s)
        if seconds > 1e-3:
            segments.append(_segment(noise, start_s, seconds, at_s))
        at_s, start_s = at_s + max(seconds, 1e-3), 0.0
    return segments


def play(segments: Sequence[Segment], n_samples: int, fs: int) -> np.ndarray:
    """The clip that the segments make: (samples,) float64."""
    clip = np.zeros(n_samples)
    for segment in segments:
        x = read_audio(segment.path, fs, segment.start_s, segment.seconds)
        at = min(round(segment.at_s * fs), n_samples)
        clip[at : at + len(x)] += x[: n_samples - at]
    return clip


def _segment(utterance: Utterance, start_s: float, seconds: float, at_s: float) -> Segment:
    return Segment(
        path=utterance.path,
        start_s=round(float(start_s), 4),
        seconds=round(float(seconds), 4),
        at_s=round(float(at_s), 4),
    )
