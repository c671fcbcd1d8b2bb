"""One export from end to end: record, write, prove, and only then give the file its name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import onnxruntime
import torch

from clearbeam import __version__
from clearbeam.export import check
from clearbeam.export.int8 import quantise
from clearbeam.export.live import LiveStep, Network, Part, Pipeline
from clearbeam.export.onnx_file import OnnxStep, export_onnx, operators
from clearbeam.export.torchscript import TorchScriptStep, write_torchscript
from clearbeam.files import replacing
from multichannel import Enhancer
from multichannel.stream import MAX_MICS

FORMATS = ("onnx", "torchscript", "int8", "int8-weights")
INT8 = FORMATS[2:]
PARTS = ("pipeline", "mono", "multi", "refine")
# Far below the noise that is left; what it costs in scores is in docs/benchmarks.md.
INT8_SNR_DB = 10.0


@dataclass(frozen=True)
class Job:
    """What is exported: a model's name or path, a format, a part, and for how many mics."""

    model: str
    format: str
    part: str = "pipeline"
    n_mics: int = 6

    def __post_init__(self) -> None:
        for what, found, known in (("format", self.format, FORMATS), ("part", self.part, PARTS)):
            if found not in known:
                raise ValueError(f"expected a {what} of {', '.join(known)}, found {found!r}")
        if not 1 <= self.n_mics <= MAX_MICS:
            raise ValueError(f"expected 1 to {MAX_MICS} mics, found {self.n_mics}")


@dataclass(frozen=True)
class Exported:
    """What was written, and how well it agrees with the model."""

    n_bytes: int
    agreement: check.Agreement
    operators: Counter[str]


def export(
    job: Job,
    out: Path,
    calibration: list[torch.Tensor] | None = None,
    step: Callable[[str], object] = lambda what: None,
) -> Exported:
    """Write ``out`` once it has been run beside the model on a recording.

    Args:
        job: what to export.
        out: the file.
        calibration: recordings ``(mics, samples)`` for static int8; None quantises dynamically.
        step: hears what is being done.

    Raises:
        ValueError: no such model or part, or the file does not agree with the model.
        OSError: ``out`` cannot be written.
    """
    enhancer = Enhancer.from_pretrained(job.model, device="cpu")
    step("recording one frame")
    live = LiveStep(_part(enhancer, job)).eval()
    with replacing(out) as partial:
        found: Counter[str] = Counter()
        if job.format == "torchscript":
            write_torchscript(live, facts(enhancer, job), partial)
        else:
            model = export_onnx(live, facts(enhancer, job))
            if job.format in INT8:
                step("quantising")
                heard = [check.inputs_of(enhancer, job.part, x) for x in calibration or []]
                model = quantise(model, heard, job.format == "int8")
            onnx.save(model, partial)
            found = operators(model)
        step("comparing with the model")
        agreement = prove(enhancer, job, partial)
        return Exported(partial.stat().st_size, agreement, found)


def prove(enhancer: Enhancer, job: Job, path: Path) -> check.Agreement:
    """Run the file beside the model on a recording; ValueError where they disagree."""
    mixture = check.room_recording(job.n_mics if job.part == "pipeline" else max(2, job.n_mics))
    inputs = check.inputs_of(enhancer, job.part, mixture)
    expected = check.by_model(_part(enhancer, job), inputs)
    frame = TorchScriptStep(path) if job.format == "torchscript" else OnnxStep(path.read_bytes())
    given = check.by_file(frame, inputs)
    found = check.agreement(
        *(check.as_spectrum(job.part, one, inputs) for one in (expected, given))
    )
    exact = job.format not in INT8
    too_far = exact and not found.error <= check.TOLERANCE
    if too_far or not found.snr_db >= (check.SNR_DB if exact else INT8_SNR_DB):
        raise ValueError(
            f"expected the {job.format} file to sound like the model, found an error of "
            f"{found.error:.1e} of the peak and an SNR of {found.snr_db:.1f} dB; nothing is written"
        )
    return found


def _part(enhancer: Enhancer, job: Job) -> Part:
    if job.part == "pipeline":
        return Pipeline(enhancer, job.n_mics)
    net = getattr(enhancer, job.part)
    if net is None:
        raise ValueError(f"expected a model with a network {job.part}, found {job.model!r} without")
    return Network(net)


def facts(enhancer: Enhancer, job: Job) -> dict[str, str]:
    """The metadata inside a file: all that is needed to feed it, as strings."""
    config = {
        name: asdict(net.config)
        for name in ("mono", "multi", "refine")
        if (net := getattr(enhancer, name)) is not None
    }
    stft = enhancer.stft.config
    versions = {
        "clearbeam": __version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    return {
        "model": job.model,
        "part": job.part,
        "format": job.format,
        "mics": str(job.n_mics),
        "sample_rate": str(enhancer.sample_rate),
        "n_fft": str(stft.n_fft),
        "hop": str(stft.hop),
        "window": stft.window,
        "networks": json.dumps(config),
        "front_end": json.dumps(asdict(enhancer.config)),
        "versions": json.dumps(versions),
    }
