"""Sound of a data set on disk: 24 bits, FLAC up to eight channels and WAV above."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from simulate.interrupts import ctrl_c_after

RATES_HZ = (1_000, 1_000_000)  # of sound
MOST_VALUES = 2**29  # samples times channels held at once: an hour of 8 microphones
_BLOCK = 2**20
_MAX_FLAC_CHANNELS = 8
_FULL_SCALE = 2**23  # of 24-bit samples
_ADD_PEAK_CHUNK = 0x1050  # of libsndfile: to float files, with the time, so no two are the same
_MAX_WAV_BYTES = 2**32 - 2**16  # the size in a WAV header has 32 bits; RF64 is WAV with 64


def read_sound(path: str | Path, dtype: str = "float32") -> tuple[np.ndarray, int]:
    """All of a file, (samples, channels), and its rate.

    Block by block: a header that promises more than there is costs no memory. Raises ValueError for
    what cannot be read, and for more than `MOST_VALUES`.
    """
    try:
        with soundfile.SoundFile(path) as file:
            blocks, n_values = [np.zeros((0, file.channels), dtype)], 0
            while len(block := file.read(_BLOCK // file.channels, dtype=dtype, always_2d=True)):
                n_values += block.size
                if n_values > MOST_VALUES:
                    raise ValueError(
                        f"expected at most {MOST_VALUES} samples in {path}, found more"
                    )
                blocks.append(block)
            check_rate(file.samplerate, path)
            return np.concatenate(blocks), file.samplerate
    except soundfile.SoundFileError as error:
        why = " ".join(str(error).split())
        raise ValueError(f"expected sound that can be read, found {path} ({why})") from None


def check_rate(rate: int, path: str | Path) -> None:
    """Raise ValueError for a rate that no sound has: resampled it could fill any memory."""
    low, high = RATES_HZ
    if not low <= rate <= high:
        raise ValueError(f"expected a sample rate of {low} to {high} Hz, found {rate} in {path}")


def write_sound(stem: Path, x: np.ndarray, fs: int) -> str:
    """Write (channels, samples) and return the file's name."""
    with open_sound(stem, len(x), x.shape[-1], fs) as file:
        file.write(samples_24(x))
    return sound_name(stem, len(x))


def sound_name(stem: Path, n_channels: int) -> str:
    """The name of the file that `open_sound` makes."""
    return stem.with_suffix(".flac" if n_channels <= _MAX_FLAC_CHANNELS else ".wav").name


def open_sound(
    stem: Path, n_channels: int, n_samples: int, fs: int
) -> AbstractContextManager[soundfile.SoundFile]:
    """A new file for so many `samples_24`, with the suffix that fits its channels."""
    path = stem.with_name(sound_name(stem, n_channels))
    wav = "RF64" if 3 * n_channels * n_samples > _MAX_WAV_BYTES else "WAV"
    container = "FLAC" if path.suffix == ".flac" else wav
    return new_sound(path, fs, n_channels, "PCM_24", container)


@contextmanager
def new_sound(
    path: Path, fs: int, n_channels: int, subtype: str, container: str
) -> Iterator[soundfile.SoundFile]:
    """A new file of any sample type and format; OSError where it cannot be written to its end.

    The same sound makes the same bytes, but for Ogg, whose streams are numbered at random.
    """
    with _Whole(path) as file:
        with ctrl_c_after():
            sound = _Sound(file, "w", fs, n_channels, subtype=subtype, format=container)
            if container in ("WAV", "WAVEX", "AIFF") and subtype in ("FLOAT", "DOUBLE"):
                soundfile._snd.sf_command(sound._file, _ADD_PEAK_CHUNK, soundfile._ffi.NULL, 0)
        with sound:
            yield sound


class _Sound(soundfile.SoundFile):
    """A file that Ctrl-C finds between two writes.

    While libsndfile calls back to have bytes written, an exception would be printed and forgotten.
    """

    def write(self, data: Any) -> None:
        with ctrl_c_after():
            super().write(data)

    def close(self) -> None:
        with ctrl_c_after():
            super().close()


class _Whole(io.FileIO):
    """A file that is whole when it is closed, or raises OSError.

    libsndfile says nothing of a FLAC or Ogg file whose end the disk did not take, and of others not
    why. So the disk is asked here.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), "w+")
        self.failed: OSError | None = None

    def write(self, data: Any) -> int:
        """Take all of the data, or remember why not: nobody hears an error of a callback."""
        left = memoryview(data).cast("B")
        n_bytes = len(left)
        try:
            while left:
                left = left[super().write(left) :]
        except OSError as error:
            self.failed = self.failed or error
        return n_bytes - len(left)

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        except OSError as error:
            self.failed = self.failed or error
        if self.failed is not None:
            raise OSError(self.failed.errno, self.failed.strerror, self.name) from None


def samples_24(x: np.ndarray) -> np.ndarray:
    """(channels, samples) within -1 and 1 -> (samples, channels) int32, the low byte empty."""
    samples = np.clip(np.round(x.T * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    return samples.astype(np.int32) << 8
