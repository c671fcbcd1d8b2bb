"""Single recordings: what is known of one, and its samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from simulate.sound_files import check_rate
from simulate.synthetic import synthetic_noise

BUILTIN = "builtin"
BUILTIN_NOISE_S = 60.0
_FROM = "#t="  # W3C media fragments: `talk.flac#t=12.5` begins 12.5 s into the file
LONGEST_S = 1e6  # of a recording, 12 days: more is a mistake, or meant to do harm
_BLOCK = 2**16
_MISSING_S = 0.25  # manifests round; a file that ends this much too early was cut off


@dataclass(frozen=True)
class Utterance:
    """One recording of a corpus. `speaker`, `text`, `split` and `kind` are "" where unknown.

    A path that ends in `#t=12.5` is the part of the file from 12.5 s on.
    """

    path: str
    seconds: float
    speaker: str = ""
    text: str = ""
    split: str = ""
    kind: str = ""


class RecordingError(ValueError):
    """A recording that is missing, damaged or cut off; `path` says which."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"expected a recording that can be read, found {path} ({why})")
        self.path, self.why = path, why

    def __reduce__(self) -> tuple:
        """Make it travel between processes, which rebuild an error from what it was made of."""
        return type(self), (self.path, self.why)


def part_of(path: str, start_s: float) -> str:
    """The path that names `path` from `start_s` on."""
    return f"{path}{_FROM}{start_s:g}" if start_s > 0 else path


def read_audio(
    path: str, fs: int, start_s: float = 0.0, duration_s: float | None = None
) -> np.ndarray:
    """Channel 0 of a recording, or a part of it, at the rate `fs`: (samples,) float64.

    Raises RecordingError, a ValueError, for a file that cannot be read, that holds NaN or infinity,
    or that ends well before the part that is asked for does.
    """
    if path.startswith(f"{BUILTIN}:"):
        samples = round((duration_s or BUILTIN_NOISE_S) * fs)
        # The start picks the stretch of noise, so equal requests give equal samples.
        rng = np.random.default_rng(round(start_s * fs))
        return synthetic_noise(path.partition(":")[2], samples, fs, rng)
    x, rate = _read(path, start_s, duration_s)
    return x if rate == fs else np.asarray(soxr.resample(x, rate, fs))


def check_audio(path: str, start_s: float, duration_s: float) -> None:
    """Raise RecordingError where `read_audio` does."""
    if not path.startswith(f"{BUILTIN}:"):
        _read(path, start_s, duration_s)


def _read(path: str, start_s: float, duration_s: float | None) -> tuple[np.ndarray, int]:
    """Channel 0 of a part of a recording, and its rate."""
    name, _, offset_s = path.partition(_FROM)
    try:
        with soundfile.SoundFile(name) as file:
            rate = file.samplerate
            check_rate(rate, name)
            file.seek(min(round((start_s + float(offset_s or 0)) * rate), file.frames))
            frames = round((LONGEST_S if duration_s is None else duration_s) * rate)
            x = _first_channel(file, frames)
    except (OSError, ValueError, soundfile.SoundFileError) as error:
        raise RecordingError(path, " ".join(str(error).split())) from None
    if not np.all(np.isfinite(x)):
        raise RecordingError(path, "it holds NaN or infinity")
    if duration_s is not None and len(x) / rate < duration_s - _MISSING_S:
        raise RecordingError(path, f"it ends {duration_s - len(x) / rate:.2f} s early")
    return x, rate


def _first_channel(file: soundfile.SoundFile, n_samples: int) -> np.ndarray:
    """Block by block: neither other channels nor what a header only promises cost memory."""
    blocks = [np.zeros(0)]
    while n_samples > 0:
        block = file.read(min(n_samples, _BLOCK), dtype="float64", always_2d=True)[:, 0]
        if not len(block):
            break
        blocks.append(block.copy())
        n_samples -= len(block)
    return np.concatenate(blocks)
