"""Every recipe trains through the real command line, and its weights work."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch
import yaml
from cli import refused, run, succeeded, voice, write

pytest.importorskip("lightning")

from training import SMALL, lines_of, train, write_small

from multichannel import Enhancer, STFTConfig
from multichannel.cache import FrontEnd
from multichannel.data import Recorded
from multichannel.weights import load_gtcrn
from simulate import SceneConfig

pytestmark = pytest.mark.usefixtures("plain_layers_after")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("mixtures"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A scene of half a second."""
    config = SceneConfig.load("quickstart").model_dump(mode="json") | {"duration_s": 0.5}
    path = tmp_path_factory.mktemp("scenes") / "short.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_mask_network_trains_and_enhances(data, tmp_path):
    out = tmp_path / "run"
    result = train("mask", data, out, "steps=2", "valid_every=1", "seed=3")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(out / "best.safetensors")
    steps = [line["step"] for line in lines_of(out) if "valid_loss" in line]
    assert steps == [0, 1, 2]
    assert all(np.isfinite(line["valid_loss"]) for line in lines_of(out) if "valid_loss" in line)
    facts = json.loads((out / "last.json").read_text())
    assert facts["network"]["normalise"] and facts["training"]["step"] == 2
    recording = write(tmp_path / "recording.wav", voice(2, seconds=0.5))
    succeeded(
        "enhance", recording, "--model", out / "best.safetensors", "--out", tmp_path / "y.wav"
    )
    assert np.isfinite(soundfile.read(tmp_path / "y.wav")[0]).all()


def test_a_run_tells_where_it_came_from(data, tmp_path):
    out = tmp_path / "run"
    train("mask", data, out, "steps=1", "seed=5")
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["seed"] == 5 and config["optimiser"]["clip"] == 3.0
    origin = json.loads((out / "origin.json").read_text())
    assert {"git", "packages", "python", "command"} <= set(origin)
    events = b"".join(path.read_bytes() for path in (out / "tensorboard").iterdir())
    for tag in (b"valid/loss", b"train/compressed_spectral", b"clip0/estimate", b"clip0"):
        assert tag in events, tag


def test_an_enhancer_trains_on_both_front_ends(data, tmp_path):
    out = tmp_path / "run"
    options = ("data.causal_every=2", "augment.mic_subset.probability=0.5", "data.times=2")
    result = train("enhance", data, out, "steps=2", *options, f"data.cache={out / 'cache'}")
    assert result.exit_code == 0, result.output
    scores = lines_of(out)[-1]
    assert np.isfinite(scores["valid_beam_si_snr_db"])
    (cache,) = (p for p in (out / "cache").iterdir() if len(np.load(p / "lengths.npy")) == 12)
    assert np.load(cache / "spectra.npy", mmap_mode="r").shape[0] == 12
    assert load_gtcrn(out / "last.safetensors").config.inputs == (2, 1, 2)


def test_finetuning_begins_with_the_shipped_weights(scene, tmp_path):
    noise = tmp_path / "noise"
    noise.mkdir()
    rng = np.random.default_rng(0)
    write(noise / "fan.wav", 0.1 * rng.standard_normal((32_000, 1)))
    out = tmp_path / "run"
    small = ("data.train.count=2", "data.valid.count=2", f"data.train.scene={scene}")
    result = run("train", "enhance-finetune", *SMALL, *small, f"data.valid.scene={scene}",
                 f"data.train.noise={noise}", "steps=1", "--out", out)  # fmt: skip
    assert result.exit_code == 0, result.output
    begun = load_gtcrn("default").state_dict()
    now = load_gtcrn(out / "last.safetensors").state_dict()
    name = "encoder.en_convs.0.conv.weight"
    assert 0 < (now[name] - begun[name]).abs().max() < 1e-2
    records = (out / "data" / "train" / "dataset.json").read_text()
    assert str(noise) in records
    valid = json.loads((out / "data" / "valid" / "dataset.json").read_text())
    assert valid["scene"]["noise"] == str(noise)


