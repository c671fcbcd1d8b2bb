"""What the microphones hear of a meeting, a block at a time: an hour in the memory of a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from scipy import fft

from simulate.corpus import read_audio
from simulate.measured import stack_responses
from simulate.noise import decorrelated_noise, diffuse_noise
from simulate.responses import Responses, scene_responses
from simulate.scene import Scene
from simulate.sources import Source
from simulate.timeline import Segment
from simulate.turns import Turn

BLOCK_S = 10.0
_PEAK = 0.98
_CROSS_FADE_S = 0.1  # from one piece of a diffuse field to the next
_CUT_FADE_S = 0.01  # where only a part of an utterance is heard
_KEPT = 24  # recordings held in memory, for those that go on in the next block


@dataclass(frozen=True)
class Block:
    """A stretch of a meeting at its final level; mixture = image summed over talkers + noise.

    mixture, noise (mics, samples); image, early (talkers, mics, samples); dry (talkers, samples).
    """

    mixture: np.ndarray
    image: np.ndarray
    early: np.ndarray
    noise: np.ndarray
    dry: np.ndarray


def meeting_blocks(
    scene: Scene,
    *,
    early: bool = False,
    block_s: float = BLOCK_S,
    heard: Callable[[float], None] | None = None,
) -> Iterator[Block]:
    """Render a scene of any length in blocks of `block_s`; the same scene gives the same samples.

    Levels are those of `render`: the SNR over the whole meeting at microphone 0. They have to be
    known before the first block is given out, so everything is rendered twice, which costs less
    than keeping it. Only the guard against clipping is more careful: it adds up the peaks of the
    parts. early: whether early images are wanted; else there are none.
    heard: called with the share done, 0 to 1.
    Raises ValueError for a scene with something that is rendered in short clips only.
    """
    _check_plain(scene)
    responses = scene_responses(scene, scene.rng())
    if not early:
        responses = responses._replace(early=responses.early[:0])
    levels = _Levels(scene)
    for k, raw in enumerate(_raw_blocks(scene, responses, block_s)):
        levels.add(raw)
        if heard:
            heard(min(1.0, (k + 1) * block_s * scene.fs / scene.n_samples) / 2)
    gain, noise_gain = levels.gains()
    for k, raw in enumerate(_raw_blocks(scene, responses, block_s)):
        image, noise = gain * raw.image, gain * np.tensordot(noise_gain, raw.noises, 1)
        mixture = image.sum(axis=0) + noise
        yield Block(mixture, image, gain * raw.early, noise, gain * raw.dry)
        if heard:
            heard(min(1.0, (k + 1) * block_s * scene.fs / scene.n_samples) / 2 + 0.5)


@dataclass(frozen=True)
class _Raw:
    """A block before levels: dry (talkers, samples), the others (sources, mics, samples)."""

    dry: np.ndarray
    image: np.ndarray
    early: np.ndarray
    noises: np.ndarray


class _Levels:
    """Powers and peaks of the parts over the whole meeting, and the gains that follow."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        n_parts = 1 + len(scene.noises)
        self.products = np.zeros((n_parts, n_parts))  # between the parts at microphone 0
        self.peaks = np.zeros(n_parts)

    def add(self, raw: _Raw) -> None:
        parts = np.concatenate([raw.image.sum(axis=0)[None], raw.noises])
        self.products += parts[:, 0] @ parts[:, 0].T
        peaks = np.abs(parts).max(axis=(1, 2))
        # One talker may be louder than the sum of all, and so may an early image.
        peaks[0] = max(peaks[0], np.abs(raw.image).max(), np.abs(raw.early).max(initial=0.0))
        self.peaks = np.maximum(self.peaks, peaks)

    def gains(self) -> tuple[float, np.ndarray]:
        """The gain of everything, and that of each noise (noises,) before it."""
        scene, power = self.scene, self.products / self.scene.n_samples
        each = np.array([10 ** (n.level_db / 20) for n in scene.noises])
        each = each / np.sqrt(np.maximum(np.diag(power)[1:], 1e-30))
        noise_power = each @ power[1:, 1:] @ each
        each *= np.sqrt(power[0, 0] / max(noise_power, 1e-30)) * 10 ** (-scene.snr_db / 20)
        weights = np.concatenate([[1.0], each])
        gain = np.sqrt(10 ** (scene.level_dbfs / 10) / max(weights @ power @ weights, 1e-30))
        highest = max(float(weights @ self.peaks), 1e-12)
        return min(float(gain), _PEAK / highest), each


_RENDERED = {
    "seed", "index", "room_size_m", "rt60_s", "array", "origin_m", "rotation_deg", "mics_m",
    "talkers", "noises", "snr_db", "level_dbfs", "n_samples", "fs", "early_ms", "method",
    "kind", "position_m", "segments", "level_db", "speaker", "text", "facing", "field",
    "materials", "air_absorption", "scattering", "responses",
}  # fmt: skip


def _check_plain(scene: Scene) -> None:
    """Refuse what these blocks would leave out without a word."""
    for owner in (scene, *scene.talkers, *scene.noises):
        for name, field in type(owner).model_fields.items():
            if name not in _RENDERED and getattr(owner, name) != field.get_default():
                raise ValueError(f"expected a meeting without {name}, found it in the scene")


