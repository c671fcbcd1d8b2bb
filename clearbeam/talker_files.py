"""What becomes of streams: a file a talker, who talks when, where from, and what is said."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from clearbeam.audio import Block, Recording, first, output_subtype, resample, write_audio
from clearbeam.transcribe import Recogniser, with_words
from multichannel.direction import srp_phat
from multichannel.stft import STFT
from separation.activity import Levels, spoken
from separation.voices import space_hz
from separation.windows import Sound
from simulate.meeting_text import Said, rttm, seglst

if TYPE_CHECKING:
    from simulate.arrays import ArrayGeometry


class Talkers(NamedTuple):
    """What came out: a file a talker, what each said when, and where from, where that is known."""

    files: list[Path]
    segments: list[Said]
    azimuths_deg: list[float] | None


def write_talkers(
    streams: Iterable[Iterator[Sound]],
    rate: int,
    recording: Recording,
    folder: Path,
    azimuths_deg: list[float] | None = None,
    recogniser: Recogniser | None = None,
) -> Talkers:
    """Write talker1.flac, ..., segments.json and segments.rttm into a folder that is made anew.

    Args:
        streams: of each talker his blocks (n,), one stream after the other.
        rate: of the streams in Hz; the files have that of the recording, and its length.
        azimuths_deg: of each talker.

    Raises ValueError where there is nobody.
    """
    shutil.rmtree(folder, ignore_errors=True)
    files, levels = [], []
    for k, stream in enumerate(streams, 1):
        level = Levels(rate)
        files.append(folder / f"talker{k}.flac")
        _write_stream(files[-1], level.of(stream), rate, recording)
        levels.append(level.db())
    if not files:
        raise ValueError("expected a mic with finite samples, found none")
    segments = _segments(spoken(np.stack(levels)), azimuths_deg)
    if recogniser is not None:
        segments = with_words(segments, {f.stem: f for f in files}, recogniser)
    session = "_".join(recording.paths[0].stem.split())
    for name, text in (("json", seglst(segments, session)), ("rttm", rttm(segments, session))):
        (folder / f"segments.{name}").write_text(text, encoding="utf-8")
    return Talkers(files, segments, azimuths_deg)


def publish(talkers: Talkers, folder: Path) -> Talkers:
    """Move the files to where they belong, in place of older ones.

    Who talks when goes last, because it says that all is there.
    """
    for old in folder.glob("talker*.flac"):
        old.unlink()
    made = talkers.files[0].parent
    files = [file.replace(folder / file.name) for file in talkers.files]
    for name in ("segments.rttm", "segments.json"):
        (made / name).replace(folder / name)
    return talkers._replace(files=files)


def azimuths(
    cross: NDArray[np.complexfloating], stft: STFT, rate: int, array: ArrayGeometry | None
) -> list[float] | None:
    """Where talkers are, in degrees; None without a geometry, or with one mic.

    Args:
        cross: of each talker with the mics ``(talkers, freqs, mics)``, at the frequencies of
            `space_hz`; only the phases between the mics matter.
    """
    if array is None or array.n_mics < 2:
        return None
    X = torch.from_numpy(cross).transpose(-1, -2)[..., None]
    found = srp_phat(X, torch.from_numpy(array.as_array()), space_hz(stft, rate).cpu())
    return [float(a) for a in found.azimuth_deg]


def _write_stream(path: Path, stream: Iterator[Sound], rate: int, recording: Recording) -> None:
    blocks: Iterator[Block] = (block[None] for block in stream)
    back = (block[0] for block in resample(blocks, rate, recording.sample_rate))
    subtype = output_subtype(path, recording.sample_rate, recording.subtype)
    kept = first(back, lambda: recording.n_samples)
    write_audio(path, kept, recording.sample_rate, subtype)


def _segments(
    stretches: Sequence[Sequence[tuple[float, float]]], azimuths_deg: Sequence[float] | None
) -> list[Said]:
    """Who talks when, by their beginnings."""
    n = len(stretches)
    facts = [{} if azimuths_deg is None else {"azimuth_deg": azimuths_deg[k]} for k in range(n)]
    segments = [
        Said(f"talker{k + 1}", start_s, end_s, facts=facts[k])
        for k, own in enumerate(stretches)
        for start_s, end_s in own
    ]
    return sorted(segments, key=lambda said: (said.start_s, said.speaker))
