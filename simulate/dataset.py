"""Data sets on disk: every mixture from its own number, so that nothing else matters."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from os.path import realpath
from pathlib import Path
from typing import Any

import numpy as np

from simulate.arrays import load_array
from simulate.config import Frozen
from simulate.parsing import from_json
from simulate.recordings import RecordingError
from simulate.render import Mixture, render
from simulate.scene import Scene, sample_scene
from simulate.scene_config import SceneConfig
from simulate.shards import (
    Progress,
    appearing,
    check_numbers,
    complete,
    folder_of,
    tell_unreadable,
    write_record,
)
from simulate.sound_files import write_sound
from simulate.turns import overlap_ratio
from simulate.workers import in_order

_DRAWS = 20  # of a mixture whose recordings cannot be read


def write_dataset(
    config: SceneConfig,
    out: str | Path,
    count: int,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
    cluster: str | None = None,
) -> Path:
    """Make mixtures 0 to count - 1 of the data set `seed`; returns the manifest.jsonl.

    Files are 24-bit FLAC (WAV above eight channels), one folder a mixture. The bytes do not depend
    on `jobs` or `cluster` (see `for_each`). Mixtures that are there already are kept, so the same
    call completes a broken one. A mixture with a recording that cannot be read is drawn anew, and
    its record names the recording under `unreadable`; one warning tells how many there are.
    progress: called with (done, count) as mixtures get done.
    Raises ValueError when the config cannot work, `out` holds another data set, or count or jobs is
    below 1.
    """
    _check(config, count, seed, jobs)
    manifest = complete(_make, config, Path(out), count, seed, jobs, progress, cluster)
    tell_unreadable(manifest)
    return manifest


def plan_dataset(
    config: SceneConfig, count: int, seed: int = 0, jobs: int = 1
) -> list[dict[str, Any]]:
    """Records, without paths, of the mixtures that `write_dataset` would make; nothing is written.

    Raises ValueError where `write_dataset` does.
    """
    _check(config, count, seed, jobs)
    return in_order(partial(_plan, config, seed), count, jobs)


def draw_mixture(config: SceneConfig, seed: int, index: int) -> tuple[Mixture, list[str]]:
    """Render the mixture `index` of the data set `seed`: (mixture, recordings found unreadable).

    A scene with an unreadable recording is drawn anew, each time from the next multiple of 2^64
    above the seed: that is how often, not when or where, that decides.
    Raises ValueError when twenty draws in a row cannot be read.
    """
    unreadable: list[str] = []
    for attempt in range(_DRAWS):
        scene = sample_scene(config, seed + (attempt << 64), index)
        try:
            return render(scene.model_copy(update={"seed": seed})), unreadable
        except RecordingError as error:
            unreadable.append(error.path)
            last = error
    raise ValueError(f"{last}, and {_DRAWS - 1} more draws with others like it")


def _check(config: SceneConfig, count: int, seed: int, jobs: int) -> None:
    """What cannot work fails here, before anything is written."""
    check_numbers(count, jobs)
    for name in config.array.names:
        load_array(name)
    sample_scene(config, seed, 0)


def _plan(config: SceneConfig, seed: int, index: int) -> dict[str, Any]:
    return record_of(sample_scene(config, seed, index), {})


def read_manifest(path: str | Path) -> Iterator[dict[str, Any]]:
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
                record = from_json(line)
                paths = {name: _located(root, value) for name, value in record["paths"].items()}
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                where = f"{path}, line {number}"
                raise ValueError(f"{where}: expected a mixture, found {error!r}") from None
            yield record | {"paths": paths}


def _located(root: Path, value: str | list[str]) -> str | list[str]:
    return [_inside(root, v) for v in value] if isinstance(value, list) else _inside(root, value)


def _inside(root: Path, value: str) -> str:
    path = Path(realpath(root / value))  # links that go round in circles lead nowhere
    if not path.is_relative_to(root):
        raise ValueError(f"expected files inside {root}, found {value}")
    return str(path)


def _make(config: SceneConfig, out: Path, seed: int, index: int) -> None:
    mixture, unreadable = draw_mixture(config, seed, index)
    folder = folder_of(out, index)
    with appearing(folder) as temporary:
        paths = _write_audio(mixture, config, temporary)
        prefix = folder.relative_to(out).as_posix()
        record = record_of(mixture.scene, {k: under(prefix, v) for k, v in paths.items()})
        record["measured_rt60_s"] = mixture.measured_rt60_s
        write_record(temporary, record, unreadable)


def under(prefix: str, value: str | list[str]) -> str | list[str]:
    return [f"{prefix}/{v}" for v in value] if isinstance(value, list) else f"{prefix}/{value}"


def _write_audio(mixture: Mixture, config: SceneConfig, folder: Path) -> dict[str, str | list[str]]:
    mics = slice(None) if config.reference_mics == "all" else slice(1)
    fs = mixture.fs
    paths: dict[str, str | list[str]] = {}
    paths["mixture"] = write_sound(folder / "mixture", mixture.mixture, fs)
    if "noise" in config.references:
        paths["noise"] = write_sound(folder / "noise", mixture.noise[mics], fs)
    for name in ("early", "image", "direct"):
        if name in config.references:
            talkers = getattr(mixture, name)[:, mics]
            paths[name] = [
                write_sound(folder / f"{name}{k}", x, fs) for k, x in enumerate(talkers, 1)
            ]
    if "dry" in config.references:
        dry = enumerate(mixture.dry[:, None], 1)
        paths["dry"] = [write_sound(folder / f"dry{k}", x, fs) for k, x in dry]
    return paths


def record_of(scene: Scene, paths: dict[str, str | list[str]]) -> dict[str, Any]:
    """What a reader of the manifest learns of a mixture.

    `array.positions_m` and `azimuth_deg` are in the array's own axes, ready for steering; every
    other position is in the room's. Distances are from the array's origin. In a measured room
    azimuth and distance are None where its manifest does not know them. A walk, a facing direction,
    a level of its own, responses, materials and microphones that are not ideal are told where there
    are any; of several talkers the overlap ratio: time at which two or more speak over time at
    which anybody does. `measured_rt60_s` joins it once a mixture is made.
    """
    talkers = []
    for source in scene.talkers:
        azimuth_deg, distance_m = source.azimuth_deg, source.distance_m
        if not source.responses:
            position_m = np.asarray(source.position_m)
            azimuth_deg, distance_m = seen_from(position_m, scene.origin_m, scene.rotation_deg)
        talkers.append(
            {
                "speaker": source.speaker,
                "text": source.text,
                "position_m": list(source.position_m or ()),
                "azimuth_deg": azimuth_deg,
                "distance_m": distance_m,
                "start_s": source.segments[0].at_s,
                "end_s": round(source.segments[-1].at_s + source.segments[-1].seconds, 4),
                **_told(source, {"path", "ahead", "facing", "sir_db", "responses"}),
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
        **_overlap(scene),
        **_told(scene, {"mics", "self_noise_db", "snr_counts_mics"}),
        **_told(scene, {"materials", "air_absorption", "scattering"}),
    }


def _overlap(scene: Scene) -> dict[str, float]:
    if len(scene.talkers) < 2:
        return {}
    spoken = [segment for talker in scene.talkers for segment in talker.segments]
    return {"overlap_ratio": round(overlap_ratio(spoken), 4)}


def seen_from(
    position_m: np.ndarray, origin_m: tuple[float, float, float], rotation_deg: float
) -> tuple[float, float]:
    """Azimuth (-180 to 180 degrees) in the axes of an array that is turned, distance in metres."""
    away = position_m - np.asarray(origin_m)
    azimuth_deg = np.degrees(np.arctan2(away[1], away[0])) - rotation_deg
    wrapped = (azimuth_deg + 180) % 360 - 180
    return round(float(wrapped), 3), round(float(np.linalg.norm(away)), 4)


def _told(model: Frozen, names: set[str]) -> dict[str, Any]:
    """Those of the fields that are not as they are by default, as plain data."""
    return model.model_dump(mode="json", include=names, exclude_defaults=True)
