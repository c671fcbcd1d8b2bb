"""What the fuzzer throws bytes at: every kind of file or stream that clearbeam reads.

A target takes bytes and an empty folder. Bad input may end it in the errors that the command line
tells in one line (`REFUSALS`); any other exception, a hang, or a number that is not finite in what
comes out is a defect.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

REFUSALS = (ValueError, OSError, ImportError)
_MOST_BLOCKS = 20

Target = Callable[[bytes, Path], object]


def judge(target: str, data: bytes, folder: Path) -> str:
    """Run a target: "taken" or the one line of the refusal; raises for a defect."""
    try:
        TARGETS[target](data, folder)
    except REFUSALS as error:
        return " ".join(str(error).split()) or type(error).__name__
    return "taken"


def _file(data: bytes, folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def audio(data: bytes, folder: Path) -> None:
    """A recording, read and resampled."""
    from clearbeam.audio import Recording, resample

    recording = Recording([_file(data, folder, "x.wav")])
    blocks = (b for b, _ in zip(recording.blocks(), range(_MOST_BLOCKS), strict=False))
    for block in resample(blocks, recording.sample_rate, 16_000):
        assert block.shape[0] == recording.n_mics and block.dtype == np.float32


@lru_cache(maxsize=1)
def _enhancer() -> Any:
    import torch

    from clearbeam.enhance import load_enhancer

    torch.set_num_threads(1)
    return load_enhancer(device="cpu")


def pcm(data: bytes, folder: Path) -> None:
    """Raw samples on stdin; the first two bytes say how many mics, and the rate."""
    from clearbeam.stream import PipeSource, Timed, run_stream

    head, body = data[:2].ljust(2, b"\0"), data[2:20_000]
    n_mics, rate = 1 + head[0] % 16, (16_000, 8_000, 44_100, 1_000)[head[1] % 4]
    written: list[np.ndarray] = []
    before, sys.stdin = sys.stdin, SimpleNamespace(buffer=io.BytesIO(body))  # type: ignore[assignment]
    try:
        stream = Timed(_enhancer().stream(n_mics))
        run_stream(PipeSource(n_mics, rate), lambda y: written.append(y.copy()), stream)
    finally:
        sys.stdin = before
    y = np.concatenate([np.zeros(0, np.float32), *written])
    assert np.isfinite(y).all(), "not finite"
    assert len(y) == len(body) // (2 * n_mics), f"{len(y)} samples of {len(body)} bytes"


def samples(data: bytes, folder: Path) -> None:
    """Float samples, of any bits, through the enhancer; the first bytes say mics and mode."""
    import torch

    from clearbeam.audio import sound_in

    head, body = data[:2].ljust(2, b"\0"), data[2:12_000]
    n_mics, streaming = 1 + head[0] % 4, bool(head[1] & 1)
    x = np.frombuffer(body[: len(body) // (4 * n_mics) * 4 * n_mics], "<f4").reshape(-1, n_mics)
    y = _enhancer()(torch.from_numpy(sound_in(x.T.copy())), streaming=streaming)
    assert torch.isfinite(y).all(), "not finite"
    assert y.shape == (len(x),)


def array(data: bytes, folder: Path) -> None:
    """An array's YAML, and what `clearbeam arrays` computes of it."""
    from clearbeam.arrays import abilities, aliasing_hz
    from simulate import load_array

    found = load_array(_file(data, folder, "array.yaml"))
    assert aliasing_hz(found) > 0
    if found.n_mics > 64:
        return
    able = abilities(found, 30.0, np.array([250.0, 4000.0]))
    for curves in (able.directivity_db, able.noise_gain_db, able.pattern_db):
        assert all(np.isfinite(curve).all() for curve in curves.values()), "not finite"


def scene(data: bytes, folder: Path) -> None:
    """A scene's or a meeting's YAML, and the first scene that it stands for."""
    from clearbeam.commands.simulate import load
    from simulate import sample_scene
    from simulate.meeting import MeetingConfig, sample_meeting

    config = load(str(_file(data, folder, "scene.yaml")))
    config.model_dump_json()
    if isinstance(config, MeetingConfig):
        sample_meeting(config, 0, 0)
    else:
        sample_scene(config, 0, 0)


