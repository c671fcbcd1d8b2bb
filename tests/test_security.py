"""What nobody's file may do: run code, leave its folder, or fill the memory. See SECURITY.md."""

from __future__ import annotations

import ast
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from cli import refused, tree, voice, write
from safetensors.torch import save_file

from clearbeam.clips import list_clips
from clearbeam.pieces import Pieces
from multichannel import GTCRN
from multichannel.weights import load_gtcrn, save_gtcrn
from simulate import load_corpus, read_manifest
from simulate.recordings import RecordingError, read_audio
from simulate.sofa import list_sofa, read_sofa
from simulate.sound_files import read_sound

ROOT = Path(__file__).parents[1]
ROOMS = ("simulate", "multichannel", "separation", "clearbeam")
# What can run what a file says, and where it is used on what: none of it is named by a file.
GUARDED = {
    "eval": set(), "exec": set(), "compile": set(), "__import__": set(),
    "pickle": set(), "marshal": set(), "shelve": set(), "dill": set(), "joblib": set(),
    "system": set(), "popen": set(),
    "unsafe_load": set(), "full_load": set(),
    "import_module": {
        "clearbeam/training/asteroid_adapter.py",  # modules of asteroid, named here
        "clearbeam/training/tasks.py",  # classes of a table
        "clearbeam/transcribe.py",  # --recogniser module:name, of whoever types the command
    },
    "run": {
        "multichannel/compiled.py",  # the compiler
        "clearbeam/training/journal.py",  # git describe
        "simulate/talkers/build.py",  # a tool of ours, not of users
    },
}  # fmt: skip
BUILTINS = {"eval", "exec", "compile", "__import__"}
OWNERS = {"os", "subprocess", "importlib", "builtins", "yaml", "torch", "numpy", "np"}


def names_used(source: str) -> set[str]:
    """Modules imported, names taken from `OWNERS`, and what is called of those and of builtins."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = (node.module or "").partition(".")[0]
            found |= {module, *(a.name for a in node.names if module in OWNERS)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found |= {node.func.id} & BUILTINS
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = getattr(node.func.value, "id", "")
            found |= {node.func.attr} if owner in OWNERS else set()
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [("import pickle", "pickle"), ("from os import system", "system"), ("eval('1')", "eval"),
     ("import importlib\nimportlib.import_module(x)", "import_module"),
     ("def f():\n    subprocess.run(x)", "run"), ("yaml.unsafe_load(x)", "unsafe_load")],
)  # fmt: skip
def test_what_could_run_code_is_found(source, found):
    assert found in names_used(source) & set(GUARDED)


def sources() -> list[tuple[str, str]]:
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return [(p.relative_to(ROOT).as_posix(), p.read_text(encoding="utf-8")) for p in paths]


def test_nothing_runs_what_a_file_says():
    for path, source in sources():
        bad = {n for n in names_used(source) & set(GUARDED) if path not in GUARDED[n]}
        assert not bad, f"{path}: {bad}"
        assert "allow_pickle=True" not in source and "weights_only=False" not in source, path
        loads = re.findall(r"torch\.load\([^\n]*", source)
        assert all("weights_only=True" in load for load in loads), f"{path}: {loads}"
        assert "yaml.load(" not in source or path == "simulate/parsing.py", path


class Hostile:
    """A pickle that leaves a file behind when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def test_a_pickle_in_place_of_weights_is_refused_and_not_run(tmp_path):
    mark, sound = tmp_path / "ran", write(tmp_path / "x.wav", voice(1, seconds=0.2))
    torch.save(Hostile(mark), tmp_path / "net.safetensors")
    refused("safetensors", "enhance", sound, "--model", tmp_path / "net.safetensors")
    refused("safetensors file, found", "enhance", sound, "--model", tmp_path / "net.pt")
    (tmp_path / "net.safetensors").write_bytes(pickle.dumps(Hostile(mark)))
    refused("safetensors", "enhance", sound, "--model", tmp_path / "net.safetensors")
    refused("safetensors", "export", tmp_path / "net.safetensors", "--out", tmp_path / "net.onnx")
    assert tree(tmp_path) == {"x.wav", "net.safetensors"}


def test_a_pickle_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    pytest.importorskip("lightning")
    from clearbeam.training.run import read_checkpoint

    path, mark = tmp_path / "last.ckpt", tmp_path / "ran"
    hostile = {"step": 1, "skipped": 0, "keeper": {"stale": 0}, "net": Hostile(mark)}
    for data in (hostile, {"step": 1}, [1], {**hostile, "net": {}, "keeper": 3}):
        torch.save(data, path)
        with pytest.raises(ValueError, match="expected a checkpoint of a training run in"):
            read_checkpoint(path)
    path.write_bytes(pickle.dumps(hostile))
    with pytest.raises(ValueError, match="delete it to begin anew"):
        read_checkpoint(path)
    assert not mark.exists()


def test_a_pickle_in_a_half_done_meeting_is_refused_and_not_run(tmp_path):
    pieces, mark = Pieces(tmp_path / ".partial", "key"), tmp_path / "ran"
    streams = np.array([Hostile(mark)], dtype=object)
    np.savez(pieces.path(0), start=0, scale=1.0, streams=streams, allow_pickle=True)
    with pytest.raises(ValueError, match="expected a whole window in"):
        pieces.read(0)
    pieces.path(0).write_bytes(b"PK\3\4 torn")
    with pytest.raises(ValueError, match="begins anew"):
        pieces.read(0)
    assert not mark.exists()


