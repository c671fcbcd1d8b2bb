"""Work, in one process or several, that somebody stops half-way."""

from __future__ import annotations

import io
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pytest
import soundfile
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


class SlowFile(io.BytesIO):
    """What libsndfile calls back to write, and waits for."""

    def __init__(self, begun: Path) -> None:
        """Told by a file that it has begun."""
        super().__init__()
        self.begun = begun

    def write(self, data: object) -> int:
        """Begin, and take a minute."""
        self.begun.touch()
        time.sleep(60)
        return 0


def write_slowly(folder: Path, index: int) -> int:
    """The second item begins a file and a sound; the first one ends when it has."""
    begun = folder / "begun"
    if index:
        with replacing(folder / "made" / "half") as half:
            half.touch()
            soundfile.write(SlowFile(begun), np.zeros(100), 16_000, format="WAV")
    while not begun.exists():
        time.sleep(0.01)
    return index


def test_a_worker_that_is_stopped_while_a_library_calls_back_leaves_without_a_word(tmp_path, capfd):
    results = for_each(partial(write_slowly, tmp_path), range(2), jobs=2)
    assert next(results) == 0
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt())
    assert tree(tmp_path) == {"begun"}
    assert capfd.readouterr().err == ""


def test_workers_are_started_whole_though_another_thread_hears_ctrl_c(monkeypatch):
    plain, log = SpawnProcess.start, []
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(int).result()  # a thread from before signals are held back here

        def start(process: SpawnProcess) -> None:
            log.append("begun")
            elsewhere.submit(signal.raise_signal, signal.SIGINT).result()
            plain(process)
            log.append("started")

        monkeypatch.setattr(SpawnProcess, "start", start)
        with pytest.raises(KeyboardInterrupt):
            list(for_each(abs, range(4), jobs=2))
    assert log == ["begun", "started"] * 2


def test_a_worker_that_dies_before_it_hears_what_it_is_for_is_one_that_died(monkeypatch):
    def start(self: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(SpawnProcess, "start", start)
    with pytest.raises(ChildProcessError, match=r"a worker process died.*do it again, with fewer"):
        list(for_each(abs, range(4), jobs=2, again="do it again"))
