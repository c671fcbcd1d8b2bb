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
