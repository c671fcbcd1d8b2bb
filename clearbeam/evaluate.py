"""Score systems on a dataset: every clip through every system, in parallel, and never twice."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

import multichannel
from clearbeam.clips import Clip, ClipFiles, list_clips
from clearbeam.files import check_writable, replacing
from clearbeam.ledger import Ledger, Row, fingerprint
from clearbeam.report import Report
from clearbeam.scores import Speed
from clearbeam.systems import DEFAULT_SYSTEMS, System, check_system, make_system, system_files
from clearbeam.tasks import TASKS, Estimate, find_task
from simulate.workers import ONE_THREAD, environment

Progress = Callable[[int, int], None]

WARM_UP_S = 1.0
# The code and weights that scores depend on; a change there makes remembered scores worthless.
_SCORED_BY = (
    Path(multichannel.__path__[0]),
    *(Path(__file__).with_name(f"{name}.py") for name in ("clips", "metrics", "systems", "tasks")),
)


def evaluate_dataset(
    dataset: str | Path,
    systems: Sequence[str] | None = None,
    *,
    task: str = "enhance",
    jobs: int = 1,
    limit: int | None = None,
    metrics: Sequence[str] | None = None,
    baseline: str = "noisy",
    json_path: str | Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run every system on every clip of a simulated dataset and score what comes out.

    dataset: folder or manifest.jsonl. systems: names (see `clearbeam.systems`); `baseline` is added
    in front when it is not among them. metrics: names of `TASKS[task].columns()`; by default all
    whose packages are installed, with a warning for the others. limit: only the first clips.
    jobs: processes, each with one thread. json_path: where the report goes as JSON; clips already
    scored are remembered in a .jsonl file beside it, so that the same call resumes.
    progress: called with (done, total), counted in clips times systems.

    The real-time factor is processor time, not time on the clock, so that neither other processes
    nor `jobs` show in it. Raises ValueError for an unknown name or a dataset that is none,
    ImportError for a metric whose package is missing, RuntimeError when a system fails on a clip.
    """
    chosen = find_task(task).columns(metrics)
    names = _with_baseline(systems or DEFAULT_SYSTEMS, baseline)
    for name in names:
        check_system(name)
    files = list_clips(dataset, limit)
    if jobs < 1:
        raise ValueError(f"expected at least 1 job, found {jobs}")
    if json_path is not None:
        check_writable(Path(json_path))
    ledger = Ledger(None if json_path is None else _beside(Path(json_path)))
    job = _Job(task, tuple(column.name for column in chosen))
    rows = _score_all(files, names, job, ledger, jobs, progress)
    conditions = {clip.name: clip.conditions for clip in files}
    report = Report(
        str(dataset), task, tuple(chosen), tuple(names), baseline, tuple(rows), conditions
    )
    if json_path is not None:
        with replacing(Path(json_path)) as partial:
            partial.write_text(
                json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8"
            )
    return report


@dataclass(frozen=True)
class _Job:
    """What is to be measured; small, for it travels to every process."""

    task: str
    metrics: tuple[str, ...]


class _Worker:
    """The systems of one process, made when first needed."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.systems: dict[str, System] = {}

    def score(self, files: ClipFiles, names: Sequence[str]) -> list[Row]:
        """The rows of one clip."""
        clip = files.load()
        return [self._row(clip, name) for name in names]

    def _row(self, clip: Clip, name: str) -> Row:
        if name not in self.systems:
            self.systems[name] = make_system(name)
            # First calls allocate and compile; that is not the speed of the system.
            _run(self.systems[name], name, clip.head(WARM_UP_S))
        start = time.process_time()
        estimate = _run(self.systems[name], name, clip)
        speed = Speed(time.process_time() - start, clip.seconds)
        values = TASKS[self.job.task].score(clip, estimate, self.job.metrics)
        return Row(clip.name, name, values, speed)


def _run(system: System, name: str, clip: Clip) -> Estimate:
    """A system's estimate (samples,), checked; its error says where it came from."""
    try:
        with torch.inference_mode():
            estimate = system(clip.mixture, clip)
    except Exception as error:
        raise RuntimeError(f"{name} failed on clip {clip.name}: {error!r}") from error
    if estimate.shape != clip.mixture.shape[-1:]:
        raise RuntimeError(
            f"expected samples of shape {tuple(clip.mixture.shape[-1:])} from {name} "
            f"on clip {clip.name}, found {tuple(estimate.shape)}"
        )
    return np.asarray(estimate.numpy(), np.float32)


def _score_all(
    files: Sequence[ClipFiles],
    names: Sequence[str],
    job: _Job,
    ledger: Ledger,
    jobs: int,
    progress: Progress | None,
) -> list[Row]:
    """All rows, by clip, then system, in the order given; only unknown ones are computed."""
    code = fingerprint(*_SCORED_BY)
    keys = {
        (clip.name, name): fingerprint(job.task, code, clip.stamp(), name, *system_files(name))
        for clip in files
        for name in names
    }
    found = {place: ledger.find(key, job.metrics) for place, key in keys.items()}
    rows = {place: row for place, row in found.items() if row is not None}
    todo = [(clip, [n for n in names if (clip.name, n) not in rows]) for clip in files]
    progress = progress or (lambda done, total: None)
    progress(len(rows), len(keys))
    for done in _each(job, [(clip, missing) for clip, missing in todo if missing], jobs):
        for row in done:
            rows[row.clip, row.system] = row
            ledger.add(keys[row.clip, row.system], row)
        progress(len(rows), len(keys))
    return [rows[place] for place in keys]


def _each(job: _Job, todo: Sequence[tuple[ClipFiles, list[str]]], jobs: int) -> Iterator[list[Row]]:
    """Score clips here or in fresh processes, in any order."""
    if min(jobs, len(todo)) <= 1:
        worker = _Worker(job)
        for clip, names in todo:
            with _one_thread():
                rows = worker.score(clip, names)
            yield rows
        return
    with environment(dict.fromkeys(ONE_THREAD, "1")):
        pool = ProcessPoolExecutor(
            min(jobs, len(todo)), get_context("spawn"), initializer=_start, initargs=(job,)
        )
        try:
            futures = [pool.submit(_score_here, clip, names) for clip, names in todo]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise RuntimeError(
                "expected every process to live, found one killed (out of memory?); "
                "the same call with a json_path goes on where it stopped"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


_here: _Worker  # of a spawned process, set once when it starts


def _start(job: _Job) -> None:
    global _here
    torch.set_num_threads(1)
    _here = _Worker(job)


def _score_here(files: ClipFiles, names: Sequence[str]) -> list[Row]:
    return _here.score(files, names)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _with_baseline(systems: Sequence[str], baseline: str) -> list[str]:
    names = list(dict.fromkeys(systems))
    return names if baseline in names else [baseline, *names]


def _beside(json_path: Path) -> Path:
    return json_path.with_name(json_path.stem + ".clips.jsonl")
