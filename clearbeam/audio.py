"""Recordings of any format, rate and length, read and written a block at a time.

Blocks are float32 (mics, samples) on the way in and (samples,) on the way out. Nothing here holds
a whole recording, so its length is bounded by the disk alone. Formats come from libsndfile
(through soundfile), resampling from soxr, whose streams compensate their own delay.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from clearbeam.files import replacing
from simulate.disk import tidying
from simulate.sound_files import check_rate, new_sound

Block = NDArray[np.float32]

BLOCK_VALUES = 2**19  # samples times channels read at once: 2 MB, 4 s of 8 channels at 16 kHz
UNKNOWN_LENGTH = 2**63 - 1  # what libsndfile says of a file written by a pipe
LOUDEST = 1e10  # of float samples, where full scale is 1: integers of 32 bits are below
FORMATS = {
    ".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".opus": "OGG", ".mp3": "MP3", ".aiff": "AIFF",
    ".aif": "AIFF", ".caf": "CAF", ".w64": "W64", ".rf64": "RF64", ".au": "AU",
}  # fmt: skip


class Recording:
    """One multi-channel recording: a single file, or several files of one channel each.

    Attributes: `paths`, `sample_rate` in Hz, `n_mics`, `subtype` (libsndfile's name of the sample
    type), and `n_samples` a channel: what the header promises, or `UNKNOWN_LENGTH`; corrected once
    the blocks are read. Raises ValueError, in one line, for whatever is no recording.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        headers = [_header(path) for path in paths]
        self.paths = tuple(paths)
        self.sample_rate: int = headers[0].samplerate
        self.subtype: str = headers[0].subtype
        self.n_samples: int = headers[0].frames
        self.n_mics: int = sum(header.channels for header in headers)
        if len(headers) > 1:
            self._check_channels(headers)

    @property
    def name(self) -> str:
        """Its name in messages: that of the (first) file."""
        return self.paths[0].name

    @property
    def seconds(self) -> float | None:
        """Its duration in seconds, None where unknown."""
        return None if self.n_samples == UNKNOWN_LENGTH else self.n_samples / self.sample_rate

    def blocks(self) -> Iterator[Block]:
        """Yield the samples, float32 (mics, n), in order; every block but the last of one length.

        Warns when the file ends before its header says, and sets `n_samples` to what was there.
        """
        frames = max(1, BLOCK_VALUES // self.n_mics)
        n_read = 0
        with ExitStack() as stack:
            files = [stack.enter_context(_open(path)) for path in self.paths]
            while n_read < self.n_samples:
                pieces = [_read(file, frames) for file in files]
                n = min(len(piece) for piece in pieces)
                if n == 0:
                    break
                n_read += n
                yield sound_in(np.concatenate([piece[:n] for piece in pieces], axis=1).T)
        self._finish(n_read)

    def _finish(self, n_read: int) -> None:
        if n_read == 0:
            raise ValueError(f"expected at least one sample, found none in {self.paths[0]}")
        if self.seconds is not None and n_read < self.n_samples:
            found_s = n_read / self.sample_rate
            warnings.warn(
                f"{self.name} ends after {found_s:.2f} s, its header promises {self.seconds:.2f} s",
                stacklevel=2,
            )
        self.n_samples = n_read

    def _check_channels(self, headers: Sequence[Any]) -> None:
        for path, header in zip(self.paths, headers, strict=True):
            if header.channels != 1:
                raise ValueError(
                    f"expected one channel a file, found {header.channels} channels in {path}"
                )
            if header.samplerate != self.sample_rate:
                raise ValueError(
                    f"expected channel files of one rate, found {self.sample_rate} Hz in "
                    f"{self.paths[0]} and {header.samplerate} Hz in {path}"
                )
            if header.frames != self.n_samples:
                raise ValueError(
                    f"expected channel files of one length, found {self.n_samples} samples in "
                    f"{self.paths[0]} and {header.frames} in {path}"
                )


def sound_in(x: Block) -> Block:
    """`x` with NaN, which everything that follows knows, in place of what no converter makes.

    Squares of floats beyond it would overflow.
    """
    loudest = np.float32(LOUDEST)
    if np.abs(x).max(initial=0.0) <= loudest:
        return x
    return np.where(np.abs(x) <= loudest, x, np.float32(np.nan))


class _Stream(soundfile.SoundFile):
    """A file that is only read forward, so that one whose length is unknown or untrue can be read.

    soundfile seeks after each read where it may, and fails at the end of such a file.
    """

    def seekable(self) -> bool:
        """Say that it cannot seek."""
        return False


def _open(path: Path) -> _Stream:
    """Open a file whose header was read before; it may have gone since."""
    try:
        return _Stream(path)
    except soundfile.SoundFileError as error:
        raise ValueError(f"cannot read {path} any more: {' '.join(str(error).split())}") from None


def _read(file: _Stream, frames: int) -> NDArray[np.float32]:
    """Return the next samples, float32 (n, channels), fewer at the end."""
    try:
        return np.asarray(file.read(frames, dtype="float32", always_2d=True))
    except soundfile.LibsndfileError as error:
        why = error.error_string or "damaged"
        raise ValueError(f"cannot decode {file.name}: {why}") from None


def _header(path: Path) -> Any:
    """Return soundfile's header of `path`, or raise ValueError saying what is there instead."""
    if path.is_dir():
        raise ValueError(f"expected an audio file, found the folder {path}")
    if not path.is_file():
        raise ValueError(f"expected an audio file, found nothing at {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"expected an audio file, found the empty file {path}")
    try:
        header = soundfile.info(path)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: headerless .raw
        why = getattr(error, "error_string", "no header").rstrip(".")
        raise ValueError(f"expected an audio file, found {path}: {why}") from None
    if header.frames < 1:
        raise ValueError(f"expected at least one sample, found none in {path}")
    check_rate(header.samplerate, path)
    return header


def resample(blocks: Iterable[Block], rate_in: int, rate_out: int) -> Iterator[Block]:
    """Yield `blocks` (channels, n) at `rate_in` Hz resampled to `rate_out` Hz, without delay.

    In all ceil(n * rate_out / rate_in) samples come out, so that not even one sample gets lost.
    """
    if rate_in == rate_out:
        yield from blocks
        return
    stream, n_in, n_out, n_channels = None, 0, 0, 0
    for block in blocks:
        if stream is None:
            n_channels = block.shape[0]
            stream = soxr.ResampleStream(rate_in, rate_out, n_channels, dtype="float32")
        n_in += block.shape[1]
        piece = stream.resample_chunk(np.ascontiguousarray(block.T)).reshape(-1, n_channels).T
        n_out += piece.shape[1]
        yield piece
    if stream is not None:
        nothing = np.zeros((0, n_channels), np.float32)
        tail = stream.resample_chunk(nothing, last=True).reshape(-1, n_channels).T
        n_missing = math.ceil(n_in * rate_out / rate_in) - n_out
        yield _fit(tail, n_missing)


def first(blocks: Iterable[Block], n_samples: Callable[[], int]) -> Iterator[Block]:
    """Yield the first `n_samples()` samples of `blocks` (..., n).

    Resampling there and back rounds up twice. The length is asked for late, because a header may
    promise more than the file holds.
    """
    done = 0
    for block in blocks:
        piece = block[..., : max(0, n_samples() - done)]
        done += piece.shape[-1]
        yield piece


def _fit(block: Block, n: int) -> Block:
    """Return `block` (channels, any) cut or padded with zeros to (channels, n); n below 0 is 0."""
    cut = block[:, : max(0, n)]
    return np.pad(cut, ((0, 0), (0, max(0, n) - cut.shape[1])))


def output_subtype(path: Path, sample_rate: int, subtype: str) -> str:
    """Return the sample type for a mono file `path`: `subtype` where its format has it.

    Otherwise 24 bits for a float source and the format's default for any other. Raises ValueError
    for an extension libsndfile cannot write, or a rate the format does not know.
    """
    container = FORMATS.get(path.suffix.lower())
    if container is None:
        raise ValueError(f"expected an output named {', '.join(FORMATS)}, found {path.name}")
    wished = [subtype, "PCM_24"] if subtype in ("FLOAT", "DOUBLE") else [subtype]
    if path.suffix.lower() == ".opus":
        wished = ["OPUS"]
    choices = [s for s in wished if soundfile.check_format(container, s)]
    chosen = [*choices, soundfile.default_subtype(container)][0]
    try:
        soundfile.SoundFile(io.BytesIO(), "w", sample_rate, 1, chosen, format=container).close()
    except soundfile.SoundFileError:
        raise ValueError(f"expected a rate that {container} {chosen} can hold, found "
                         f"{sample_rate} Hz for {path.name}") from None  # fmt: skip
    return chosen


def write_audio(
    path: Path, blocks: Iterable[Block], sample_rate: int, subtype: str, channels: int = 1
) -> None:
    """Write `blocks` (n,) or (channels, n) to `path`, which appears only when complete.

    Sound louder than full scale would clip in every format but float: the whole file is then
    attenuated by one constant, and a warning says by how much. To know the peak before the first
    sample is encoded, the blocks go through a float file beside `path`, gone at the end.
    """
    with replacing(path) as partial:
        scratch = partial.with_name(partial.name + ".w64")
        with tidying(lambda: scratch.unlink(missing_ok=True)):
            try:
                gain = 1.0 / max(1.0, _write_float(scratch, blocks, sample_rate, channels))
                if subtype in ("FLOAT", "DOUBLE"):
                    gain = 1.0
                if gain < 1.0:
                    loss_db = -20 * math.log10(gain)
                    warnings.warn(
                        f"{path.name} would clip: attenuated by {loss_db:.1f} dB", stacklevel=2
                    )
                _encode(scratch, partial, subtype, FORMATS[path.suffix.lower()], gain)
            except OSError as error:
                if error.filename not in (str(scratch), str(partial)):
                    raise  # of what is read
                why = f"cannot write {path}: {error.strerror}; is the disk full?"
                raise OSError(why) from None


def _write_float(path: Path, blocks: Iterable[Block], sample_rate: int, channels: int) -> float:
    """Write `blocks` as 32-bit float and return the largest magnitude among them."""
    peak = 0.0
    with new_sound(path, sample_rate, channels, "FLOAT", "W64") as file:
        for block in blocks:
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            file.write(block.T)
    return peak


def _encode(source: Path, target: Path, subtype: str, container: str, gain: float) -> None:
    """Write `source` times `gain` to `target` in the given format."""
    with (
        soundfile.SoundFile(source) as scratch,
        new_sound(target, scratch.samplerate, scratch.channels, subtype, container) as file,
    ):
        for block in scratch.blocks(BLOCK_VALUES // 8, dtype="float32"):
            file.write(block * np.float32(gain))
