"""Results appear whole under their final name, or not at all."""

from __future__ import annotations

import glob
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simulate.disk import naming, tidying

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_HOST = platform.node()  # folders may be shared, numbers of processes are not
_held: set[int] = set()  # handles of folders


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; it becomes `path`, or on failure nothing is left.

    Missing parent folders are made, and those made here are removed again on failure. The suffix is
    kept, because writers choose the format by it. What a process that was killed had left of the
    same file is removed. Raises OSError where nothing can be written.
    """
    made = make_folder(path.parent)
    _remove_abandoned(path)
    partial = path.with_name(f".{path.stem}.{_HOST}-{os.getpid()}.partial{path.suffix}")

    def tidy() -> None:
        partial.unlink(missing_ok=True)
        remove_empty(made)

    with tidying(tidy), naming(path):
        yield partial
        os.replace(partial, path)


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files of `path` whose process, on this machine, is no more."""
    begin = f".{path.stem}.{_HOST}-"
    for partial in path.parent.glob(f"{glob.escape(begin)}*.partial*"):
        pid = partial.name[len(begin) :].split(".")[0]
        if pid.isdecimal() and not _alive(int(pid)):
            partial.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def make_folder(folder: Path) -> list[Path]:
    """Make `folder` with its parents; return those that did not exist, the deepest first."""
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Remove those of `folders` that are empty, in the given order."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make `folder` with its parents, and hold it against other processes within the block.

    Raises ValueError where another one holds it. What holds it ends with this process, whatever
    ends that; where the system or the disk has no locks, nothing is held. Folders made here that
    are empty in the end are removed.
    """
    made = make_folder(folder)
    with tidying(lambda: remove_empty(made)), _locked(folder):
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    _held.add(handle)
    try:
        with suppress(OSError):  # a disk that knows no locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"expected {folder} to be free, found another process at work there"
                ) from None
        yield
    finally:
        _held.remove(handle)
        os.close(handle)


def _let_go() -> None:
    """In a child that was forked, and would hold the folders of its parent after that is gone."""
    while _held:
        os.close(_held.pop())


def check_writable(path: Path) -> None:
    """Raise ValueError where a file `path` clearly cannot be written, without touching the disk.

    Better known before hours of work than after; what only the disk knows still is an OSError.
    """
    if path.is_dir():
        raise ValueError(f"expected a file to write, found the folder {path}")
    parent = next(part for part in path.parents if part.exists())
    if not parent.is_dir():
        raise ValueError(f"cannot write {path}: {parent} is a file, not a folder")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"cannot write {path}: the folder {parent} is read-only")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
