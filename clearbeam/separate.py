"""The separation of files: a recording of any length in, a file a talker and who talks when out.

windows -> separator -> pieces on disk -> the same talkers in all of them -> streams -> segments
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from clearbeam.audio import Block, Recording, first, output_subtype, resample, write_audio
from clearbeam.files import make_folder, remove_empty
from clearbeam.ledger import fingerprint
from clearbeam.pieces import Pieces
from clearbeam.transcribe import Recogniser, with_words
from multichannel.direction import srp_phat
from separation import Separator
from separation.activity import Levels, spoken
from separation.count import MOST_TALKERS
from separation.separate import model_files
from separation.tracking import NOBODY, Piece, Tracker
from separation.voices import Voices, heard_voices, space_hz
from separation.windows import Sound, Window, joined, windows
from simulate.meeting_text import Said, rttm, seglst

if TYPE_CHECKING:
    from simulate.arrays import ArrayGeometry

SPATIAL = "spatial"  # no network: the spatial mixture model alone
SHIPPED = "separate"
WHOLE_S = 20.0  # up to here a recording is separated in one piece
MOST_IN_MEETING = 8
PARTIAL = ".partial"
_FADE_S = 0.5


@dataclass(frozen=True)
class Settings:
    """What a user may say about how to separate; `None` leaves it to be found out.

    window_s, hop_s: of the windows over a long recording; array: the geometry of the microphones,
    needed for directions only; reference_mic: whose view of the talkers is kept, from 0.
    """

    n_talkers: int | None = None
    window_s: float = 3.0
    hop_s: float = 1.5
    reference_mic: int = 0
    array: ArrayGeometry | None = None

    def check(self, recording: Recording) -> None:
        """Raise ValueError where these settings do not fit a recording."""
        n_mics, array = recording.n_mics, self.array
        if array is not None and array.n_mics != n_mics:
            raise ValueError(
                f"expected {array.n_mics} channels for the array {array.name}, found {n_mics}"
            )
        if not 0 <= self.reference_mic < n_mics:
            raise ValueError(
                f"expected a reference mic from 0 to {n_mics - 1}, found {self.reference_mic}"
            )
        if not 0 < self.hop_s < self.window_s <= WHOLE_S:
            raise ValueError(
                f"expected a hop shorter than the window, and a window of at most {WHOLE_S:g} s, "
                f"found a hop of {self.hop_s:g} s and a window of {self.window_s:g} s"
            )
        short = recording.seconds is not None and recording.seconds <= WHOLE_S
        most = MOST_TALKERS if short else MOST_IN_MEETING
        if self.n_talkers is not None and not 1 <= self.n_talkers <= most:
            raise ValueError(f"expected 1 to {most} talkers, found {self.n_talkers}")
        output_subtype(Path("talker.flac"), recording.sample_rate, recording.subtype)


class Talkers(NamedTuple):
    """What came out: a file a talker, what each said when, and where from, where that is known."""

    files: list[Path]
    segments: list[Said]
    azimuths_deg: list[float] | None


def default_model() -> str:
    """The shipped weights, or, in a tree without any, the spatial mixture model."""
    try:
        model_files(SHIPPED)
    except ValueError:
        return SPATIAL
    return SHIPPED


def load_separator(model: str, device: str = "auto") -> Separator:
    """The separator of a shipped name, of a file, or without a network (`spatial`), on one thread.

    Raises ValueError for no such model or device.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    return Separator() if model == SPATIAL else Separator.from_pretrained(model, device)


