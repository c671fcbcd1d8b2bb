"""A full disk, a read-only folder: one line, nothing torn, and the same command goes on.

The disks are small ones in memory, which only root can mount; elsewhere these tests skip.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import yaml
from cli import run, succeeded
from faults import COMMANDS, command, needs, started, write_inputs

from clearbeam import separate
from simulate.disk import allocate


class Disk:
    """A small disk in memory, full at first."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        folder.mkdir()
        if self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
            pytest.skip("needs to mount a disk")

    def _mount(self, *words: str) -> int:
        command = ["mount", *words, str(self.folder)]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode
        except OSError:  # no such command
            return 1

    def become(self, how: str) -> None:
        """`size=64m` grows it; `ro` and `rw`: it cannot, and can, be written to."""
        while self._mount("-o", f"remount,{how}"):  # somebody is writing just now
            time.sleep(0.01)

    def fill(self, left: int = 0) -> Path:
        """A file that leaves so many bytes of it."""
        found = os.statvfs(self.folder)
        path = self.folder / "full"
        path.write_bytes(bytes(max(0, found.f_bavail * found.f_frsize - left)))
        return path

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=False)  # maps may be open


@pytest.fixture
def disk(tmp_path, request) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", getattr(request, "param", "64k"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def all_whole(folder: Path) -> None:
    """Every file under a final name can be read to its end."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in (".flac", ".wav") and not hidden:
            with soundfile.SoundFile(path) as file:
                assert len(file.read()) == file.frames > 0, path
        if path.suffix == ".json" and not hidden:
            yaml.safe_load(path.read_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_on_a_full_disk_it_is_one_line_and_goes_on_when_there_is_space(disk, inputs, name):
    needs(name)
    full = disk.fill(left=0 if name == "evaluate" else 24_000)  # scores take no more than that
    words = command(name, inputs, disk.folder / "out")
    result = run(*words)
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert all(line.startswith(("error: ", "warning: ")) for line in lines), lines
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == (4 if name == "enhance" else 1)  # one for each recording
    assert all("space" in line and str(disk.folder) in line for line in errors), errors
    all_whole(disk.folder)
    full.unlink()
    disk.become("size=64m")
    succeeded(*words)
    all_whole(disk.folder)
    assert not [path for path in disk.folder.rglob("*") if "partial" in path.name]


@pytest.mark.parametrize("disk", ["400k"], indirect=True)
def test_windows_of_a_meeting_that_were_done_when_the_disk_was_full_stay(disk, inputs, monkeypatch):
    starts = []
    one = separate.separate_window
    monkeypatch.setattr(
        separate, "separate_window", lambda s, w, *more: starts.append(w.start) or one(s, w, *more)
    )
    words = command("meeting", inputs, disk.folder / "out")
    assert run(*words).exit_code == 2
    assert len(list(disk.folder.glob("out/.partial/0*.npz"))) == len(starts) - 1 > 0
    failed = starts.pop()
    starts.clear()
    disk.become("size=64m")
    succeeded(*words)
    assert starts[0] == failed
    all_whole(disk.folder)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("disk", ["8m"], indirect=True)
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_training_keeps_its_checkpoint_when_the_disk_refuses_the_next_one(
    disk, inputs, monkeypatch, how
):
    needs("train")
    from clearbeam.training.callbacks import Keeper

    words, out = command("train", inputs, disk.folder / "out"), disk.folder / "out"
    save = Keeper._save

    def then_the_disk_is(keeper, trainer, module):
        save(keeper, trainer, module)
        if how == "full":
            disk.fill()
        else:
            disk.become("ro")

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "_save", then_the_disk_is)
        result = run(*words)
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    assert ("space" if how == "full" else "read-only") in lines[0].lower()
    import torch

    assert torch.load(out / "last.ckpt", weights_only=True)["step"] == 0
    if how == "full":
        (disk.folder / "full").unlink()
        assert {path.name for path in out.glob(".*")} == set()
    else:
        disk.become("rw")
    succeeded(*words)
    assert torch.load(out / "last.ckpt", weights_only=True)["step"] == 3


def test_training_data_that_do_not_fit_are_one_line(disk, inputs, tmp_path):
    """They are written through maps of files, where a full disk ends a process without a word."""
    needs("train")
    words = command("train", inputs, tmp_path / "out")
    words = [w for w in words if not str(w).startswith("data.cache")]
    words.append(f"data.cache={disk.folder / 'cache'}")
    process = started(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _, said = process.communicate()
    assert process.returncode == 2, said
    assert said.startswith("error: ") and "space" in said and len(said.splitlines()) == 1
    assert not list(disk.folder.glob("cache/[!.]*"))
    disk.become("size=64m")
    succeeded(*words)


def test_arrays_that_are_written_through_maps_have_their_room_beforehand(disk):
    pytest.importorskip("lightning")
    from clearbeam.training.config import load_recipe
    from clearbeam.training.sources import completed
    from clearbeam.training.talkers import pack_talkers

    def sparse(folder: Path) -> None:
        with (folder / "x.npy").open("wb") as file:
            file.truncate(10**6)

    def never(part: Path, unit: int) -> int:
        raise AssertionError("there is no room for its result")

    sparse(disk.folder)
    with pytest.raises(OSError, match="space") as error:
        allocate(disk.folder / "x.npy")
    assert error.value.filename == str(disk.folder / "x.npy")
    with pytest.raises(OSError, match="space"):
        completed(disk.folder / "cache", 2, sparse, never, load_recipe("mask", []))
    record = {"talkers": [{}], "array": {"positions_m": [[0, 0, 0]]}, "seconds": 9, "fs": 16_000}
    with pytest.raises(OSError, match="space"):
        pack_talkers([record], disk.folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_folder_is_one_line(disk, inputs, name):
    needs(name)
    disk.become("ro")
    result = run(*command(name, inputs, disk.folder / "out"))
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert lines and all(line.startswith("error: ") for line in lines), result.stderr
    assert len(lines) == (4 if name == "enhance" else 1)  # one for each recording
    assert all("read-only" in line.lower() for line in lines), lines
