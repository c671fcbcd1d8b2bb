"""The processes of a run beside the first one: they end with it, and it says why they did not."""

from __future__ import annotations

import multiprocessing
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from clearbeam.console import BAD_INPUT, err, say_error
from simulate.workers import ONE_THREAD, environment

_LOOK_EVERY_S = 5.0
_GRACE_S = 30.0  # a step notices by itself that somebody has gone; waiting for him to come does not
# What PyTorch says where a process that loads clips, or one that shares gradients, has gone.
_GONE = re.compile(r"DataLoader worker \(pid|by peer|Broken pipe")
_DIED = (
    "a process of the training died, perhaps killed for memory; "
    "the same command goes on from the last checkpoint"
)

Work = Callable[[int], object]


@contextmanager
def beside(n: int, work: Work) -> Iterator[None]:
    """`work(rank)` for the ranks 1 to n - 1 in processes of their own; the block is rank 0.

    Raises what the block raises or, where it broke off because one of them had, what that one
    raised; ChildProcessError where one died, or one that loads clips for the block.
    """
    processes: list[SpawnProcess] = []
    told: list[Connection] = []
    with environment(_meeting_place() if n > 1 else {}):
        try:
            for rank in range(1, n):
                context = multiprocessing.get_context("spawn")
                ear, mouth = context.Pipe(duplex=False)
                told.append(ear)
                processes.append(context.Process(target=_run, args=(work, rank, mouth)))
                processes[-1].start()
            with _watched(processes, told):
                yield
            for process in processes:
                process.join(timeout=20)
        except (RuntimeError, BrokenPipeError) as error:
            if _GONE.search(str(error)) or _died(processes):
                raise _reason(told) from None
            raise
        except (ValueError, OSError) as error:
            raise _plain(error) from error
        finally:
            for process in processes:
                process.kill()


def _meeting_place() -> dict[str, str]:
    """The environment by which the processes find each other, the first one's rank among it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": "0"}
    # What the packages they import have to say, the first one has heard.
    return dict.fromkeys(ONE_THREAD, "1") | where | {"PYTHONWARNINGS": "ignore"}


def _run(work: Work, rank: int, mouth: Connection) -> None:
    """One of the processes; what its user can put right the first one says, in a line."""
    try:
        work(rank)
    except (ValueError, OSError) as error:
        plain = _plain(error)
        mouth.send(plain if isinstance(plain, OSError) else ValueError(str(plain)))
        sys.exit(BAD_INPUT)
    except RuntimeError as error:
        if _GONE.search(str(error)):
            sys.exit(BAD_INPUT)
        raise


def _plain(error: ValueError | OSError) -> ValueError | OSError:
    """What a process that loads clips met, without the traceback that PyTorch puts before it."""
    lines = str(error).splitlines()
    if not (lines and lines[0].startswith("Caught ")):
        return error
    return type(error)(lines[-1].partition(": ")[2])


def _reason(told: Sequence[Connection]) -> ValueError | OSError:
    """Why one of the processes is no more, where it said so."""
    for ear in told:
        with suppress(EOFError, OSError):
            if ear.poll():
                return ear.recv()
    return ChildProcessError(_DIED)


def _died(processes: Sequence[SpawnProcess]) -> bool:
    """Whether one of them did; what it was wanted for may notice a moment before the system."""
    for process in processes:
        process.join(timeout=1)
    return any(process.exitcode for process in processes)


@contextmanager
def _watched(processes: Sequence[SpawnProcess], told: Sequence[Connection]) -> Iterator[None]:
    """End this process where it would wait, half an hour and more, for one that has died."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_S):
            if any(process.exitcode for process in processes) and not over.wait(_GRACE_S):
                err.show_cursor()
                say_error(_reason(told))
                os._exit(BAD_INPUT)

    if not processes:
        yield
        return
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
