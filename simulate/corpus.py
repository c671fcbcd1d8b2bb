"""Speech and noise to simulate with: a manifest of recordings, or what is built in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr

from simulate.synthetic import SYNTHETIC_KINDS, synthetic_noise

BUILTIN = "builtin"
_BUILTIN_NOISE_S = 60.0


@dataclass(frozen=True)
class Utterance:
    """One recording of a corpus. `speaker`, `text`, `split` and `kind` are "" where unknown."""

    path: str
    seconds: float
    speaker: str = ""
    text: str = ""
    split: str = ""
    kind: str = ""


def load_corpus(
    path: str | Path, split: str | None = None, content: Literal["speech", "noise"] = "speech"
) -> list[Utterance]:
    """Recordings listed in a jsonl manifest, or the built-in ones.

    path: a jsonl file (its audio paths are relative to it), or "builtin".
    split: keep only this split of the manifest; ignored for built-in material, which has none.
    content: "speech" or "noise", which says what "builtin" means.
    Raises ValueError when the manifest is missing, malformed or holds nothing of the split.
    """
    if str(path) == BUILTIN and content == "noise":
        return [Utterance(f"{BUILTIN}:{k}", _BUILTIN_NOISE_S, kind=k) for k in SYNTHETIC_KINDS]
    manifest = _talkers() if str(path) == BUILTIN else Path(path)
    if not manifest.is_file():
        raise ValueError(f"expected a corpus manifest (jsonl), found no file {manifest}")
    stat = manifest.stat()
    records = _read_manifest(str(manifest.resolve()), stat.st_mtime_ns, stat.st_size)
    if split is not None and str(path) != BUILTIN:
        records = tuple(r for r in records if r.split == split)
    if not records:
        wanted = f" of split {split}" if split else ""
        raise ValueError(f"expected recordings{wanted} in {manifest}, found none")
    return list(records)


def read_audio(
    path: str, fs: int, start_s: float = 0.0, duration_s: float | None = None
) -> np.ndarray:
    """Channel 0 of a recording, or a part of it, at the rate `fs`: (samples,) float64.

    Raises ValueError for a file that cannot be read.
    """
    if path.startswith(f"{BUILTIN}:"):
        samples = round((duration_s or _BUILTIN_NOISE_S) * fs)
        # The start picks the stretch of noise, so equal requests give equal samples.
        rng = np.random.default_rng(round(start_s * fs))
        return synthetic_noise(path.partition(":")[2], samples, fs, rng)
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            file.seek(min(round(start_s * rate), file.frames))
            frames = -1 if duration_s is None else round(duration_s * rate)
            x = file.read(frames, dtype="float64", always_2d=True)[:, 0]
    except (OSError, soundfile.SoundFileError) as error:
        raise ValueError(f"expected a recording that can be read, found {path} ({error})") from None
    return x if rate == fs else np.asarray(soxr.resample(x, rate, fs))


def _talkers() -> Path:
    return Path(__file__).parent / "talkers" / "talkers.jsonl"


@lru_cache(maxsize=8)
def _read_manifest(manifest: str, mtime_ns: int, size: int) -> tuple[Utterance, ...]:
    """Read once per process and version of the file: scenes are drawn from it by the thousand."""
    folder = Path(manifest).parent
    records = []
    for number, line in enumerate(Path(manifest).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            records.append(_utterance(record, folder))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            where = f"{manifest}, line {number}"
            raise ValueError(
                f"{where}: expected a record with path and seconds, found {error!r}"
            ) from None
    return tuple(records)


def _utterance(record: dict, folder: Path) -> Utterance:
    names = ("speaker", "text", "split", "kind")
    return Utterance(
        str(folder / record["path"]),
        float(record["seconds"]),
        **{name: str(record.get(name) or "") for name in names},
    )
