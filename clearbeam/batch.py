"""Many recordings: worker processes, the largest first, and a bad one harms no other."""

from __future__ import annotations

import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from clearbeam.audio import UNKNOWN_LENGTH, Recording
from clearbeam.console import DEBUG
from clearbeam.enhance import Settings, enhance_recording, load_enhancer
from simulate.disk import scratch_folder
from simulate.workers import for_each

_SECONDS = struct.Struct("d")
_LISTEN_EVERY_S = 0.3

Tell = Callable[[float], object]
Job = tuple[Recording, Path]  # what is enhanced, and into which file


class Networks(NamedTuple):
    """What `load_enhancer` is asked for."""

    model: str = "default"
    device: str = "auto"
    precision: str = "fp32"
    latency_ms: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How one recording went: what to warn of, and the error where there is no output."""

    job: Job
    warnings: tuple[str, ...]
    error: Exception | None


def enhance_many(
    jobs: Sequence[Job],
    networks: Networks,
    settings: Settings,
    processes: int = 1,
    on_seconds: Tell = lambda seconds: None,
) -> Iterator[Outcome]:
    """Enhance every recording, the same bytes for any number of processes.

    The largest go first, so that no process is left alone with a long one at the end. `on_seconds`
    hears how many seconds each finished block lasts; it is called from another thread where there
    are several processes. Yields outcomes as they come. Raises ValueError for no such networks,
    ChildProcessError when a process dies.
    """
    _enhancer.cache_clear()
    largest_first = sorted(jobs, key=_size, reverse=True)
    with _heard_here(on_seconds, processes) as tell:
        work = partial(_enhance, networks, settings, tell)
        again = "the same command with --resume goes on"
        yield from for_each(work, largest_first, processes, again=again)


def _size(job: Job) -> float:
    """Of the work: how long, for how many mics."""
    recording, _ = job
    if recording.n_samples == UNKNOWN_LENGTH:
        return float("inf")
    return recording.n_samples / recording.sample_rate * recording.n_mics


def _enhance(networks: Networks, settings: Settings, on_seconds: Tell, job: Job) -> Outcome:
    """One recording. What is wrong with the networks is raised: no other would fare better."""
    enhancer = _enhancer(*networks)
    error: Exception | None = None
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        try:
            enhance_recording(enhancer, *job, settings, on_seconds)
        except (ValueError, OSError) as found:
            if os.environ.get(DEBUG):
                raise
            error = found
    return Outcome(job, tuple(str(one.message) for one in heard), error)


_enhancer = lru_cache(maxsize=1)(load_enhancer)


@contextmanager
def _heard_here(tell: Tell, processes: int) -> Iterator[Tell]:
    """A function that has `tell` called in this process, from whichever process it is called.

    Through a file that all append to: it can neither block nor fail when somebody is stopped.
    """
    if processes == 1:
        yield tell
        return
    end = threading.Event()
    with scratch_folder() as folder:
        path = folder / "seconds"
        path.touch()
        listener = threading.Thread(target=_listen, args=(path, tell, end))
        listener.start()
        try:
            yield partial(_append, path)
        finally:
            end.set()
            listener.join()


def _append(path: Path, seconds: float) -> None:
    with path.open("ab") as file:
        file.write(_SECONDS.pack(seconds))


def _listen(path: Path, tell: Tell, end: threading.Event) -> None:
    with path.open("rb") as file:
        last = False
        while not last:
            last = end.wait(_LISTEN_EVERY_S)
            for (seconds,) in _SECONDS.iter_unpack(file.read()):
                tell(seconds)