def _raw_blocks(scene: Scene, responses: Responses, block_s: float) -> Iterator[_Raw]:
    """The meeting from its beginning; every call gives the same samples."""
    # What rings on after a block must end in the next one.
    block = max(round(block_s * scene.fs), responses.image.shape[-1])
    read = lru_cache(maxsize=_KEPT)(_read)
    image = [_Convolver(h, block) for h in responses.image]
    early = [_Convolver(h, block) for h in responses.early]
    noises = _noise_fields(scene, responses.noise, block, read)
    for start in range(0, scene.n_samples, block):
        kept = min(block, scene.n_samples - start)
        dry = np.stack([_between(t.segments, start, block, scene.fs, read) for t in scene.talkers])
        yield _Raw(
            dry[:, :kept],
            _heard(image, dry)[..., :kept],
            _heard(early, dry)[..., :kept],
            np.stack([field(start)[:, :kept] for field in noises]),
        )


def _heard(rooms: list[_Convolver], dry: np.ndarray) -> np.ndarray:
    """(talkers, block) -> (talkers, mics, block), or (0, 1, block) for no rooms."""
    if not rooms:
        return np.zeros((0, 1, dry.shape[-1]))
    return np.stack([room(x) for room, x in zip(rooms, dry, strict=True)])


Read = Callable[[Segment, int], np.ndarray]
Field = Callable[[int], np.ndarray]
Spread = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # one channel to several


def _noise_fields(scene: Scene, responses: np.ndarray, block: int, read: Read) -> list[Field]:
    """For each noise what gives its block from the sample `start` on: (mics, block)."""
    rooms = iter(responses)
    fields: list[Field] = []
    for number, source in enumerate(scene.noises):
        if source.position_m is None and source.responses:
            everywhere = stack_responses([*source.responses], scene.fs)
            around = [_Convolver(h, block) for h in everywhere]
            copies = _Pieces(scene, number, block, read, partial(_copies, len(around)))
            fields.append(partial(_from_everywhere, around, copies))
        elif source.position_m is None:
            fields.append(_Pieces(scene, number, block, read, partial(_diffuse, scene, source)))
        else:
            fields.append(_placed(source, _Convolver(next(rooms), block), scene.fs, block, read))
    return fields


def _placed(source: Source, room: _Convolver, fs: int, block: int, read: Read) -> Field:
    return lambda start: room(_between(source.segments, start, block, fs, read))


def _from_everywhere(rooms: list[_Convolver], copies: Field, start: int) -> np.ndarray:
    """Copies that share no phase, each from a measured place of its own: (mics, block)."""
    parts = (room(x) for room, x in zip(rooms, copies(start), strict=True))
    return np.sum([*parts], axis=0)


def _copies(n_copies: int, one_channel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return decorrelated_noise(one_channel, n_copies, rng)


def _diffuse(
    scene: Scene, source: Source, one_channel: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    return diffuse_noise(one_channel, np.asarray(scene.mics_m), rng, scene.fs, source.field)


class _Convolver:
    """Convolution of block after block with one response (mics, taps), by overlap-add."""

    def __init__(self, response: np.ndarray, block: int) -> None:
        self.n_fft = fft.next_fast_len(block + response.shape[-1] - 1, real=True)
        self.H = fft.rfft(response.astype(np.float32), self.n_fft)
        self.tail = np.zeros((len(response), self.n_fft - block), np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(block,) -> (mics, block) float64, with what rings on from the blocks before."""
        if not x.any() and not self.tail.any():
            return np.zeros((len(self.tail), len(x)))
        y = fft.irfft(fft.rfft(x.astype(np.float32), self.n_fft) * self.H, self.n_fft)
        y[:, : self.tail.shape[-1]] += self.tail
        self.tail = np.zeros_like(self.tail)
        rest = y[:, len(x) :]
        self.tail[:, : rest.shape[-1]] = rest
        return y[:, : len(x)].astype(float)


class _Pieces:
    """A noise in pieces of phases of their own, which fade into each other at constant power."""

    def __init__(self, scene: Scene, number: int, block: int, read: Read, spread: Spread) -> None:
        self.scene, self.number, self.block, self.read = scene, number, block, read
        self.spread = spread
        self.fade = min(round(_CROSS_FADE_S * scene.fs), block)
        self.before: np.ndarray | None = None

    def __call__(self, start: int) -> np.ndarray:
        """What comes from the sample `start` on, the blocks in their order: (channels, block)."""
        scene, fade = self.scene, self.fade
        rng = np.random.default_rng([scene.seed, scene.index, 3, self.number, start])
        source = scene.noises[self.number]
        one = _between(source.segments, start, self.block + fade, scene.fs, self.read)
        if not one.any():
            # Digital silence cannot reach any SNR; a faint hiss can.
            one = 1e-4 * rng.standard_normal(len(one))
        piece = self.spread(one, rng).astype(float)
        angle = np.pi / 2 * (np.arange(fade) + 0.5) / fade
        if self.before is not None:
            piece[:, :fade] = piece[:, :fade] * np.sin(angle) + self.before
        self.before = piece[:, self.block :] * np.cos(angle)
        return piece[:, : self.block]


def _between(
    segments: Sequence[Segment], start: int, length: int, fs: int, read: Read
) -> np.ndarray:
    """The samples from `start` on of the clip that the segments make: (length,)."""
    out = np.zeros(length)
    for segment in segments:
        at = round(segment.at_s * fs) - start
        if at >= length or at + segment.seconds * fs + 2 <= 0:
            continue
        x = read(segment, fs)
        first, last = max(0, at), min(length, at + len(x))
        if first < last:
            out[first:last] += x[first - at : last - at]
    return out


def _read(segment: Segment, fs: int) -> np.ndarray:
    """A segment, whole; the end of a stretch that was cut short fades out."""
    x = read_audio(segment.path, fs, segment.start_s, segment.seconds)
    if isinstance(segment, Turn) and segment.backchannel:
        fade = min(round(_CUT_FADE_S * fs), len(x))
        x = x.copy()
        x[len(x) - fade :] *= np.linspace(1, 0, fade)
    return x