@dataclass(frozen=True)
class Job:
    """How recordings are separated: by what, as is asked for, and who writes down what is said."""

    separator: Separator
    model: str
    settings: Settings
    recogniser: Recogniser | None = None

    def run(
        self,
        recording: Recording,
        folder: Path,
        on_seconds: Callable[[float], object] = lambda seconds: None,
    ) -> Talkers:
        """Separate `recording` into `folder`: talker1.flac, ..., segments.json and segments.rttm.

        The files have the rate and length of the recording, and appear when all are complete.
        Windows that are done are kept in `folder`/.partial until then, and the same call goes on
        from them. `on_seconds` hears how many more seconds are done. Memory holds a window, not
        the recording. Raises ValueError for settings that do not fit and a bad recording.
        """
        self.settings.check(recording)
        made = make_folder(folder)
        pieces = Pieces(folder / PARTIAL, self.key(recording))
        try:
            _separate_windows(self.separator, recording, pieces, self.settings, on_seconds)
            talkers = self._results(recording, pieces)
        except ValueError:
            shutil.rmtree(pieces.folder)
            remove_empty(made)
            raise
        files = _publish([*talkers.files, *pieces.results.glob("segments.*")], folder)
        shutil.rmtree(pieces.folder)
        return talkers._replace(files=files[: len(talkers.files)])

    def key(self, recording: Recording) -> str:
        """Changes with everything that the separated windows depend on."""
        asked = (self.settings.n_talkers, self.settings.window_s, self.settings.hop_s)
        stats = [
            (str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in recording.paths
        ]
        facts = repr((self.model, asked, self.settings.reference_mic, stats))
        weights = [] if self.model == SPATIAL else model_files(self.model)
        code = [Path(__file__).parents[1] / room for room in ("separation", "multichannel")]
        return fingerprint(facts, *weights, *code)

    def _results(self, recording: Recording, pieces: Pieces) -> Talkers:
        """Everything that is written, beside the pieces."""
        numbers, talker_of, voices = _tracked(pieces, self.settings.n_talkers)
        shutil.rmtree(pieces.results, ignore_errors=True)
        rate, levels, files = self.separator.sample_rate, [], []
        for k in range(max(talker_of, default=NOBODY) + 1):
            level = Levels(rate)
            stream = _stream(pieces, numbers, talker_of, k, round(_FADE_S * rate))
            files.append(pieces.results / f"talker{k + 1}.flac")
            _write_stream(files[-1], level.of(stream), rate, recording)
            levels.append(level.db())
        if not files:
            raise ValueError("expected a mic with finite samples, found none")
        azimuths = _azimuths(voices, self.separator, self.settings.array)
        segments = _segments(spoken(np.stack(levels)), azimuths)
        if self.recogniser is not None:
            segments = with_words(segments, {f.stem: f for f in files}, self.recogniser)
        session = "_".join(recording.paths[0].stem.split())
        for name, text in (("json", seglst(segments, session)), ("rttm", rttm(segments, session))):
            (pieces.results / f"segments.{name}").write_text(text, encoding="utf-8")
        return Talkers(files, segments, azimuths)


# ------------------------------------------------------------------------------- windows -> pieces


def _separate_windows(
    separator: Separator,
    recording: Recording,
    pieces: Pieces,
    settings: Settings,
    on_seconds: Callable[[float], object],
) -> None:
    """Separate every window that is not there yet; each warning is given once."""
    rate = separator.sample_rate
    heard = resample(recording.blocks(), recording.sample_rate, rate)
    sizes = (round(s * rate) for s in (settings.window_s, settings.hop_s, WHOLE_S))
    said: set[str] = set()
    done = 0
    for number, window in enumerate(windows(heard, *sizes)):
        if not pieces.has(number):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                pieces.write(number, separate_window(separator, window, settings))
            for text in dict.fromkeys(str(w.message) for w in caught):
                if text not in said:
                    warnings.warn(text, stacklevel=2)
                said.add(text)
        end = window.start + window.x.shape[1]
        on_seconds((end - done) / rate)
        done = end


def separate_window(separator: Separator, window: Window, settings: Settings) -> Piece:
    """The streams of a window and their voices; none where no mic says anything."""
    x = torch.from_numpy(window.x)
    if not torch.isfinite(x).all(-1).any():
        streams = x.new_zeros(0, x.shape[1])
    else:
        told = settings.n_talkers if window.whole or separator.net is None else None
        told = None if told is None else min(told, MOST_TALKERS)
        streams = separator(x, told, reference_mic=settings.reference_mic)
    voices = heard_voices(x.to(streams), streams, separator.long, separator.sample_rate)
    return Piece(window.start, streams.cpu().numpy(), voices)


# ----------------------------------------------------------------------------- pieces -> streams


def _tracked(
    pieces: Pieces, n_talkers: int | None
) -> tuple[list[list[int]], list[int], Voices | None]:
    """Numbers of the streams of each window, whose they are, and the voices of the talkers."""
    tracker = Tracker()
    numbers = [tracker.add(piece) for piece in pieces]
    if len(numbers) > 1:
        return numbers, *tracker.finish(n_talkers)
    voices = pieces.read(0).voices
    own = list(range(len(voices.seconds)))
    return [own], own, voices


def _stream(
    pieces: Pieces, numbers: Sequence[Sequence[int]], talker_of: Sequence[int], k: int, n_fade: int
) -> Iterator[Sound]:
    """The stream of talker `k`, in blocks (n,): the sum of all that is his."""

    def his() -> Iterator[tuple[int, Sound]]:
        for piece, row in zip(pieces, numbers, strict=True):
            mine = [number != NOBODY and talker_of[number] == k for number in row]
            yield piece.start, piece.streams[mine].sum(0)

    return joined(his(), n_fade)


def _write_stream(path: Path, stream: Iterator[Sound], rate: int, recording: Recording) -> None:
    blocks: Iterator[Block] = (block[None] for block in stream)
    back = (block[0] for block in resample(blocks, rate, recording.sample_rate))
    subtype = output_subtype(path, recording.sample_rate, recording.subtype)
    kept = first(back, lambda: recording.n_samples)
    write_audio(path, kept, recording.sample_rate, subtype)


# ---------------------------------------------------------------------------- streams -> segments


def _names(n_talkers: int) -> list[str]:
    return [f"talker{k}" for k in range(1, n_talkers + 1)]


def _azimuths(
    voices: Voices | None, separator: Separator, array: ArrayGeometry | None
) -> list[float] | None:
    """Where the talkers are, in degrees; None without a geometry, or with one mic."""
    if voices is None or array is None or array.n_mics < 2:
        return None
    X = torch.from_numpy(voices.coherence).transpose(-1, -2)[..., None]
    freqs = space_hz(separator.long, separator.sample_rate).cpu()
    found = srp_phat(X, torch.from_numpy(array.as_array()), freqs)
    return [float(a) for a in found.azimuth_deg]


def _segments(
    stretches: Sequence[Sequence[tuple[float, float]]], azimuths: Sequence[float] | None
) -> list[Said]:
    """Who talks when, by their beginnings."""
    names = _names(len(stretches))
    facts = [{} if azimuths is None else {"azimuth_deg": azimuths[k]} for k in range(len(names))]
    segments = [
        Said(names[k], start_s, end_s, facts=facts[k])
        for k, own in enumerate(stretches)
        for start_s, end_s in own
    ]
    return sorted(segments, key=lambda said: (said.start_s, said.speaker))


def _publish(files: Sequence[Path], folder: Path) -> list[Path]:
    """Move files to where they belong, in place of older ones."""
    for old in folder.glob("talker*.flac"):
        old.unlink()
    return [file.replace(folder / file.name) for file in files]
