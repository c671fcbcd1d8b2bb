"""Score systems on a dataset: every clip through every system, in parallel, and never twice."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

import multichannel
import separation
from clearbeam.beams import System
from clearbeam.clips import Clip, ClipFiles, list_clips
from clearbeam.files import check_writable, replacing
from clearbeam.ledger import Ledger, Row, fingerprint
from clearbeam.report import Report
from clearbeam.scores import Speed
from clearbeam.tasks import Estimate, find_task
from simulate.workers import for_each

Progress = Callable[[int, int], None]

WARM_UP_S = 1.0
# The code that scores depend on; a change there makes remembered scores worthless. Weights count
# for the systems that use them (`system_files`).
_MODULES = ("beams", "clips", "dnsmos", "metrics", "systems", "tasks", "wpe")
_MODULES_OF_SEPARATION = ("blind", "matching", "separators")


def evaluate_dataset(
    dataset: str | Path,
    systems: Sequence[str] | None = None,
    *,
    task: str = "enhance",
    jobs: int = 1,
    limit: int | None = None,
    metrics: Sequence[str] | None = None,
    baseline: str = "noisy",
    dnsmos: str | Path | None = None,
    json_path: str | Path | None = None,
    markdown_path: str | Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run every system on every clip of a dataset and score what comes out.

    dataset: folder or manifest.jsonl. systems: names (see `clearbeam.systems`); `baseline` is added
    in front when it is not among them. metrics: names of `Task.columns()`; by default all whose
    packages are installed, with a warning for the others. limit: only the first clips.
    jobs: processes, each with one thread. dnsmos: the published model's file, for its columns.
    json_path: where the report goes as JSON; clips already scored are remembered in a .jsonl file
    beside it, so that the same call resumes. markdown_path: where its tables go.
    progress: called with (done, total), counted in clips times systems.

    The real-time factor is processor time, not time on the clock, so that neither other processes
    nor `jobs` show in it. Raises ValueError for an unknown name or a dataset that is none,
    ImportError for what needs a package that is missing, RuntimeError when a system fails on a
    clip, ChildProcessError when a process was killed.
    """
    dnsmos = None if dnsmos is None else Path(dnsmos)
    asked = find_task(task, dnsmos)
    chosen = asked.columns(metrics)
    names = _with_baseline(systems or asked.systems.DEFAULT_SYSTEMS, baseline)
    for name in names:
        asked.systems.check_system(name)
    files = list_clips(dataset, limit, asked.images)
    ledger = check_reports(jobs, json_path, markdown_path)
    job = _Job(task, tuple(column.name for column in chosen), dnsmos)
    rows = _score_all(files, names, job, ledger, jobs, progress)
    conditions = {clip.name: clip.conditions for clip in files}
    report = Report(
        str(dataset), task, tuple(chosen), tuple(names), baseline, tuple(rows), conditions
    )
    write_reports(report, json_path, markdown_path)
    return report


@dataclass(frozen=True)
class _Job:
    """What is to be measured; small, for it travels with every clip."""

    task: str
    metrics: tuple[str, ...]
    dnsmos: Path | None
    run: str = ""  # every run makes its systems anew


