"""One piece of work for every item: in this process, in several, or on a Dask cluster.

Several processes of one machine need no package beside the standard library and start in half a
second, so Dask is for more than one machine. The work decides by its item alone what it does, so
that it does not matter where, when and in what order that is.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import resource_tracker
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from simulate.disk import tidy_up
from simulate.interrupts import no_ctrl_c_for_children

S = TypeVar("S")
T = TypeVar("T")

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PRA_NUM_THREADS")
# glibc gives large blocks back at once and pays with page faults for the next ones: on a virtual
# machine that took two thirds of the time. A worker keeps what it freed.
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}
_AHEAD = 1000  # tasks a cluster holds at most: a million at once would only fill its memory
_CONNECT_S = 20
_GRACE_S = 10
_BLOCK = 100  # indices to a task where each takes a moment
_ALONE = threading.Lock()


def for_each(
    work: Callable[[S], T],
    items: Sequence[S],
    jobs: int = 1,
    cluster: str | None = None,
    again: str = "the same command goes on from here",
) -> Iterator[T]:
    """Results of `work` for all items, as they get done and so in any order.

    jobs: processes to start here, each with one thread; 1 works in this process.
    cluster: address of a Dask scheduler (`tcp://host:8786`) or its scheduler file, instead of jobs.
    Its workers see the same files under the same names and have this package installed.
    again: what to do where a process died, in words.
    Raises what the work raises; ChildProcessError when a process dies, OSError when the cluster
    does not answer, ImportError without Dask.
    """
    if cluster is not None:
        return _on_cluster(work, items, cluster, again)
    if jobs == 1 or len(items) < 2:
        return map(work, items)
    return _in_processes(work, items, min(jobs, len(items)), again)


def in_order(work: Callable[[int], T], count: int, jobs: int = 1) -> list[T]:
    """Results of `work`, quick work, for 0 to count - 1 in their order; `for_each` in blocks."""
    size = min(_BLOCK, -(-count // jobs))
    blocks = for_each(partial(_block, work, count, size), range(0, count, size), jobs)
    return [result for _, results in sorted(blocks, key=itemgetter(0)) for result in results]


def _block(work: Callable[[int], T], count: int, size: int, first: int) -> tuple[int, list[T]]:
    return first, [work(index) for index in range(first, min(first + size, count))]


def _in_processes(work: Callable[[S], T], items: Sequence[S], jobs: int, again: str) -> Iterator[T]:
    context = multiprocessing.get_context("spawn")
    _quiet_tracker()
    left = iter(items)
    with (
        environment(dict.fromkeys(ONE_THREAD, "1") | _KEEP_MEMORY),
        ProcessPoolExecutor(jobs, context, initializer=_begin) as pool,
    ):
        # All processes start together: of one that dies while others start, CPython 3.11 makes a
        # traceback, or waits for those without end.
        pool._safe_to_dynamically_spawn_children = False  # type: ignore[attr-defined]

        def submit(n: int) -> set[Future[T]]:
            try:
                with no_ctrl_c_for_children():
                    return {pool.submit(work, item) for item in islice(left, n)}
            except BrokenPipeError:  # one died before it heard what it was started for
                raise BrokenProcessPool from None

        try:
            running = submit(2 * jobs)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= submit(len(done))
                for future in done:
                    yield future.result()
        except BaseException as error:  # nobody waits for the rest
            for process in list(pool._processes.values()):  # the pool forgets those just started
                process.terminate()
            if not isinstance(error, BrokenProcessPool):
                raise
            raise ChildProcessError(
                "a worker process died, perhaps killed for memory; "
                f"{again}, with fewer --jobs if need be"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _quiet_tracker() -> None:
    """Start what clears away after this process, so that it says nothing where that is killed."""
    if os.name == "posix":
        with environment({"PYTHONWARNINGS": "ignore"}):
            resource_tracker.ensure_running()


def _begin() -> None:
    """Prepare a worker: it ends with its parent, or when told to."""
    end_with_parent()
    signal.signal(signal.SIGTERM, leave)


def leave(*_: object) -> None:
    """Take SIGTERM: leave at once, with nothing half done left.

    An exception would be lost where a library calls back, and the work go on.
    """
    tidy_up()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def end_with_parent() -> None:
    """Let this worker end when the process that started it is killed; it would wait forever."""
    parent = multiprocessing.parent_process()

    def end() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_GRACE_S)  # what is under way in another language hears no signal
            os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def _on_cluster(
    work: Callable[[S], T], items: Sequence[S], address: str, again: str
) -> Iterator[T]:
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise ImportError("expected Dask for a cluster: pip install 'clearbeam[cluster]'") from None
    file = Path(address).is_file()
    if not file and re.search(r":\d+$", address) is None:
        raise ValueError(
            f"expected a scheduler's address like tcp://host:8786, or its file, found {address}"
        )
    where = {"scheduler_file" if file else "address": address}
    task, left = partial(_alone, work), iter(items)
    with Client(**where, timeout=_CONNECT_S, set_as_default=False) as client:

        def submit(n: int) -> list:
            return [client.submit(task, item, pure=False) for item in islice(left, n)]

        running = as_completed(submit(_AHEAD), loop=client.loop)
        for future in running:
            running.update(submit(1))
            try:
                yield future.result()
            except KilledWorker:  # after those that tried it again
                raise ChildProcessError(
                    f"workers of the cluster died, perhaps killed for memory; {again}"
                ) from None


def _alone(work: Callable[[S], T], item: S) -> T:
    """One at a time: settings of pyroomacoustics are global to a process, and threads share it."""
    with _ALONE:
        return work(item)


@contextmanager
def environment(changes: dict[str, str]) -> Iterator[None]:
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
