"""Rooms made once and drawn from, and mixtures that never touch a disk: what training feeds on.

A bank of responses is a folder with a manifest that a scene takes as `measured: {responses: ...}`,
as if somebody had gone from room to room with the array. So drawing from a bank is drawing a scene
in a measured room, and what such scenes can do works with a bank too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np

from simulate.dataset import draw_mixture, seen_from, under
from simulate.disk import write_text
from simulate.placement import place_source
from simulate.render import Mixture
from simulate.responses import room_responses
from simulate.scene import sample_scene
from simulate.scene_config import SceneConfig
from simulate.shards import (
    Progress,
    appearing,
    check_numbers,
    complete,
    folder_of,
    write_record,
)
from simulate.sound_files import new_sound
from simulate.voice import mouths

__all__ = ["Mixtures", "write_bank"]

_NOISE_PLACES = 8  # of a room, beside its talkers: noises come from there, all together diffuse


def write_bank(
    config: SceneConfig,
    out: str | Path,
    rooms: int,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
    cluster: str | None = None,
) -> Path:
    """Make the responses of rooms 0 to rooms - 1 of `config`; returns their manifest.

    Each room has its array, the places of its talkers and eight more anywhere; a WAV file (float32)
    holds the responses from one place to every microphone. Arguments, resuming and what it raises
    are those of `write_dataset`.
    """
    check_numbers(rooms, jobs)
    sample_scene(config, seed, 0)
    return _list(complete(_make, config, Path(out), rooms, seed, jobs, progress, cluster))


class Mixtures:
    """The mixtures first, first + step, ... of the data set `seed`, endless and in memory.

    Iterating gives `Mixture`s, each the one that `write_dataset` would write under that number.
    Workers that share the work take step = their number and first = which of them they are.
    """

    def __init__(self, config: SceneConfig, seed: int = 0, first: int = 0, step: int = 1) -> None:
        if first < 0 or step < 1:
            raise ValueError(f"expected first >= 0 and step >= 1, found {first} and {step}")
        self.config, self.seed, self.first, self.step = config, seed, first, step

    def __iter__(self) -> Iterator[Mixture]:
        """Begin again with `first`."""
        for index in count(self.first, self.step):
            yield draw_mixture(self.config, self.seed, index)[0]


def _make(config: SceneConfig, out: Path, seed: int, index: int) -> None:
    scene = sample_scene(config, seed, index)
    rng = np.random.default_rng([seed, index, 2])  # the scene's draws are [.., ..] and [.., .., 1]
    size, origin = np.asarray(scene.room_size_m), np.asarray(scene.origin_m)
    places = [np.asarray(talker.position_m) for talker in scene.talkers]
    places += [place_source(size, origin, rng) for _ in range(_NOISE_PLACES)]
    voices = mouths([*(talker.facing for talker in scene.talkers), *[None] * _NOISE_PLACES])
    rir = room_responses(scene, np.stack(places), rng, voices)
    folder = folder_of(out, index)
    with appearing(folder) as temporary:
        names = [f"{number:02d}.wav" for number in range(len(places))]
        for name, responses in zip(names, rir, strict=True):
            with new_sound(temporary / name, scene.fs, len(responses), "FLOAT", "WAV") as file:
                file.write(responses.T)
        record = {
            "index": index,
            "paths": {"responses": under(folder.relative_to(out).as_posix(), names)},
            "positions_m": [[round(float(v), 6) for v in place] for place in places],
            "seen": [seen_from(place, scene.origin_m, scene.rotation_deg) for place in places],
            "room_size_m": scene.room_size_m,
            "rt60_s": scene.rt60_s,
            "mics_m": scene.mics_m,
            "array": {"name": scene.array.name, "positions_m": scene.array.positions_m},
        }
        write_record(temporary, record)


def _list(manifest: Path) -> Path:
    """The manifest of rooms as one of responses, a line each, with its room and array."""
    lines = []
    for line in manifest.read_text(encoding="utf-8").splitlines():
        room = json.loads(line)
        common = {"room": room["index"], "array": room["array"]}
        places = zip(room["paths"]["responses"], room["positions_m"], room["seen"], strict=True)
        for path, position, (azimuth_deg, distance_m) in places:
            seen = {"azimuth_deg": azimuth_deg, "distance_m": distance_m}
            lines.append(json.dumps({"path": path, "position_m": position} | seen | common))
    responses = manifest.with_name("responses.jsonl")
    write_text(responses, "".join(f"{line}\n" for line in lines))
    return responses