class _Worker:
    """The task and the systems of one process, made when first needed."""

    def __init__(self, job: _Job) -> None:
        self.job, self.task = job, find_task(job.task, job.dnsmos)
        self.systems: dict[str, System] = {}

    def score(self, files: ClipFiles, names: Sequence[str]) -> list[Row]:
        """The rows of one clip."""
        clip = files.load()
        return [self._row(clip, name) for name in names]

    def _row(self, clip: Clip, name: str) -> Row:
        if name not in self.systems:
            self.systems[name] = self.task.systems.make_system(name)
            # First calls allocate and compile; that is not the speed of the system.
            self._run(name, clip.head(WARM_UP_S))
        start = time.process_time()
        estimate = self._run(name, clip)
        speed = Speed(time.process_time() - start, clip.seconds)
        values = self.task.score(clip, estimate, self.job.metrics)
        return Row(clip.name, name, values, speed)

    def _run(self, name: str, clip: Clip) -> Estimate:
        """A system's estimate, checked; its error says where it came from."""
        try:
            with torch.inference_mode():
                estimate = self.systems[name](clip.mixture, clip)
        except Exception as error:
            raise RuntimeError(f"{name} failed on clip {clip.name}: {error!r}") from error
        expected = self.task.shape(clip)
        if not _fits(tuple(estimate.shape), expected):
            shape = ", ".join("streams" if n is None else str(n) for n in expected)
            shape += "," * (len(expected) == 1)
            raise RuntimeError(
                f"expected samples of shape ({shape}) from {name} "
                f"on clip {clip.name}, found {tuple(estimate.shape)}"
            )
        return np.asarray(estimate.numpy(), np.float32)


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether a shape is the expected one, whose None is any number from 1 on."""
    return len(shape) == len(expected) and all(
        n > 0 if wanted is None else n == wanted for n, wanted in zip(shape, expected, strict=True)
    )


def _score_all(
    files: Sequence[ClipFiles],
    names: Sequence[str],
    job: _Job,
    ledger: Ledger,
    jobs: int,
    progress: Progress | None,
) -> list[Row]:
    """All rows, by clip, then system, in the order given; only unknown ones are computed."""
    common = fingerprint(job.task, *_code(job.task), *([job.dnsmos] if job.dnsmos else []))
    systems = find_task(job.task, job.dnsmos).systems
    of_system = {name: fingerprint(name, *systems.system_files(name)) for name in names}
    keys = {
        (clip.name, name): fingerprint(common, clip.stamp(), of_system[name])
        for clip in files
        for name in names
    }
    work = partial(_score_clip, _Job(**{**vars(job), "run": uuid.uuid4().hex}))
    return remembered(keys, files, work, ledger, job.metrics, jobs, progress)


def remembered(
    keys: Mapping[tuple[str, str], str],
    files: Sequence[ClipFiles],
    work: Callable[[tuple[ClipFiles, list[str]]], list[Row]],
    ledger: Ledger,
    metrics: Sequence[str],
    jobs: int,
    progress: Progress | None,
) -> list[Row]:
    """The rows of all (clip, system), in the order of their keys; only unknown ones are computed.

    work: the rows of a clip for some systems, of these metrics.
    """
    found = {place: ledger.find(key, metrics) for place, key in keys.items()}
    rows = {place: row for place, row in found.items() if row is not None}
    names = list(dict.fromkeys(system for _, system in keys))
    missing = [(clip, [n for n in names if (clip.name, n) not in rows]) for clip in files]
    todo = [(clip, systems) for clip, systems in missing if systems]
    progress = progress or (lambda done, total: None)
    progress(len(rows), len(keys))
    for done in for_each(work, todo, jobs, again=ledger.again):
        for row in done:
            rows[row.clip, row.system] = row
            ledger.add(keys[row.clip, row.system], row)
        progress(len(rows), len(keys))
    return [rows[place] for place in keys]


def check_reports(
    jobs: int, json_path: str | Path | None, markdown_path: str | Path | None
) -> Ledger:
    """What has been scored already, beside the JSON; ValueError where nothing can be written."""
    if jobs < 1:
        raise ValueError(f"expected at least 1 job, found {jobs}")
    for path in (json_path, markdown_path):
        if path is not None:
            check_writable(Path(path))
    return Ledger(None if json_path is None else _beside(Path(json_path)))


def write_reports(
    report: Report, json_path: str | Path | None, markdown_path: str | Path | None
) -> None:
    """The report as JSON and as Markdown, where they are wanted."""
    if json_path is not None:
        text = json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n"
        _write(Path(json_path), text)
    if markdown_path is not None:
        _write(Path(markdown_path), report.to_markdown())


def _code(task: str) -> list[Path]:
    """The code that scores of a task depend on."""
    rooms, modules = [multichannel], list(_MODULES)
    if task == "separate":
        rooms, modules = [*rooms, separation], [*modules, *_MODULES_OF_SEPARATION]
    folders = [Path(room.__path__[0]) for room in rooms]
    code = ("*.py", "native/*.cpp", "native/*.h")
    files = [path for one in folders for kind in code for path in sorted(one.glob(kind))]
    return files + [Path(__file__).with_name(f"{name}.py") for name in modules]


def _score_clip(job: _Job, todo: tuple[ClipFiles, list[str]]) -> list[Row]:
    with one_thread():
        return _worker(job).score(*todo)


@lru_cache(maxsize=1)
def _worker(job: _Job) -> _Worker:
    return _Worker(job)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread meanwhile."""
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


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial_file:
        partial_file.write_text(text, encoding="utf-8")
