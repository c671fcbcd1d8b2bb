"""The enhancement of files: recording in, mono file out, a block at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from os.path import realpath  # follows links that go round in circles as far as they go
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearbeam.audio import (
    FORMATS,
    Block,
    Recording,
    first,
    output_subtype,
    resample,
    write_audio,
)
from clearbeam.files import check_writable

if TYPE_CHECKING:
    from torch import Tensor

    from multichannel import Enhancer
    from simulate.arrays import ArrayGeometry


@dataclass(frozen=True)
class Settings:
    """What a user may say about how to enhance; `None` lets the enhancer choose.

    array: the geometry of the microphones, needed by `look_azimuth_deg`, the talker's direction;
    reference_mic: counted from 0; streaming: the causal recursive mode, not the offline one.
    """

    array: ArrayGeometry | None = None
    look_azimuth_deg: float | None = None
    reference_mic: int | None = None
    streaming: bool = False

    def check(self, n_mics: int) -> None:
        """Raise ValueError where these settings do not fit a recording of `n_mics` channels."""
        if self.look_azimuth_deg is not None and n_mics == 1:
            raise ValueError("expected several microphones for --look, found a mono recording")
        if self.look_azimuth_deg is not None and self.array is None:
            raise ValueError(
                "expected --array with --look: a direction needs the microphones' positions"
            )
        if self.array is not None and self.array.n_mics != n_mics:
            raise ValueError(
                f"expected {self.array.n_mics} channels for the array {self.array.name}, "
                f"found {n_mics}"
            )
        if self.reference_mic is not None and not 0 <= self.reference_mic < n_mics:
            raise ValueError(
                f"expected a reference mic from 0 to {n_mics - 1}, found {self.reference_mic}"
            )


def load_enhancer(
    model: str = "default",
    device: str = "auto",
    precision: str = "fp32",
    latency_ms: float | None = None,
) -> Enhancer:
    """Return the enhancer of a shipped name or of a file, computing on one thread.

    Networks this small gain nothing from a second thread, and wait for it where another process
    is at work; OMP_NUM_THREADS overrides this. Precision: fp32; bf16 or fp16 on CUDA. Raises
    ValueError for no such model, device or latency, or for fewer bits on a CPU.
    """
    import torch  # here, so that a missing file is told without waiting for it

    from multichannel import Enhancer

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    enhancer = Enhancer.from_pretrained(model, device=device, latency_ms=latency_ms)
    if precision != "fp32":
        where = enhancer.stft.analysis_window.device.type
        if where == "cpu":
            raise ValueError(
                f"expected --precision fp32 on the CPU, found {precision}: "
                "networks this small take twice as long there in 16 bits"
            )
        in_16_bits(enhancer, where, precision)
    return enhancer


def in_16_bits(enhancer: Enhancer, device: str, precision: str) -> None:
    """Let the networks multiply in bf16 or fp16; spectra and statistics stay as they are."""
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    for net in (enhancer.mono, enhancer.multi, enhancer.refine):
        if net is not None:
            net.forward = torch.autocast(device, dtype)(net.forward)  # type: ignore[method-assign]


def check_job(recording: Recording, target: Path, settings: Settings) -> str:
    """Return the sample type that `target` will have.

    Raises ValueError where the settings do not fit the recording or the target cannot be written.
    """
    settings.check(recording.n_mics)
    check_writable(target)
    return output_subtype(target, recording.sample_rate, recording.subtype)


def enhance_recording(
    enhancer: Enhancer,
    recording: Recording,
    target: Path,
    settings: Settings,
    on_seconds: Callable[[float], object] = lambda seconds: None,
) -> None:
    """Enhance `recording` into the mono file `target` of the same rate and length.

    `on_seconds` hears how many seconds each finished block lasts. Memory does not grow with the
    recording. Raises ValueError for settings that do not fit, a bad recording or a bad target; then
    no target is written.
    """
    subtype = check_job(recording, target, settings)
    rate, core_rate = recording.sample_rate, enhancer.sample_rate
    heard = resample(recording.blocks(), rate, core_rate)
    clean = _enhanced(enhancer, heard, settings, on_seconds)
    back = (block[0] for block in resample(clean, core_rate, rate))
    write_audio(target, first(back, lambda: recording.n_samples), rate, subtype)


def _enhanced(
    enhancer: Enhancer,
    blocks: Iterable[Block],
    settings: Settings,
    on_seconds: Callable[[float], object],
) -> Iterator[Block]:
    """Yield what the enhancer makes of `blocks` (mics, n) as (1, n') blocks."""
    import torch

    options = options_of(settings)
    heard = (torch.from_numpy(block) for block in blocks)
    way = partial(_live, enhancer) if settings.streaming else enhancer.enhance_blocks
    for output in way(heard, **options):
        on_seconds(output.shape[-1] / enhancer.sample_rate)
        yield output.cpu().numpy()[None]


def options_of(settings: Settings) -> dict[str, Any]:
    """What `Enhancer` wants to know of the settings, by its own names."""
    import torch

    array = settings.array
    return {
        "reference_mic": settings.reference_mic,
        "positions_m": None if array is None else torch.from_numpy(array.as_array()),
        "look_azimuth_deg": settings.look_azimuth_deg,
    }


def _live(enhancer: Enhancer, blocks: Iterator[Tensor], **options: Any) -> Iterator[Tensor]:
    """What a live stream makes of `blocks` (mics, n): compiled, where that can be."""
    stream = None
    for x in blocks:
        if not x.isfinite().any():
            raise ValueError("expected a mic with finite samples, found none")
        stream = stream or enhancer.stream(x.shape[0], **options)
        yield stream.step(x)
    if stream is not None:
        yield stream.flush()


def output_paths(
    recordings: Sequence[Sequence[Path]], out: str | None, may_exist: bool = False
) -> list[Path]:
    """Return where the enhanced version of each recording, the list of its files, goes.

    out: a folder (it exists, ends with a slash, or has no extension), or for one recording a file,
    or None for a place beside each. In a folder the name is NAME.enhanced.wav for WAV, and
    NAME.enhanced.flac for any other format. Raises ValueError where two outputs meet, an output
    would replace an input, or, unless it `may_exist`, is there already.
    """
    inputs = [files[0] for files in recordings]
    names = [f"{path.stem}.enhanced{_extension(path)}" for path in inputs]
    if out is None:
        paths = [path.with_name(name) for path, name in zip(inputs, names, strict=True)]
    elif out.endswith("/") or Path(out).is_dir() or not Path(out).suffix:
        paths = [Path(out) / name for name in names]
    elif len(inputs) == 1:
        paths = [Path(out)]
    else:
        raise ValueError(f"expected --out to be a folder for {len(inputs)} recordings, found {out}")
    _check_outputs({realpath(p) for files in recordings for p in files}, paths, may_exist)
    return paths


def _extension(path: Path) -> str:
    return ".wav" if FORMATS.get(path.suffix.lower()) == "WAV" else ".flac"


def _check_outputs(inputs: set[str], paths: Sequence[Path], may_exist: bool) -> None:
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise ValueError(f"expected inputs of different names, found two that make {path}")
        if realpath(path) in inputs:
            raise ValueError(f"expected an output that is not an input, found {path}")
    existing = [path for path in paths if path.is_file()]
    if existing and not may_exist:
        n_more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise ValueError(
            f"{existing[0]}{n_more} exists already: use --force to replace, --resume to keep it"
        )
