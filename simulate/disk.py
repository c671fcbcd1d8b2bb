"""What a disk refuses, told in time and by name, and what is half done on it, taken away."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

_half_done: list[Callable[[], object]] = []  # how to take away what is half done, the oldest first
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path` in the OSError of a full disk: once a file is open the system leaves it out."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_ROOM:
            error.filename = str(path)
        raise


def allocate(path: Path) -> None:
    """Have the disk set aside all of a file that is written through a map of it in memory.

    Where there is no room, OSError now; later the system would end the process without a word.
    """
    if hasattr(os, "posix_fallocate"):  # Linux
        with naming(path), path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def write_text(path: Path, text: str) -> None:
    """Write a file that appears complete under its name."""
    temporary = path.with_name(f".{path.name}.part")
    with naming(path):
        temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


@contextmanager
def tidying(tidy: Callable[[], object]) -> Iterator[None]:
    """Call `tidy` after the block, also where this process is told to leave inside of it.

    It may be called twice, and in the middle of anything that the block does.
    """
    _half_done.append(tidy)
    try:
        yield
    finally:
        try:
            tidy()
        finally:
            _half_done.remove(tidy)


def tidy_up() -> None:
    """Take away all that is half done, for a process that leaves at once.

    An exception would tidy up as well, but not one that comes while a library calls back: that one
    is printed and forgotten, and the work goes on.
    """
    while _half_done:
        with suppress(OSError):
            _half_done.pop()()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of its own, gone after the block."""
    folder = Path(tempfile.mkdtemp(prefix="clearbeam-"))
    with tidying(partial(shutil.rmtree, folder, ignore_errors=True)):
        yield folder
