"""What a disk refuses, told in time and with the name of the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
