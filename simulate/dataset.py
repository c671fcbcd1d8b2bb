"""Data sets on disk: each mixture a folder that is there whole or not at all, and one manifest."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from simulate.arrays import load_array
from simulate.render import Mixture, render
from simulate.scene import Scene, sample_scene
from simulate.scene_config import SceneConfig

_MAX_FLAC_CHANNELS = 8
_SHARD = 1000  # mixtures to a folder
_FULL_SCALE = 2**23  # of 24-bit samples
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PRA_NUM_THREADS")
# glibc gives large blocks back at once and pays with page faults for the next ones: on a virtual
# machine that took two thirds of the time. A worker keeps what it freed.
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}

Progress = Callable[[int, int], None]


def write_dataset(
    config: SceneConfig,
    out: str | Path,
    count: int,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Make mixtures 0 to count - 1 of the data set `seed`; returns the manifest.jsonl.

    Files are 24-bit FLAC (WAV above eight channels), one folder a mixture. The bytes do not depend
    on `jobs`. Mixtures that are there already are kept, so the same call completes a broken one.
    progress: called with (done, count) as mixtures get done.
    Raises ValueError when the config cannot work, `out` holds another data set, or count or jobs is
    below 1.
    """
    if count < 1 or jobs < 1:
        raise ValueError(f"expected count >= 1 and jobs >= 1, found {count} and {jobs}")
    out = Path(out)
    # What cannot work fails here, before anything is written.
    for name in config.array.names:
        load_array(name)
    sample_scene(config, seed, 0)
    _claim(out, config, seed)
    missing = [i for i in range(count) if not (_folder(out, i) / "record.json").is_file()]
    done = count - len(missing)
    if progress:
        progress(done, count)
    for _ in _map(partial(_make, config, out, seed), missing, jobs):
        done += 1
        if progress:
            progress(done, count)
    return _write_manifest(out, count)


def read_manifest(path: str | Path) -> Iterator[dict]:
    """Records of a data set (its folder, or its manifest.jsonl), with absolute paths of its files.

    Raises ValueError for a missing or malformed manifest, or a path that leaves the folder.
    """
    path = Path(path)
    path = path / "manifest.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"expected a data set with a manifest.jsonl, found no file {path}")
    root = path.parent.resolve()
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                paths = {name: _inside(root, value) for name, value in record["paths"].items()}
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                where = f"{path}, line {number}"
                raise ValueError(f"{where}: expected a mixture, found {error!r}") from None
            yield record | {"paths": paths}


def _inside(root: Path, value: str | list[str]) -> str | list[str]:
    if isinstance(value, list):
        return [str(_inside(root, v)) for v in value]
    path = (root / value).resolve()
    if not path.is_relative_to(root):
        raise ValueError(f"expected files inside {root}, found {value}")
    return str(path)


def _claim(out: Path, config: SceneConfig, seed: int) -> None:
    """Note in the folder what is made there; refuse to mix two data sets in one folder."""
    claim = json.dumps({"seed": seed, "scene": config.model_dump(mode="json")}, indent=1) + "\n"
    note = out / "dataset.json"
    if note.is_file():
        if note.read_text(encoding="utf-8") != claim:
            raise ValueError(f"expected {out} to hold this scene and seed, found another data set")
        return
    out.mkdir(parents=True, exist_ok=True)
    _write_text(note, claim)


def _folder(out: Path, index: int) -> Path:
    return out / f"{index // _SHARD:04d}" / f"{index:07d}"


def _make(config: SceneConfig, out: Path, seed: int, index: int) -> int:
    """Render one mixture into a temporary folder, then give it its name in one step."""
    scene = sample_scene(config, seed, index)
    mixture = render(scene)
    folder = _folder(out, index)
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    paths = _write_audio(mixture, config, temporary)
    prefix = folder.relative_to(out).as_posix()
    record = _record(scene, {k: _under(prefix, v) for k, v in paths.items()})
    _write_text(temporary / "record.json", json.dumps(record) + "\n")
    temporary.rename(folder)
    return index


