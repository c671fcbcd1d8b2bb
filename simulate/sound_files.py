"""Sound of a data set on disk: 24 bits, FLAC up to eight channels and WAV above."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

MOST_VALUES = 2**29  # samples times channels held at once: an hour of 8 microphones
_BLOCK = 2**20
_MAX_FLAC_CHANNELS = 8
_FULL_SCALE = 2**23  # of 24-bit samples
_MAX_WAV_BYTES = 2**32 - 2**16  # the size in a WAV header has 32 bits; RF64 is WAV with 64


def read_sound(path: str | Path, dtype: str = "float32") -> tuple[np.ndarray, int]:
    """All of a file, (samples, channels), and its rate; raises as soundfile does.

    Block by block: a header that promises more than there is costs no memory. ValueError for more
    than `MOST_VALUES`.
    """
    with soundfile.SoundFile(path) as file:
        blocks, n_values = [np.zeros((0, file.channels), dtype)], 0
        while len(block := file.read(_BLOCK // file.channels, dtype=dtype, always_2d=True)):
            n_values += block.size
            if n_values > MOST_VALUES:
                raise ValueError(f"expected at most {MOST_VALUES} samples in {path}, found more")
            blocks.append(block)
        return np.concatenate(blocks), file.samplerate


def write_sound(stem: Path, x: np.ndarray, fs: int) -> str:
    """Write (channels, samples) and return the file's name."""
    with open_sound(stem, len(x), x.shape[-1], fs) as file:
        file.write(samples_24(x))
    return Path(file.name).name


def open_sound(stem: Path, n_channels: int, n_samples: int, fs: int) -> soundfile.SoundFile:
    """A new file for so many `samples_24`, with the suffix that fits its channels."""
    flac = n_channels <= _MAX_FLAC_CHANNELS
    wav = "RF64" if 3 * n_channels * n_samples > _MAX_WAV_BYTES else "WAV"
    path = stem.with_suffix(".flac" if flac else ".wav")
    return soundfile.SoundFile(
        path, "w", fs, n_channels, subtype="PCM_24", format="FLAC" if flac else wav
    )


def samples_24(x: np.ndarray) -> np.ndarray:
    """(channels, samples) within -1 and 1 -> (samples, channels) int32, the low byte empty."""
    samples = np.clip(np.round(x.T * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    return samples.astype(np.int32) << 8
