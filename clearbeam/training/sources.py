"""Clips for a run: from where the config says, computed once and kept where they can be."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from clearbeam.console import progress
from clearbeam.training.config import Simulated, TrainConfig, relative
from multichannel.augment import ON_SPECTRA, augment
from multichannel.cache import CachedClips, FrontEnd, create_cache, is_cache, write_row
from multichannel.data import Clip, PackedClips, Recorded, Source, levelled, pack, records_of
from multichannel.enhance import LONGEST_MS, SAMPLE_RATE, stft_of_latency
from multichannel.weights import find_weights
from simulate.disk import allocate, naming

_MICS = 5  # first number of a generator's seed: what happens to a clip at its microphones


class Drawn:
    """Endless mixtures of a scene, made when they are asked for."""

    lengths: np.ndarray | None = None

    def __init__(self, scene: Simulated) -> None:
        from clearbeam.training.simulated import scene_of

        self.scene, self.seed = scene_of(scene), scene.seed

    def clip(self, index: int) -> Clip:
        from simulate.dataset import draw_mixture

        mixture, _ = draw_mixture(self.scene, self.seed, index)
        early = mixture.early[:, 0].sum(0)
        clip = {"mixture": mixture.mixture, "early": early}
        return levelled({name: x.astype(np.float32) for name, x in clip.items()})


class Fronted:
    """Clips of another source, augmented at the microphones, after the front-end.

    Args:
        source: of waveforms.
        config: of the run; `which` of its two sets this is.
    """

    def __init__(self, source: Source, config: TrainConfig, which: str) -> None:
        self.source, self.seed = source, config.seed
        self.chosen = waveform_augmentations(config) if which == "train" else {}
        data, stft = config.data, stft_of_latency(config.latency_ms)
        self.front_end = FrontEnd(data.mono, data.before, data.causal_every, stft)
        times = config.data.times if which == "train" else 1
        self.lengths = None if source.lengths is None else np.tile(source.lengths, times)

    def clip(self, index: int) -> Clip:
        lengths = self.source.lengths
        clip = self.source.clip(index if lengths is None else index % len(lengths))
        rng = np.random.default_rng([_MICS, self.seed, index])
        return self.front_end(augment(clip, self.chosen, rng), index)


def waveform_augmentations(config: TrainConfig) -> dict[str, dict]:
    """Those that happen before the front-end."""
    return {name: v for name, v in config.augment.items() if name not in ON_SPECTRA}


def open_source(
    config: TrainConfig,
    which: str,
    folder: Path,
    front_end: bool = False,
    n_mics: int | None = None,
) -> Source:
    """The clips `train` or `valid` of a config.

    What takes long is computed at the first call, under a progress bar, and kept.

    Args:
        config: of the run.
        which: `train` or `valid`.
        folder: of the run: simulated data sets go there, and caches, unless `data.cache` is set.
        front_end: clips after the front-end instead of waveforms.
        n_mics: first mics only of waveforms.

    Raises:
        ValueError: the config names something that is not there or does not fit the task.
    """
    where = located(config, which, folder)
    if isinstance(where, Simulated):
        drawn = Drawn(where)
        return Fronted(drawn, config, which) if front_end else drawn
    if is_cache(where):
        return _ready_cache(config, where, which, front_end)
    if front_end:
        return CachedClips(_front_end_cache(config, where, which, cache_of(config, folder)))
    packed = partial(pack, n_mics=n_mics)
    return PackedClips(kept_clips(config, where, cache_of(config, folder), "clips", packed, n_mics))


def located(config: TrainConfig, which: str, folder: Path) -> Path | Simulated:
    """The folder of a data set, made now where the config asks for it; or a scene to draw from."""
    where = getattr(config.data, which)
    if isinstance(where, Simulated):
        if where.count is None:
            return where
        from clearbeam.training.simulated import make_data_set

        return make_data_set(where, folder / "data" / which, config.processes)
    path = relative(where)
    if not path.is_dir():
        raise ValueError(f"data.{which}: expected a folder of `clearbeam simulate`, found {path}")
    return path


def cache_of(config: TrainConfig, folder: Path) -> Path:
    """Where what is computed once is kept."""
    return relative(config.data.cache) if config.data.cache else folder / "cache"


def _ready_cache(config: TrainConfig, path: Path, which: str, front_end: bool) -> Source:
    if not front_end:
        raise ValueError(
            f"data.{which}: expected waveforms for the task {config.task}, found a cache of the "
            f"front-end, {path}"
        )
    lost = list(waveform_augmentations(config))
    if which == "train" and lost:
        raise ValueError(
            f"data.train: expected a data set to augment by {lost[0]}, found a cache of the "
            f"front-end, {path}"
        )
    clips = CachedClips(path, config.data.limit)
    if clips.n_spectra != _n_spectra(config):
        raise ValueError(
            f"data.{which}: expected {_n_spectra(config)} spectra a clip for the task "
            f"{config.task}, found {clips.n_spectra} in the cache {path}"
        )
    return clips


def _n_spectra(config: TrainConfig) -> int:
    """Beam, reference mic and, where there was a pass before, its estimate."""
    return 3 if config.data.before else 2


def kept_clips(
    config: TrainConfig,
    path: Path,
    cache: Path,
    kind: str,
    pack: Callable[[list[dict], Path], None],
    *facts: object,
) -> Path:
    """Folder of what `pack` makes of the records of a data set; `facts` are what it depends on."""
    limit = config.data.limit
    records = records_of(path)[:limit]
    check_records(records, path)
    folder = cache / f"{kind}-{digest([identity(path), limit, *facts])}"
    if not folder.is_dir():
        part = _part_of(folder)
        with progress() as bar, naming(folder):
            bar.add_task(f"reading {path}", total=None)
            pack(records, part)
        part.rename(folder)
    return folder


def _front_end_cache(config: TrainConfig, path: Path, which: str, cache: Path) -> Path:
    """Folder of what the front-end makes of a data set; a broken one is completed."""
    data = config.data
    check_records(records_of(path)[: data.limit], path)
    known = [file_digest(find_weights(name)) for name in (data.mono, *data.before)]
    facts: list = [identity(path), data.limit, known, data.causal_every]
    changed = waveform_augmentations(config)
    if which == "train" and (changed or data.times > 1):
        facts += [data.times, changed, config.seed]
    if config.latency_ms != LONGEST_MS:
        facts.append(config.latency_ms)
    lengths = Fronted(Recorded(path, data.limit), config, which).lengths
    assert lengths is not None
    create = partial(create_cache, lengths=lengths, n_spectra=_n_spectra(config))
    work = partial(_write_row, config.model_dump_json(), which, path)
    return completed(cache / f"front-end-{digest(facts)}", len(lengths), create, work, config)


def completed(
    folder: Path,
    n_units: int,
    create: Callable[[Path], None],
    work: Callable[[Path, int], int],
    config: TrainConfig,
) -> Path:
    """A cache that is there with all of its rows; a broken one is completed.

    Args:
        folder: the cache.
        n_units: of work.
        create: makes the empty arrays in a folder.
        work: puts what belongs to one unit there, and returns its number; any process may.
        config: says how many processes.
    """
    if folder.is_dir():
        return folder
    part = folder.with_name(f".{folder.name}.part")
    if not (part / "done.npy").is_file():
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        create(part)
        for array in part.glob("*.npy"):
            allocate(array)
        np.save(part / "done.npy", np.zeros(n_units, np.uint8))
    _fill(part, partial(work, part), config)
    (part / "done.npy").unlink()
    part.rename(folder)
    return folder


def _fill(part: Path, work: Callable[[int], int], config: TrainConfig) -> None:
    """Every row that is not done, in as many processes as training has at its hands."""
    from simulate.workers import for_each

    done = open_memmap(part / "done.npy", "r+")
    todo = np.flatnonzero(done == 0).tolist()
    jobs = max(config.processes, config.data.workers)
    with progress() as bar:
        task = bar.add_task("front-end", total=len(done), completed=len(done) - len(todo))
        for row in for_each(work, todo, jobs):
            done[row] = 1
            bar.advance(task)


def _write_row(config: str, which: str, path: Path, part: Path, row: int) -> int:
    write_row(part, row, _fronted(config, which, path).clip(row))
    return row


@lru_cache(maxsize=1)
def _fronted(config: str, which: str, path: Path) -> Fronted:
    """The same source in every process that works on a cache."""
    import torch

    from multichannel.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    parsed = TrainConfig.model_validate_json(config)
    return Fronted(Recorded(path, parsed.data.limit), parsed, which)


def check_records(records: list[dict], path: Path) -> None:
    """Raise ValueError where a data set has no mixtures, or not at 16 kHz."""
    if not records:
        raise ValueError(f"expected mixtures in {path}, found none")
    rates = {record["fs"] for record in records}
    if rates != {SAMPLE_RATE}:
        raise ValueError(f"expected mixtures at {SAMPLE_RATE} Hz in {path}, found {sorted(rates)}")


def _part_of(folder: Path) -> Path:
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def identity(path: Path) -> str:
    """What a data set is known by: its manifest's bytes."""
    manifest = path / "manifest.jsonl"
    if not manifest.is_file():
        raise ValueError(f"expected a data set with a manifest.jsonl, found no file {manifest}")
    return f"{path.resolve()}:{file_digest(manifest)}"


def file_digest(path: Path) -> str:
    """What a file is known by: its bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(facts: list) -> str:
    """A short name for what something was made of."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
