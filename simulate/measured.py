"""Measured rooms: responses from recordings in place of a simulated room."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import soundfile
import soxr

from simulate.arrays import ArrayGeometry
from simulate.decay import measure_rt60
from simulate.parsing import from_json
from simulate.sofa import is_sofa, list_sofa, read_sofa
from simulate.sound_files import read_sound

_FILES = (".flac", ".wav", ".sofa")
_DIRECT_S = 0.0025  # the direct sound of a measured response is its first so many seconds


class Response(NamedTuple):
    """Measured responses from one place to every microphone: a file's channels, or those of one
    measurement in a SOFA file (`hall.sofa#3.0`).

    azimuth_deg, distance_m: of the place as the array sees it; array: what it was measured with.
    None where the manifest does not know.
    """

    path: str
    room: str
    n_mics: int
    azimuth_deg: float | None = None
    distance_m: float | None = None
    array: ArrayGeometry | None = None


@lru_cache(maxsize=8)
def list_responses(path: str) -> tuple[Response, ...]:
    """Responses of a jsonl manifest, of a folder of FLAC, WAV and SOFA files, or of one such file.

    Records of a manifest have `path`, `room` or else the file's folder is one, and where known
    `azimuth_deg`, `distance_m` and `array` (name and positions_m).

    Raises ValueError when there are none, or a file or record cannot be read.
    """
    root = Path(path)
    if root.suffix == ".jsonl" and root.is_file():
        return tuple(_manifest(root)) or _nothing(root)
    elif root.is_dir():
        files = sorted(p for p in root.rglob("*") if p.suffix.lower() in _FILES)
        found = [(p, str(p.parent)) for p in files]
    else:
        found = [(root, str(root.parent))]
    return tuple(r for file, room in found for r in _of_file(file, room)) or _nothing(root)


def _nothing(root: Path) -> NoReturn:
    raise ValueError(f"expected measured responses (FLAC, WAV or SOFA) in {root}, found none")


def _manifest(manifest: Path) -> list[Response]:
    found: list[Response] = []
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                record = from_json(line)
                file = manifest.parent / record["path"]
                known = _known(record)
            except (KeyError, TypeError, ValueError) as error:
                where = f"{manifest}, line {number}"
                raise ValueError(f"{where}: expected a record with path, found {error!r}") from None
            room = record.get("room")
            of_file = _of_file(file, str(file.parent if room in (None, "") else room))
            found += [response._replace(**known) for response in of_file]
    return found


def _known(record: dict) -> dict[str, Any]:
    """Where a record says its place is, and with which array it was measured."""
    known: dict[str, Any] = {
        key: float(record[key])
        for key in ("azimuth_deg", "distance_m")
        if record.get(key) is not None
    }
    if isinstance(record.get("array"), dict):
        known["array"] = ArrayGeometry.model_validate(record["array"])
    return known


def _of_file(file: Path, room: str) -> list[Response]:
    if is_sofa(file):
        # Only what one pose of the array heard is heard together.
        return [Response(r.name, f"{room} {file.name} {r.pose}", r.n_mics) for r in list_sofa(file)]
    try:
        return [Response(str(file), room, int(soundfile.info(file).channels))]
    except (OSError, soundfile.SoundFileError) as error:
        raise ValueError(f"expected a response that can be read, found {file} ({error})") from None


def draw_room(
    responses: tuple[Response, ...], n_sources: int, rng: np.random.Generator
) -> list[Response]:
    """All responses of one room and number of microphones, in random order.

    Rooms with many responses are drawn more often. Raises ValueError when no room has `n_sources`.
    """
    rooms: dict[tuple[str, int], list[Response]] = {}
    for response in responses:
        rooms.setdefault((response.room, response.n_mics), []).append(response)
    fit = [room for room in rooms.values() if len(room) >= n_sources]
    if not fit:
        most = max(len(room) for room in rooms.values())
        raise ValueError(f"expected a room with {n_sources} responses, found at most {most}")
    share = np.array([len(room) for room in fit], float)
    room = fit[int(rng.choice(len(fit), p=share / share.sum()))]
    return [room[i] for i in rng.permutation(len(room))]


@lru_cache(maxsize=64)
def read_response(path: str, fs: int) -> np.ndarray:
    """The responses of one `Response.path` at the rate `fs`, (mics, taps) float32."""
    x, rate = read_sofa(path) if is_sofa(path) else read_sound(path, "float64")
    x = x if rate == fs else np.asarray(soxr.resample(x, rate, fs))
    if not np.all(np.isfinite(x)) or not np.any(x, axis=0).all():
        raise ValueError(f"expected a sound response in every channel, found another in {path}")
    rir = x.T.astype(np.float32)
    rir.setflags(write=False)
    return rir


def response_rt60(path: str, fs: int) -> float:
    """RT60 of a measured response in seconds, as `robust_rt60`; ValueError when it has none."""
    rt60_s = robust_rt60(read_response(path, fs)[0], fs)
    if rt60_s is None:
        raise ValueError(f"expected a response that decays, found {path}")
    return rt60_s


def robust_rt60(rir: np.ndarray, fs: int) -> float | None:
    """RT60 of a response (taps,) in seconds: T30, or T20 or T10 where noise hides the decay."""
    for range_db in (30.0, 20.0, 10.0):
        try:
            return round(measure_rt60(rir, fs, range_db), 4)
        except ValueError:
            continue
    return None


def stack_responses(paths: list[str], fs: int) -> np.ndarray:
    """Responses of several files, (files, mics, taps), the shorter ones padded with silence."""
    read = [read_response(path, fs) for path in paths]
    out = np.zeros((len(read), len(read[0]), max(r.shape[-1] for r in read)), np.float32)
    for row, rir in zip(out, read, strict=True):
        row[:, : rir.shape[-1]] = rir
    return out


def onset(rir: np.ndarray) -> np.ndarray:
    """Sample at which each response (..., taps) begins: first within 20 dB of its peak (ISO 3382).

    The result has the shape of rir without its last axis.
    """
    height = np.abs(rir)
    return np.argmax(height >= 0.1 * height.max(axis=-1, keepdims=True), axis=-1)


def first_part(rir: np.ndarray, seconds: float, fs: int) -> np.ndarray:
    """The responses (..., taps) until `seconds` after their onsets, silent from there on."""
    last = onset(rir) + seconds * fs
    return rir * (np.arange(rir.shape[-1]) <= last[..., None])


def direct_part(rir: np.ndarray, fs: int) -> np.ndarray:
    """The first 2.5 ms of responses (..., taps), which is before most reflections."""
    return first_part(rir, _DIRECT_S, fs)
