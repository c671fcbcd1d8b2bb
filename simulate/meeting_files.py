"""Data sets of meetings: as those of mixtures, with who said what when beside the sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from simulate.arrays import load_array
from simulate.dataset import record_of, under
from simulate.meeting import Meeting, MeetingConfig, draw_meeting, sample_meeting
from simulate.meeting_render import Block, meeting_blocks
from simulate.meeting_text import rttm, said_in, seglst, stm
from simulate.scene import Scene
from simulate.shards import (
    Progress,
    appearing,
    check_numbers,
    complete,
    folder_of,
    tell_unreadable,
    write_record,
)
from simulate.sound_files import open_sound, samples_24, sound_name
from simulate.workers import in_order

Paths = dict[str, str | list[str]]


def write_meetings(
    config: MeetingConfig,
    out: str | Path,
    count: int,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
    cluster: str | None = None,
) -> Path:
    """Make meetings 0 to count - 1 of the data set `seed`; returns the manifest.jsonl.

    Arguments, resuming and what it raises are those of `write_dataset`. A recording that cannot be
    read is replaced and reported as there.
    """
    _check(config, count, seed, jobs)
    done = 0.0

    def meetings(made: float, of: int) -> None:
        nonlocal done
        done = made
        if progress:
            progress(made, of)

    def share(made: float) -> None:
        if progress and made < 1:
            progress(done + made, count)

    # A meeting takes minutes; one made by another process cannot tell how far it is.
    make = (
        partial(write_meeting, progress=share) if jobs == 1 and cluster is None else write_meeting
    )
    manifest = complete(make, config, Path(out), count, seed, jobs, meetings, cluster)
    tell_unreadable(manifest)
    return manifest


def plan_meetings(config: MeetingConfig, count: int, seed: int = 0, jobs: int = 1) -> list[dict]:
    """Records, without paths, of the meetings that `write_meetings` would make."""
    _check(config, count, seed, jobs)
    return in_order(partial(_plan, config, seed), count, jobs)


def write_meeting(
    config: MeetingConfig,
    out: str | Path,
    seed: int,
    index: int,
    progress: Callable[[float], None] | None = None,
) -> Path:
    """Make the meeting number `index` of the data set `seed` in `out`; returns its folder.

    The folder has the place and the `record.json` of a mixture of `write_dataset`, and appears
    whole or not at all; one that is there is kept. Beside `mixture.flac` (WAV above eight channels,
    24 bits) and the references of the config: `segments.json` (SegLST), `segments.rttm`, and the
    transcript `segments.stm`. Their times are those of the mouths: the sound arrives some
    milliseconds later. Memory does not grow with the length.
    progress: called with the share done, 0 to 1. Raises ValueError where `draw_meeting` does.
    """
    out = Path(out)
    folder = folder_of(out, index)
    if (folder / "record.json").is_file():
        return folder
    meeting, unreadable = draw_meeting(config, seed, index)
    with appearing(folder) as temporary:
        early = "early" in config.references
        blocks = meeting_blocks(meeting.scene, early=early, heard=progress)
        paths = _write_audio(blocks, meeting.scene, config, temporary)
        paths |= _write_segments(meeting, f"{seed}-{index:07d}", temporary)
        prefix = folder.relative_to(out).as_posix()
        record = _record(meeting, {k: under(prefix, v) for k, v in paths.items()})
        write_record(temporary, record, unreadable)
    return folder


def _check(config: MeetingConfig, count: int, seed: int, jobs: int) -> None:
    """What cannot work fails here, before anything is written."""
    check_numbers(count, jobs)
    for name in config.array.names:
        load_array(name)
    sample_meeting(config, seed, 0)


def _plan(config: MeetingConfig, seed: int, index: int) -> dict:
    return _record(sample_meeting(config, seed, index), {})


def _record(meeting: Meeting, paths: Paths) -> dict:
    return record_of(meeting.scene, paths) | {
        "overlap_ratio": round(meeting.overlap_ratio, 4),
        "requested_overlap_ratio": round(meeting.requested_overlap_ratio, 4),
    }


def _write_segments(meeting: Meeting, session: str, folder: Path) -> Paths:
    """Write who said what when in every format; returns the names of the files by it."""
    paths: Paths = {}
    said = said_in(meeting)
    for name, write, suffix in (
        ("seglst", seglst, "json"),
        ("rttm", rttm, "rttm"),
        ("stm", stm, "stm"),
    ):
        paths[name] = f"segments.{suffix}"
        (folder / f"segments.{suffix}").write_text(write(said, session), encoding="utf-8")
    return paths


def _write_audio(
    blocks: Iterator[Block], scene: Scene, config: MeetingConfig, folder: Path
) -> Paths:
    """Write the blocks as they come; returns the names of the files by what they hold."""
    names: dict[str, str] = {}
    with ExitStack() as stack:
        files: dict[str, soundfile.SoundFile] = {}
        for block in blocks:
            for name, x in _channels(block, config).items():
                if name not in files:
                    file = open_sound(folder / name, len(x), scene.n_samples, scene.fs)
                    files[name] = stack.enter_context(file)
                    names[name] = sound_name(folder / name, len(x))
                files[name].write(samples_24(x))
    paths: Paths = {kind: names[kind] for kind in ("mixture", "noise") if kind in names}
    for kind in ("early", "image", "dry"):
        if kind in config.references:
            paths[kind] = [names[f"{kind}{k}"] for k in range(1, len(scene.talkers) + 1)]
    return paths


def _channels(block: Block, config: MeetingConfig) -> dict[str, np.ndarray]:
    """What goes to which file, (channels, samples)."""
    mics = slice(None) if config.reference_mics == "all" else slice(1)
    channels = {"mixture": block.mixture}
    if "noise" in config.references:
        channels["noise"] = block.noise[mics]
    for kind, parts in (
        ("early", block.early[:, mics]),
        ("image", block.image[:, mics]),
        ("dry", block.dry[:, None]),
    ):
        if kind in config.references:
            channels |= {f"{kind}{k}": x for k, x in enumerate(parts, 1)}
    return channels