@pytest.mark.parametrize(
    "note",
    [{"network": {"width": 2**40}}, {"network": {"n_spectra": 10**9}}, {"network": {"width": "4"}},
     {"network": {"compression": True}}, {"network": {"__class__": "x"}}, {"network": None}, [1]],
)  # fmt: skip
def test_a_network_config_that_does_not_fit_is_refused_before_it_is_built(tmp_path, note):
    path = tmp_path / "net.safetensors"
    save_gtcrn(GTCRN(), path)
    load_gtcrn(path)
    path.with_suffix(".json").write_text(json.dumps(note))
    with pytest.raises(ValueError, match="expected a model config"):
        load_gtcrn(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, bad):
    net = GTCRN()
    state = net.state_dict()
    name = next(name for name, value in state.items() if value.is_floating_point())
    state[name] = torch.full_like(state[name], bad)
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="expected finite weights"):
        load_gtcrn(tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    "path", ["../secret.wav", "/etc/passwd", "a/../../secret.wav", "link", "loop", "a\0b", "~"]
)
def test_a_manifest_reads_nothing_outside_its_folder(tmp_path, path):
    data = tmp_path / "data"
    data.mkdir()
    write(tmp_path / "secret.wav", voice(1, seconds=0.1))
    (data / "link").symlink_to(tmp_path / "secret.wav")
    (data / "loop").symlink_to(data / "loop")
    record = {"id": "a", "paths": {"mixture": path, "early": [path]}}
    (data / "manifest.jsonl").write_text(json.dumps(record) + "\n")
    inside = path in ("loop", "~")  # names of no file
    with pytest.raises(ValueError, match="nothing at" if inside else "manifest.jsonl, line 1"):
        list_clips(data)
    if inside:
        (found,) = read_manifest(data)
        assert Path(found["paths"]["mixture"]).parent == data.resolve()


def test_a_corpus_may_lie_anywhere_but_runs_no_command(tmp_path):
    """Whoever names a corpus has it on his disk; a manifest of Lhotse can also name commands."""
    far = write(tmp_path / "far.wav", voice(1, seconds=0.1))
    manifest = tmp_path / "deep" / "corpus.jsonl"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps({"path": str(far), "seconds": 0.1}) + "\n")
    assert [one.path for one in load_corpus(manifest)] == [str(far)]
    source = {"type": "command", "channels": [0], "source": f"touch {tmp_path}/ran"}
    line = {"id": "a", "duration": 1.0, "sources": [source]}
    manifest.write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match="line 1: expected a cut or recording"):
        load_corpus(manifest)
    assert not (tmp_path / "ran").exists()


def test_a_sound_is_read_as_far_as_there_is_one(tmp_path, monkeypatch):
    path = write(tmp_path / "x.flac", voice(1, seconds=0.2))
    data = bytearray(path.read_bytes())
    low = int.from_bytes(data[18:26], "big") | (2**36 - 1)
    data[18:26] = low.to_bytes(8, "big")  # 2^36 samples, says the header: half a terabyte
    path.write_bytes(data)
    with pytest.raises(ValueError, match="expected sound that can be read"):
        read_sound(path)
    monkeypatch.setattr("simulate.sound_files.MOST_VALUES", 1_000)
    write(path, voice(1, seconds=0.2))
    with pytest.raises(ValueError, match="expected at most 1000 samples"):
        read_sound(path)


def test_every_dependency_is_pinned():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    asked = {re.split(r"[\[<>=; ]", line)[0] for group in groups for line in group}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    plain = {name.lower().replace("_", "-") for name in pinned}
    assert {name.lower().replace("_", "-") for name in asked} <= plain


@pytest.mark.parametrize(
    ("taps", "rate", "delay", "match"),
    [(2**40, 16e3, 0, "at most"), (9, 1e-300, 0, "rate of"), (9, 16e3, 1e12, "delays of"),
     (9, np.nan, 0, "rate of"), (9, 16e3, -1, "delays of"), (9, 16e3, np.nan, "delays of")],
)  # fmt: skip
def test_a_measured_room_that_would_fill_the_memory_is_refused(tmp_path, taps, rate, delay, match):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "hall.sofa"
    with h5py.File(path, "w") as sofa:
        sofa.create_dataset("Data.IR", (1, 2, taps), "f4", chunks=(1, 2, 9))  # holds nothing yet
        sofa["Data.SamplingRate"] = [float(rate)]
        sofa["Data.Delay"] = [[float(delay)] * 2]
    with pytest.raises(ValueError, match=match):
        read_sofa(list_sofa(path)[0].name)


def test_sound_of_no_rate_is_not_resampled(tmp_path):
    path = write(tmp_path / "x.wav", voice(1, seconds=0.2), rate=10)
    with pytest.raises(ValueError, match="found 10 in"):
        read_sound(path)
    with pytest.raises(RecordingError, match="found 10 in"):
        read_audio(str(path), 16_000)
