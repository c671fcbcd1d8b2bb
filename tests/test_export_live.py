"""Exported files do what the model does, frame by frame."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from cli import refused, tree, voice, write

from clearbeam.export import check
from clearbeam.export.export import Job, export
from clearbeam.export.live import LiveStep, Network, Pipeline
from clearbeam.export.onnx_file import OnnxStep, export_onnx, operators
from clearbeam.export.split import Split
from multichannel import GTCRN, STFT, Enhancer, GTCRNConfig
from multichannel.beamform import mvdr_souden
from multichannel.frontend import REFINE_INPUTS

ROOT = Path(__file__).parents[1]
DOC = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorials" / "deploy.md").read_text(encoding="utf-8")


def listed_after(words: str) -> set[str]:
    """What the page lists there, up to the end of the sentence."""
    return set(re.findall(r"\w+", DOC.partition(words)[2].partition(".")[0]))


@pytest.fixture(scope="module")
def enhancer():
    """The shipped networks, and a network of the second beam, which need not be good."""
    torch.manual_seed(0)
    shipped = Enhancer.from_pretrained("default", device="cpu")
    refine = GTCRN(GTCRNConfig(*REFINE_INPUTS, compression=0.5, normalise=True))
    return Enhancer(shipped.mono, shipped.multi, refine).eval()


@pytest.fixture(scope="module")
def files(enhancer):
    """The pipeline for some numbers of mics, made once."""
    made: dict[int, onnx.ModelProto] = {}

    def file(n_mics: int) -> onnx.ModelProto:
        if n_mics not in made:
            made[n_mics] = export_onnx(LiveStep(Pipeline(enhancer, n_mics)).eval(), {})
        return made[n_mics]

    return file


def recording(n_mics: int, dead: int | None = None) -> torch.Tensor:
    """Spectra of a talker, with digital silence inside and perhaps a dead mic."""
    x = torch.from_numpy(voice(n_mics, seconds=0.8).T).float()
    x[:, 5000:7000] = 0
    x[0, 8000:10000] = 0  # the reference mic alone
    if dead is not None:
        x[dead] = 0
    return STFT()(x)


@pytest.mark.parametrize(("n_mics", "dead"), [(2, None), (6, 3)])
def test_the_onnx_pipeline_is_as_exact_as_the_model(enhancer, files, n_mics, dead):
    X = recording(n_mics, dead)
    found = check.by_file(OnnxStep(files(n_mics).SerializeToString()), [X])
    expected = check.by_model(Pipeline(enhancer, n_mics), [X])
    agreement = check.agreement(expected, found)
    assert agreement.error < check.TOLERANCE and agreement.snr_db > check.SNR_DB
    x, y = (STFT().inverse(S) for S in (expected, found))
    assert (x - y).abs().median() < 1e-5
    assert torch.isfinite(torch.view_as_real(found)).all()


@pytest.mark.parametrize("which", ["mono", "multi", "refine"])
def test_a_network_alone_agrees_to_rounding(enhancer, which):
    inputs = check.inputs_of(enhancer, which, torch.from_numpy(voice(3, 0.6).T).float())
    net = getattr(enhancer, which)
    file = export_onnx(LiveStep(Network(net)).eval(), {})
    found = check.by_file(OnnxStep(file.SerializeToString()), inputs)
    torch.testing.assert_close(found, check.by_model(Network(net), inputs), rtol=0, atol=1e-5)


def test_states_are_inputs_and_outputs_in_the_same_order(files):
    graph = files(2).graph
    names = [one.name for one in graph.input]
    outputs = [one.name for one in graph.output]
    assert names[:2] == ["X.re", "X.im"] and outputs[:2] == ["Y.re", "Y.im"]
    assert outputs[2:] == [f"next.{name}" for name in names[2:]]
    shapes = {one.name: str(one.type) for one in (*graph.input, *graph.output)}
    assert all(shapes[name] == shapes[f"next.{name}"] for name in names[2:])


def test_only_standard_operators_that_the_page_lists(files):
    assert set(operators(files(6))) == listed_after("Used are:")
    assert [(one.domain, one.version) for one in files(6).opset_import] == [("", 17)]


@pytest.mark.parametrize("reference_mic", [0, 3])
def test_weights_with_bins_last_are_the_model_s(reference_mic):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 20, 1, 4, 20, generator=generator, dtype=torch.complex64)
    x *= torch.logspace(-3, 1, 4)[:, None]  # mics of very different levels
    x[:, 0] = 0
    x[:, 1, :, 1] = 0  # a dead mic
    x[:, 2, :, 0] = 1e-7 * x[:, 2, :, 0]
    x[:, 3, :, 2] = x[:, 3, :, 0]  # a copy
    x[:, 4, :, 3] = x[:, 4, :, 1]
    x[0, 5] = 0  # no speech
    x[1, 6] = 0  # no noise
    psds = x @ x.mH
    expected = mvdr_souden(*psds, reference_mic, 1e-2)
    found = mvdr_souden(*(Split(one.real, one.imag) for one in psds), reference_mic, 1e-2)
    found = torch.complex(found.real, found.imag)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_what_does_not_sound_like_the_model_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "SECONDS", 0.5)
    monkeypatch.setattr(check, "TOLERANCE", 1e-12)
    refused("sound like the model.*nothing is written", "export", "mono", "--part", "mono",
            "--out", tmp_path / "x.onnx")  # fmt: skip
    assert tree(tmp_path) == set()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The float file of a network alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "SECONDS", 0.6)
        return export(Job("mono", "onnx", "mono", 2), tmp_path_factory.mktemp("large") / "x.onnx")


@pytest.mark.parametrize(
    ("kind", "most"), [("dynamic", 1 / 3), ("static", 1 / 3), ("weights", 0.3)]
)
def test_int8_is_a_third_and_still_the_talker(tmp_path, monkeypatch, large, kind, most):
    monkeypatch.setattr(check, "SECONDS", 0.6)
    heard = [check.room_recording(2, 0.6)] if kind == "static" else None
    format_ = "int8-weights" if kind == "weights" else "int8"
    small = export(Job("mono", format_, "mono", 2), tmp_path / "small.onnx", heard)
    assert small.n_bytes < most * large.n_bytes
    assert large.agreement.error < 1e-5
    assert set(small.operators) <= listed_after("Used are:") | listed_after("int8 adds ")
    assert small.agreement.snr_db > (25 if kind == "weights" else 10)
    facts = {one.key: one.value for one in onnx.load(tmp_path / "small.onnx").metadata_props}
    assert facts["model"] == "mono" and facts["n_fft"] == "512" and facts["hop"] == "256"


@pytest.mark.parametrize(
    ("match", "args"),
    [
        ("did you mean default", ["defualt"]),
        (
            "format of onnx, torchscript, int8, int8-weights, found 'tflite'",
            ["default", "--format", "tflite"],
        ),
        ("part of pipeline", ["default", "--part", "stft"]),
        ("expected 1 to 16 mics, found 17", ["default", "--mics", "17"]),
        ("expected 1 to 16 mics, found 0", ["default", "--mics", "0"]),
        ("--calibration with --format int8", ["default", "--calibration", "."]),
        ("found nowhere", ["default", "--format", "int8", "--calibration", "nowhere"]),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, match, args):
    monkeypatch.chdir(tmp_path)
    refused(match, "export", *args, "--out", tmp_path / "x.onnx")
    assert tree(tmp_path) == set()


def test_a_place_that_cannot_be_written_is_told_first(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "a.onnx").mkdir()
    refused("is a file, not a folder", "export", "default", "--out", tmp_path / "file" / "x.onnx")
    refused("found the folder", "export", "default", "--out", tmp_path / "a.onnx")
    refused("such as live.onnx", "export", "default", "--out", tmp_path / "new")


def enhanced_by(file: onnx.ModelProto, wav: Path) -> np.ndarray:
    """What an exported pipeline makes of a WAV, with our own STFT."""
    x = torch.from_numpy(soundfile.read(wav, dtype="float32")[0].T)
    Y = check.by_file(OnnxStep(file.SerializeToString()), [STFT()(x)])
    return STFT().inverse(Y, x.shape[-1]).numpy()


def test_the_page_s_python_enhances_a_wav(tmp_path, files, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(files(2), "live.onnx")
    wav = write(tmp_path / "recording.wav", voice(2, 0.5)[:-77])
    exec(TUTORIAL.partition("```python\n")[2].partition("```")[0], {})
    found, rate = soundfile.read("clean.wav", dtype="float32")
    assert rate == 16000
    np.testing.assert_allclose(found, enhanced_by(files(2), wav), atol=5e-5)


def test_the_example_enhances_a_wav(tmp_path, files):
    compiler = shutil.which("c++") or shutil.which("g++")
    folder = Path(onnxruntime.__file__).parent / "capi"
    library = next(folder.glob("libonnxruntime.so.1*"), None)
    if compiler is None or library is None:
        pytest.skip("needs a C++ compiler and ONNX Runtime's shared library")
    (tmp_path / "libonnxruntime.so.1").symlink_to(library)
    program, n_mics = tmp_path / "live", 2
    subprocess.run(
        [compiler, "-O2", "-std=c++17", f"-I{ROOT}/tests/onnxruntime", ROOT / "examples/live.cpp",
         tmp_path / "libonnxruntime.so.1", f"-Wl,-rpath,{tmp_path}", "-o", program],
        check=True,
    )  # fmt: skip
    onnx.save(files(n_mics), tmp_path / "live.onnx")
    wav = write(tmp_path / "in.wav", voice(n_mics, 0.5))
    subprocess.run([program, tmp_path / "live.onnx", wav, tmp_path / "out.wav"], check=True)
    found, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert rate == 16000
    np.testing.assert_allclose(found, enhanced_by(files(n_mics), wav), atol=5e-5)