def sweep(data: bytes, folder: Path) -> None:
    """A sweep's YAML, and the scenes of its first points."""
    from clearbeam.sweep_config import SweepConfig

    config = SweepConfig.load(_file(data, folder, "sweep.yaml"))
    for point in config.points()[:3]:
        config.scene_at(point, folder / "arrays")


def recipe(data: bytes, folder: Path) -> None:
    """A training recipe's YAML."""
    from clearbeam.training.config import load_recipe

    load_recipe(str(_file(data, folder, "recipe.yaml")), []).saved()


def manifest(data: bytes, folder: Path) -> None:
    """A data set's manifest, as training and evaluation read it."""
    from clearbeam.clips import list_clips
    from multichannel.data import records_of

    _file(data, folder, "manifest.jsonl")
    records = records_of(folder)
    for record in records:
        for paths in record["paths"].values():
            for path in paths if isinstance(paths, list) else [paths]:
                assert Path(path).is_relative_to(folder.resolve())
    list_clips(folder)


def corpus(data: bytes, folder: Path) -> None:
    """A corpus manifest: our own, or Lhotse's."""
    from simulate.corpus import load_corpus

    for recording in load_corpus(_file(data, folder, "corpus.jsonl")):
        assert recording.seconds > 0


def responses(data: bytes, folder: Path) -> None:
    """A manifest of measured responses."""
    from simulate.measured import list_responses

    list_responses(str(_file(data, folder, "responses.jsonl")))


def weights(data: bytes, folder: Path) -> None:
    """Weights and their config, which ends at the first zero byte."""
    from multichannel.weights import latency_of, load_gtcrn
    from separation.weights import count_rule, load_separation

    note, _, tensors = data.partition(b"\0")
    path = _file(tensors, folder, "net.safetensors")
    _file(note, folder, "net.json")
    refused = 0
    for load in (load_gtcrn, latency_of, load_separation, count_rule):
        try:
            load(path)
        except REFUSALS as error:
            refused, last = refused + 1, error
    if refused:
        raise last


def state(data: bytes, folder: Path) -> None:
    """What interrupted work left behind; the first byte says which kind."""
    kind, body = data[:1], data[1:]
    _STATES[kind[0] % len(_STATES) if kind else 0](body, folder)


def _ledger(data: bytes, folder: Path) -> None:
    from clearbeam.ledger import Ledger

    Ledger(_file(data, folder, "scores.jsonl")).find("key", ["si_sdr"])


def _pieces(data: bytes, folder: Path) -> None:
    from clearbeam.pieces import Pieces

    pieces = Pieces(folder / "pieces", "key")
    _file(data, pieces.folder, "000000.npz")
    for piece in pieces:
        assert np.isfinite(piece.streams).all(), "not finite"


def _checkpoint(data: bytes, folder: Path) -> None:
    from clearbeam.training.callbacks import CHECKPOINT
    from clearbeam.training.config import load_recipe
    from clearbeam.training.run import claim, is_finished

    config = load_recipe("mask", ["data.train=x", "data.valid=y"])
    _file(data, folder, CHECKPOINT)
    found = claim(config, folder)
    if found is not None:
        is_finished(config, found)


def _journal(data: bytes, folder: Path) -> None:
    from clearbeam.training.journal import Journal

    _file(data, folder, "log.jsonl")
    Journal(folder, 3).close()


def _record(data: bytes, folder: Path) -> None:
    from simulate.shards import folder_of, missing, tell_unreadable, write_manifest

    folder_of(folder, 0).mkdir(parents=True)
    _file(data, folder_of(folder, 0), "record.json")
    if not missing(folder, 1):
        tell_unreadable(write_manifest(folder, 1))


_STATES = (_ledger, _pieces, _checkpoint, _journal, _record)

TARGETS: dict[str, Target] = {
    function.__name__: function
    for function in (
        audio, pcm, samples, array, scene, sweep, recipe, manifest, corpus, responses, weights,
        state,
    )
}  # fmt: skip
