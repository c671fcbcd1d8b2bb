"""A full disk, a read-only folder, an input that vanishes: one line, nothing torn, and it goes on.

What is killed goes on in `test_faults_killed.py`. The disks are small ones in memory, which only
root can mount; elsewhere these tests skip.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from cli import RATE, refused, run, succeeded, voice, write

from clearbeam.commands import enhance, separate
from simulate import SceneConfig, write_dataset
from simulate.sound_files import new_sound

SCENE = {"method": "fast", "duration_s": 0.5, "room": {"rt60_s": 0.2}, "references": ["early"]}
TRAIN = ("batch=2", "steps=3", "valid_every=2", "save_every=1", "log_every=1", "clips=1",
         "data.seconds=0.5", "compiled_layers=false")  # fmt: skip


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
        assert self._mount("-o", f"remount,{how}") == 0

    def close(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=False)


@pytest.fixture
def disk(tmp_path, request) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", getattr(request, "param", "64k"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """What the commands work on: recordings, a scene, a sweep, a data set."""
    folder = tmp_path_factory.mktemp("inputs")
    for k in range(4):
        write(folder / f"{k}.wav", np.tile(voice(2, seed=k), (2, 1)), subtype="FLOAT")
    write(folder / "short.wav", voice(1, seconds=1.0))
    (folder / "scene.yaml").write_text(yaml.safe_dump(SCENE))
    sweep = {"scene": "scene.yaml", "grid": {"snr_db": [0, 10]}, "systems": ["noisy"],
             "metrics": ["si_sdr"], "count": 2}  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    config = SceneConfig.model_validate(SCENE | {"array": {"names": ["laptop_2mic"]}})
    write_dataset(config, folder / "data", count=4)
    return folder


def command(name: str, inputs: Path, out: Path) -> list[object]:
    """The command line of a command that works into `out`."""
    data = inputs / "data"
    sources = [inputs / f"{k}.wav" for k in range(4)]
    return {
        "enhance": ["enhance", *sources, "--model", "mono", "--resume", "--out", f"{out}/"],
        "separate": ["separate", sources[0], "--model", "spatial", "--talkers", 1, "--out", out],
        "simulate": ["simulate", inputs / "scene.yaml", "--count", 6, "--out", out],
        "sweep": ["sweep", inputs / "sweep.yaml", "--out", out],
        "train": ["train", "mask", *TRAIN, f"data.train={data}", f"data.valid={data}",
                  f"data.cache={inputs / 'cache'}", "--out", out],
        "evaluate": ["evaluate", data, "--system", "noisy", "--metrics", "si_sdr",
                     "--json", out / "scores.json"],
        "stream": ["stream", "--in", inputs / "short.wav", "--model", "mono", "--backend", "torch",
                   "--out", out / "live.wav"],
    }[name]  # fmt: skip


COMMANDS = ["enhance", "separate", "simulate", "sweep", "train", "evaluate", "stream"]


def all_whole(folder: Path) -> None:
    """Every file under a final name can be read to its end."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in (".flac", ".wav") and not hidden:
            with soundfile.SoundFile(path) as file:
                assert len(file.read()) == file.frames > 0, path
        if path.suffix == ".json" and not hidden:
            yaml.safe_load(path.read_text())


def needs(name: str) -> None:
    if name == "train":
        pytest.importorskip("lightning")
    if name == "sweep":
        pytest.importorskip("pyarrow")


@pytest.mark.parametrize("name", COMMANDS)
def test_on_a_full_disk_it_is_one_line_and_goes_on_when_there_is_space(disk, inputs, name):
    needs(name)
    out = disk.folder / "out"
    (disk.folder / "full").write_bytes(bytes(40_000))
    words = command(name, inputs, out)
    result = run(*words)
    if result.exit_code == 0:  # so little that it fits
        assert name in ("evaluate",)
    else:
        assert result.exit_code == 2, result.output
        for line in result.stderr.splitlines():
            assert line.startswith(("error: ", "warning: ")), result.stderr
            assert line.startswith("warning: ") or "space" in line, line
    all_whole(disk.folder)
    (disk.folder / "full").unlink()
    disk.become("size=64m")
    succeeded(*words)
    all_whole(disk.folder)
    assert not [path for path in disk.folder.rglob("*") if "partial" in path.name]


@pytest.mark.parametrize("subtype", ["FLAC", "OGG", "WAV", "W64", "AIFF"])
def test_no_format_ends_early_in_silence(tmp_path, subtype):
    """libsndfile calls a FLAC or Ogg file complete whose end the disk did not take."""
    resource = pytest.importorskip("resource")
    x, path = voice(2, seconds=0.5), tmp_path / "x"
    with new_sound(path, RATE, 2, soundfile.default_subtype(subtype), subtype) as file:
        file.write(x)
    n_bytes, limit = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    for taken in (100, n_bytes // 2, n_bytes - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (taken, limit[1]))
        try:
            with pytest.raises(OSError, match="large"):
                with new_sound(path, RATE, 2, soundfile.default_subtype(subtype), subtype) as file:
                    file.write(x)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)


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


def vanishing(monkeypatch, module: object, name: str, path: Path) -> None:
    """Remove `path` as soon as the function `name` of a module is called."""
    inner = getattr(module, name)

    def called(*args: object) -> object:
        path.unlink(missing_ok=True)
        return inner(*args)

    monkeypatch.setattr(module, name, called)


def test_a_recording_that_vanishes_is_one_line_and_the_others_are_done(
    inputs, tmp_path, monkeypatch
):
    files = [write(tmp_path / f"{k}.wav", voice(2, seed=k)) for k in range(3)]
    words = ["enhance", *files, "--model", "mono", "--out", f"{tmp_path}/out/"]
    with monkeypatch.context() as patch:
        vanishing(patch, enhance, "total_seconds", files[1])
        refused("1.wav", *words)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "0.enhanced.wav",
        "2.enhanced.wav",
    }
    write(files[1], voice(2, seed=1))
    succeeded(*words, "--resume")
    assert (tmp_path / "out" / "1.enhanced.wav").is_file()


def test_a_meeting_that_vanishes_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    file = write(tmp_path / "meeting.wav", voice(2))
    words = ["separate", file, "--model", "spatial", "--talkers", 1, "--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        vanishing(patch, separate, "total_seconds", file)
        refused("meeting.wav", *words)
    write(file, voice(2))
    succeeded(*words)
    assert soundfile.info(tmp_path / "out" / "talker1.flac").samplerate == RATE


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_a_mixture_that_vanished_is_named_and_work_goes_on_when_it_is_back(inputs, tmp_path, name):
    needs(name)
    config = SceneConfig.model_validate(SCENE | {"array": {"names": ["laptop_2mic"]}})
    write_dataset(config, tmp_path / "data", count=4)
    lost = tmp_path / "data" / "0000" / "0000002" / "early1.flac"
    data = lost.read_bytes()
    lost.unlink()
    words = command(name, tmp_path, tmp_path / "out")
    refused("early1.flac", *words)
    lost.write_bytes(data[: len(data) // 2])
    refused("early1.flac", *words)
    lost.write_bytes(data)
    succeeded(*words)
