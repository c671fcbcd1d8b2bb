"""An input that vanishes while a command is at work: it is named, and nothing partial is left."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import soundfile
import yaml
from cli import RATE, refused, run, succeeded, tree, voice, write
from faults import SCENE, command, needs

import clearbeam.stream
import simulate.dataset
from clearbeam import evaluate
from clearbeam.commands import enhance, separate
from simulate import SceneConfig, write_dataset


def vanishing(monkeypatch, module: object, name: str, path: Path) -> None:
    """Remove `path` as soon as the function `name` of a module is called."""
    inner = getattr(module, name)

    def called(*args: object, **more: object) -> object:
        path.unlink(missing_ok=True)
        return inner(*args, **more)

    monkeypatch.setattr(module, name, called)


@pytest.fixture
def data(tmp_path) -> Path:
    """A data set, where `command` looks for it."""
    config = SceneConfig.model_validate(SCENE | {"array": {"names": ["laptop_2mic"]}})
    return write_dataset(config, tmp_path / "data", count=4).parent


def test_a_recording_that_vanishes_is_one_line_and_the_others_are_done(tmp_path, monkeypatch):
    files = [write(tmp_path / f"{k}.wav", voice(2, seed=k)) for k in range(3)]
    words = ["enhance", *files, "--model", "mono", "--out", f"{tmp_path}/out/"]
    with monkeypatch.context() as patch:
        vanishing(patch, enhance, "total_seconds", files[1])
        refused("1.wav", *words)
    assert tree(tmp_path / "out") == {"0.enhanced.wav", "2.enhanced.wav"}
    write(files[1], voice(2, seed=1))
    succeeded(*words, "--resume")
    assert (tmp_path / "out" / "1.enhanced.wav").is_file()


def test_a_meeting_that_vanishes_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    file = write(tmp_path / "meeting.wav", voice(2))
    words = ["separate", file, "--model", "spatial", "--talkers", 1, "--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        vanishing(patch, separate, "total_seconds", file)
        refused("meeting.wav", *words)
    assert not (tmp_path / "out").exists()
    write(file, voice(2))
    succeeded(*words)
    assert soundfile.info(tmp_path / "out" / "talker1.flac").samplerate == RATE


def test_the_input_of_a_stream_that_vanishes_is_one_line_and_leaves_no_file(tmp_path, monkeypatch):
    file = write(tmp_path / "short.wav", voice(1, seconds=0.2))
    words = command("stream", tmp_path, tmp_path / "out")
    with monkeypatch.context() as patch:
        vanishing(patch, clearbeam.stream, "open_sink", file)
        refused("short.wav", *words)
    assert tree(tmp_path) == set()
    write(file, voice(1, seconds=0.2))
    succeeded(*words)


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_a_mixture_that_vanished_is_named_and_work_goes_on_when_it_is_back(data, tmp_path, name):
    needs(name)
    lost = data / "0000" / "0000002" / "early1.flac"
    whole = lost.read_bytes()
    lost.unlink()
    words = command(name, tmp_path, tmp_path / "out")
    refused("early1.flac", *words)
    lost.write_bytes(whole[: len(whole) // 2])
    refused("early1.flac", *words)
    lost.write_bytes(whole)
    succeeded(*words)


@pytest.mark.parametrize("step", ["_score_all", "_score_clip"])
def test_a_mixture_that_vanishes_from_under_evaluate_is_named(data, tmp_path, monkeypatch, step):
    lost = data / "0000" / "0000002" / "early1.flac"
    whole = lost.read_bytes()
    words = command("evaluate", tmp_path, tmp_path / "out")
    with monkeypatch.context() as patch:
        vanishing(patch, evaluate, step, lost)
        refused("early1.flac", *words)
    assert not (tmp_path / "out" / "scores.json").exists()
    lost.write_bytes(whole)
    succeeded(*words)


def test_a_mixture_that_vanishes_from_under_train_is_named(data, tmp_path, monkeypatch):
    needs("train")
    from clearbeam.training import sources

    lost = data / "0000" / "0000002" / "early1.flac"
    whole = lost.read_bytes()
    words = command("train", tmp_path, tmp_path / "out")
    with monkeypatch.context() as patch:
        vanishing(patch, sources, "pack", lost)
        refused("early1.flac", *words)
    assert not list(tmp_path.glob("cache/[!.]*"))
    lost.write_bytes(whole)
    succeeded(*words)


@pytest.mark.parametrize("workers", [0, 1])
def test_noise_that_vanishes_while_training_draws_from_it_is_named(
    data, tmp_path, monkeypatch, workers
):
    needs("train")
    from clearbeam.training import run as training

    scene, noise = tmp_path / "scene.yaml", tmp_path / "noise"
    scene.write_text(yaml.safe_dump(SCENE | {"array": {"names": ["laptop_2mic"]}}))
    noise.mkdir()
    hum = write(noise / "hum.wav", voice(1, seconds=2.0))
    words = command("train", tmp_path, tmp_path / "out")
    words = [word for word in words if not str(word).startswith("data.train")]
    words += [f"data.train.scene={scene}", "data.train.count=null"]
    words += [f"data.train.noise={noise}", f"data.workers={workers}"]
    with monkeypatch.context() as patch:
        vanishing(patch, training, "make_trainer", hum)
        refused("^error: expected recordings in .*noise, found none", *words)
    write(hum, voice(1, seconds=2.0))
    succeeded(*words)


def test_a_recording_that_vanishes_from_under_simulate_is_told(tmp_path, monkeypatch):
    scene, speech = tmp_path / "scene.yaml", tmp_path / "speech"
    scene.write_text(yaml.safe_dump(SCENE))
    speech.mkdir()
    for k in range(3):
        write(speech / f"{k}.wav", voice(1, seed=k))
    words = ["simulate", scene, "--count", 4, "--out", tmp_path / "out", "--speech", speech]
    vanishing(monkeypatch, simulate.dataset, "draw_mixture", speech / "1.wav")
    result = run(*words)
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("warning: skipped recordings"), lines
    assert "1.wav" in lines[0]
    assert len((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()) == 4


def test_a_mixture_of_a_sweep_that_vanished_is_named_and_made_again_without_its_folder(tmp_path):
    needs("sweep")
    (tmp_path / "scene.yaml").write_text(yaml.safe_dump(SCENE))
    sweep = {"scene": "scene.yaml", "grid": {"snr_db": [0]}, "systems": ["noisy"],
             "metrics": ["si_sdr"], "count": 2}  # fmt: skip
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    words = command("sweep", tmp_path, tmp_path / "out")
    succeeded(*words)
    table = (tmp_path / "out" / "results.csv").read_bytes()
    (lost,) = (tmp_path / "out").glob("points/*/0000/0000001/mixture.flac")
    lost.unlink()
    refused("found nothing at .*mixture.flac", *words)
    shutil.rmtree(lost.parent)
    succeeded(*words)
    assert (tmp_path / "out" / "results.csv").read_bytes() == table