def test_a_student_learns_from_a_wider_teacher(data, tmp_path):
    teacher, out = tmp_path / "teacher", tmp_path / "student"
    assert (
        train("enhance", data, teacher, "init=null", "network.width=20", "steps=1").exit_code == 0
    )
    weights = teacher / "best.safetensors"
    assert load_gtcrn(weights).config.width == 20
    result = train("distill", data, out, f"teacher={weights}", "steps=1")
    assert result.exit_code == 0, result.output
    assert load_gtcrn(out / "best.safetensors").config.width == 16
    assert lines_of(out)[1]["teacher"] > 0


@pytest.mark.parametrize("kind", ["structured", "top_k"])
def test_a_network_is_pruned_and_trained_on(data, tmp_path, kind):
    out = tmp_path / "run"
    result = train("prune", data, out, f"prune.kind={kind}", "prune.amount=0.5", "steps=2")
    assert result.exit_code == 0, result.output
    net = load_gtcrn(out / "best.safetensors")
    assert net.config.inner == (8 if kind == "structured" else None)
    weights = [p for p in net.parameters() if p.dim() > 1 and p.requires_grad]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert zeros == pytest.approx(0.5 if kind == "top_k" else 0.0, abs=0.01)


def test_mixtures_drawn_in_memory_train_with_loading_processes(scene, tmp_path):
    out = tmp_path / "run"
    made = (f"data.train={{scene: {scene}, seed: 4}}", f"data.valid={{scene: {scene}, count: 2}}")
    result = run("train", "mask", *made, *SMALL, "steps=2", "data.workers=1", "--out", out)
    assert result.exit_code == 0, result.output
    assert not (out / "data" / "train").exists()


def test_the_beam_itself_can_be_trained(data, tmp_path):
    out = tmp_path / "run"
    result = train("mask", data, out, "steps=1", "losses.beam=1", "losses.multi_resolution_stft=1")
    assert result.exit_code == 0, result.output
    assert {"beam", "multi_resolution_stft", "valid_beam_si_snr_db"} <= {
        key for line in lines_of(out) for key in line
    }


def test_two_processes_and_half_precision_train(data, tmp_path):
    out = tmp_path / "run"
    result = train("mask", data, out, "steps=2", "processes=2", "precision=bf16")
    assert result.exit_code == 0, result.output
    assert lines_of(out)[-1]["step"] == 2


