"""The separation of files: a recording of any length in, a file a talker and who talks when out.

windows -> separator -> pieces on disk -> the same talkers in all of them -> streams -> segments
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from clearbeam.audio import Recording, output_subtype, resample
from clearbeam.files import alone_in
from clearbeam.ledger import fingerprint
from clearbeam.pieces import Pieces
from clearbeam.separate_live import separate_live
from clearbeam.talker_files import Talkers, azimuths, publish, write_talkers
from clearbeam.transcribe import Recogniser
from separation import Separator, SeparatorConfig
from separation.count import MOST_TALKERS
from separation.separate import model_files
from separation.tracking import NOBODY, Piece, Tracker
from separation.voices import Voices, heard_voices
from separation.windows import Sound, Window, joined, windows

if TYPE_CHECKING:
    from simulate.arrays import ArrayGeometry

SPATIAL = "spatial"  # no network: the spatial mixture model alone
SHIPPED, SHIPPED_CAUSAL = "separate", "separate-causal"
WHOLE_S = 20.0  # up to here a recording is separated in one piece
MOST_IN_MEETING = 8
PARTIAL = ".partial"
_FADE_S = 0.5
OnSeconds = Callable[[float], object]


@dataclass(frozen=True)
class Settings:
    """What a user may say about how to separate; `None` leaves it to be found out.

    window_s, hop_s: of the windows over a long recording; array: the geometry of the microphones,
    needed for directions only; reference_mic: whose view of the talkers is kept, from 0; streaming:
    as if it were live, from the past alone.
    """

    n_talkers: int | None = None
    window_s: float = 3.0
    hop_s: float = 1.5
    reference_mic: int = 0
    array: ArrayGeometry | None = None
    streaming: bool = False

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


def default_model(streaming: bool = False) -> str:
    """The shipped weights, or, in a tree without any, the spatial mixture model."""
    if streaming:
        return SHIPPED_CAUSAL
    try:
        model_files(SHIPPED)
    except ValueError:
        return SPATIAL
    return SHIPPED


def load_separator(model: str, device: str = "auto", beam: str = "wiener") -> Separator:
    """The separator of a shipped name, of a file, or without a network (`spatial`), on one thread.

    Raises ValueError for no such model, device or beam.
    """
    config = SeparatorConfig(beam=beam)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    if model == SPATIAL:
        return Separator(config=config)
    return Separator.from_pretrained(model, device, config)


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
        on_seconds: OnSeconds = lambda seconds: None,
    ) -> Talkers:
        """Separate `recording` into `folder`: talker1.flac, ..., segments.json and segments.rttm.

        The files have the rate and length of the recording, and appear when all are complete.
        Windows that are done are kept in `folder`/.partial until then, and the same call goes on
        from them. `on_seconds` hears how many more seconds are done. Memory holds a window, not
        the recording. Raises ValueError for settings that do not fit, a bad recording, and a folder
        that another process works in.
        """
        self.settings.check(recording)
        with alone_in(folder):
            pieces = Pieces(folder / PARTIAL, self.key(recording))
            try:
                way = self._live if self.settings.streaming else self._in_windows
                talkers = way(recording, pieces, on_seconds)
            except ValueError:
                shutil.rmtree(pieces.folder)
                raise
            talkers = publish(talkers, folder)
            shutil.rmtree(pieces.folder)
            return talkers

    def key(self, recording: Recording) -> str:
        """Changes with everything that the separated windows depend on."""
        asked = replace(self.settings, array=None), self.separator.config
        stats = [
            (str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in recording.paths
        ]
        facts = repr((self.model, asked, stats))
        weights = [] if self.model == SPATIAL else model_files(self.model)
        code = [Path(__file__).parents[1] / room for room in ("separation", "multichannel")]
        return fingerprint(facts, *weights, *code)

    def _in_windows(self, recording: Recording, pieces: Pieces, on_seconds: OnSeconds) -> Talkers:
        """Everything that is written, beside the pieces."""
        separator, settings = self.separator, self.settings
        _separate_windows(separator, recording, pieces, settings, on_seconds)
        numbers, talker_of, voices = _tracked(pieces, settings.n_talkers)
        rate = separator.sample_rate
        n_fade, talkers = round(_FADE_S * rate), range(max(talker_of, default=NOBODY) + 1)
        streams = (_stream(pieces, numbers, talker_of, k, n_fade) for k in talkers)
        where = None
        if voices is not None:
            where = azimuths(voices.coherence, separator.long, rate, settings.array)
        return write_talkers(streams, rate, recording, pieces.results, where, self.recogniser)

    def _live(self, recording: Recording, pieces: Pieces, on_seconds: OnSeconds) -> Talkers:
        """The same of a recording that is taken for live."""
        scratch = pieces.folder / "streams.f32"
        streams, where = separate_live(
            self.separator, recording, self.settings, scratch, on_seconds
        )
        rate = self.separator.sample_rate
        return write_talkers(streams, rate, recording, pieces.results, where, self.recogniser)


# ------------------------------------------------------------------------------- windows -> pieces


def _separate_windows(
    separator: Separator,
    recording: Recording,
    pieces: Pieces,
    settings: Settings,
    on_seconds: OnSeconds,
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
    n_windows = sum(1 for piece in pieces if tracker.add(piece) is not None)
    if n_windows > 1:
        known = tracker.settled(n_talkers)
        return [known.add(piece) for piece in pieces], *known.finish()
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