def _under(prefix: str, value: str | list[str]) -> str | list[str]:
    return [f"{prefix}/{v}" for v in value] if isinstance(value, list) else f"{prefix}/{value}"


def _write_audio(mixture: Mixture, config: SceneConfig, folder: Path) -> dict[str, str | list[str]]:
    mics = slice(None) if config.reference_mics == "all" else slice(1)
    fs = mixture.fs
    paths: dict[str, str | list[str]] = {"mixture": _write(folder / "mixture", mixture.mixture, fs)}
    if "noise" in config.references:
        paths["noise"] = _write(folder / "noise", mixture.noise[mics], fs)
    for name in ("early", "image"):
        if name in config.references:
            talkers = getattr(mixture, name)[:, mics]
            paths[name] = [_write(folder / f"{name}{k}", x, fs) for k, x in enumerate(talkers, 1)]
    if "dry" in config.references:
        dry = enumerate(mixture.dry[:, None], 1)
        paths["dry"] = [_write(folder / f"dry{k}", x, fs) for k, x in dry]
    return paths


def _write(stem: Path, x: np.ndarray, fs: int) -> str:
    """Write (mics, samples) at 24 bits and return the file's name."""
    path = stem.with_suffix(".flac" if len(x) <= _MAX_FLAC_CHANNELS else ".wav")
    samples = np.clip(np.round(x.T * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int32)
    soundfile.write(path, samples << 8, fs, subtype="PCM_24")
    return path.name


def _record(scene: Scene, paths: dict[str, str | list[str]]) -> dict:
    """What a reader of the manifest learns of a mixture.

    `array.positions_m` and `azimuth_deg` are in the array's own axes, ready for steering; every
    other position is in the room's. Distances are from the array's origin.
    """
    talkers = []
    for source in scene.talkers:
        away = np.asarray(source.position_m) - np.asarray(scene.origin_m)
        azimuth_deg = np.degrees(np.arctan2(away[1], away[0])) - scene.rotation_deg
        talkers.append(
            {
                "speaker": source.speaker,
                "text": source.text,
                "position_m": list(source.position_m or ()),
                "azimuth_deg": round(float((azimuth_deg + 180) % 360 - 180), 3),
                "distance_m": round(float(np.linalg.norm(away)), 4),
            }
        )
    return {
        "id": f"{scene.seed}-{scene.index:07d}",
        "paths": paths,
        "seed": scene.seed,
        "index": scene.index,
        "fs": scene.fs,
        "seconds": scene.n_samples / scene.fs,
        "array": {"name": scene.array.name, "positions_m": scene.array.positions_m},
        "rotation_deg": scene.rotation_deg,
        "mics_m": scene.mics_m,
        "room_size_m": list(scene.room_size_m),
        "rt60_s": scene.rt60_s,
        "snr_db": scene.snr_db,
        "early_ms": scene.early_ms,
        "method": scene.method,
        "noises": [n.kind for n in scene.noises],
        "talkers": talkers,
    }


def _write_manifest(out: Path, count: int) -> Path:
    lines = [(_folder(out, i) / "record.json").read_text(encoding="utf-8") for i in range(count)]
    _write_text(out / "manifest.jsonl", "".join(lines))
    return out / "manifest.jsonl"


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _map(work: Callable[[int], int], indices: list[int], jobs: int) -> Iterator[int]:
    """Apply `work` in this process or in `jobs` fresh ones, each with one thread."""
    if jobs == 1 or len(indices) < 2:
        yield from map(work, indices)
        return
    with _environment(dict.fromkeys(_ONE_THREAD, "1") | _KEEP_MEMORY):
        context = multiprocessing.get_context("spawn")
        with context.Pool(min(jobs, len(indices))) as pool:
            yield from pool.imap_unordered(work, indices, chunksize=1)


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Environment for the processes started inside, put back afterwards."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
