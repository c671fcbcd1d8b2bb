"""Work in several processes that somebody stops half-way."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
from cli import tree

from clearbeam.files import replacing
from simulate.workers import for_each


def slow(folder: Path, index: int) -> int:
    """Writes a file: the first one once the second has begun; all but the first take their time."""
    with replacing(folder / f"{index}.txt") as begun:
        begun.touch()
        if index:
            time.sleep(60)  # far longer than a busy machine needs to stop it
    while index == 0 and not list(folder.glob(".1.*")):
        time.sleep(0.01)
    return index


def test_work_that_is_stopped_ends_at_once_and_leaves_nothing_half_done(tmp_path):
    results = for_each(partial(slow, tmp_path), range(4), jobs=2)
    assert next(results) == 0
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt())
    assert tree(tmp_path) == {"0.txt"}


class Slow:
    """A result that a worker takes its time to hand over."""

    def __init__(self, folder: Path) -> None:
        """Told by a file in the folder that it has begun."""
        self.folder = folder

    def __getstate__(self) -> None:
        """Begin, and take a minute."""
        (self.folder / "begun").touch()
        time.sleep(60)


def hand_over(folder: Path, index: int) -> Slow | int:
    """Ends once the second item is handed over, which takes long; later items leave a file."""
    if index == 1:
        return Slow(folder)
    while index == 0 and not (folder / "begun").exists():
        time.sleep(0.01)
    if index > 1:
        (folder / f"{index}.txt").touch()
        time.sleep(60)  # the first worker has that to do
    return index


def test_a_worker_that_is_stopped_between_two_pieces_of_work_takes_no_other(tmp_path):
    results = for_each(partial(hand_over, tmp_path), range(4), jobs=2)
    assert next(results) == 0
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt())
    assert "3.txt" not in tree(tmp_path)