def test_a_run_without_progress_stops_early(data, tmp_path):
    out = tmp_path / "run"
    options = ("optimiser.lr=0.5", "optimiser.warmup=0", "valid_every=1", "patience=1")
    assert train("mask", data, out, "steps=50", *options).exit_code == 0
    assert lines_of(out)[-1]["step"] < 50
    best = json.loads((out / "best.json").read_text())["training"]
    losses = [line["valid_loss"] for line in lines_of(out) if "valid_loss" in line]
    assert best["valid_loss"] == min(losses)
    again = train("mask", data, out, "steps=50", *options)
    assert again.exit_code == 0 and "has done" in again.stdout


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("mas",), "unknown recipe mas.*mask"),
        (("no.yaml",), "no file no.yaml"),
        (("mask", "stesp=3"), "unknown key stesp.*steps"),
        (("mask", "optimiser.ler=3"), "unknown key optimiser.ler.*lr"),
        (("mask", "data.train.nois=x"), "nois.*noise"),
        (("mask", "network.widht=3"), "unknown key network widht.*width"),
        (("mask", "network.width=6"), "multiple of 4, found 6"),
        (("mask", "losses.sisnr=1"), "unknown loss sisnr.*si_snr"),
        (("mask", "losses.teacher=1"), "teacher"),
        (("mask", "augment.clippin.probability=1"), "unknown augmentation clippin.*clipping"),
        (("mask", "augment.clipping.probability=3"), "0..1"),
        (("mask", "augment.clipping.part=3"), "unknown setting of clipping part"),
        (("mask", "task=sing"), "unknown task sing"),
        (("mask", "batch=5", "processes=2"), "share evenly, found 5"),
        (("mask", "steps"), "expected key=value"),
        (("mask", "data.valid=nowhere", "data.train=nowhere"), "clearbeam simulate"),
        (("mask", "init=defautl"), "shipped model"),
        (("enhance", "network.n_cues=1"), "expected .* for the task enhance"),
        (("prune", "init=null"), "weights to prune"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line(tmp_path, monkeypatch, words, match):
    monkeypatch.chdir(tmp_path)
    refused(match, "train", *words)
    assert not any(p.suffix in (".ckpt", ".safetensors") for p in tmp_path.rglob("*"))


def test_a_network_can_be_trained_for_a_shorter_latency(data, tmp_path):
    out = tmp_path / "run"
    options = ("steps=1", "compiled_layers=false")
    assert train("mask", data, out, "latency_ms=20", *options).exit_code == 0
    # an older run did not know the key: that means its default
    note = out / "config.yaml"
    note.write_text(note.read_text().replace("latency_ms: 20.0\n", ""))
    assert train("mask", data, out, "latency_ms=20", *options).exit_code == 2
    assert train("mask", data, out, *options).exit_code == 0
    weights = out / "best.safetensors"
    assert Enhancer.from_pretrained(weights, "cpu").stft.config.latency == 320
    assert Enhancer.from_pretrained(weights, "cpu", latency_ms=32).stft.config.latency == 512
    assert Enhancer.from_pretrained("mono", "cpu").stft.config.latency == 512
    clip = Recorded(data).clip(0)
    long, short = (FrontEnd("mono", (), 1, c)(clip, 0) for c in (None, STFTConfig(synthesis=320)))
    assert {k: v.shape for k, v in long.items()} == {k: v.shape for k, v in short.items()}
    assert np.abs(long["spectra"] - short["spectra"]).max() > 1e-2


def test_a_folder_is_not_trained_with_another_config(data, tmp_path):
    out = tmp_path / "run"
    assert train("mask", data, out, "steps=1").exit_code == 0
    refused("begun with", "train", "mask", f"data.train={data}", f"data.valid={data}", *SMALL,
            "steps=2", "--out", out)  # fmt: skip


def test_a_cache_can_be_trained_on_but_not_augmented_at_the_mics(data, tmp_path):
    cached = f"data.cache={tmp_path / 'cache'}"
    assert train("enhance", data, tmp_path / "a", cached, "--prepare").exit_code == 0
    (cache,) = {*(tmp_path / "cache").iterdir()}  # the same for both sets
    ready = (f"data.train={cache}", f"data.valid={cache}")
    masked = ("augment.time_mask.probability=1", "augment.frequency_mask.probability=1")
    result = run("train", "enhance", *ready, *SMALL, *masked, "steps=1", "--out", tmp_path / "b")
    assert result.exit_code == 0, result.output
    refused("augment by clipping", "train", "enhance", *ready, *SMALL,
            "augment.clipping.probability=1", "--out", tmp_path / "c")  # fmt: skip
    refused("expected waveforms", "train", "mask", *ready, *SMALL, "--out", tmp_path / "d")


def test_show_prints_what_would_be_done(tmp_path):
    result = succeeded("train", "mask", "optimiser.lr=1e-3", "--show", "--out", tmp_path / "x")
    assert yaml.safe_load(result.stdout)["optimiser"]["lr"] == 1e-3
    assert not (tmp_path / "x").exists()


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["32", "bf16", "fp16"])
def test_training_on_a_gpu(data, tmp_path, precision):
    out = tmp_path / "run"
    result = train("mask", data, out, "steps=2", "device=cuda", f"precision={precision}")
    assert result.exit_code == 0, result.output
    assert torch.isfinite(load_gtcrn(out / "last.safetensors").erb.erb_fc.weight).all()
