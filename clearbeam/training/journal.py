"""What a run leaves behind beside its weights: a log, TensorBoard, and where it came from."""

from __future__ import annotations

import json
import math
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from clearbeam.files import replacing
from clearbeam.training.config import TrainConfig
from clearbeam.training.tasks import Outputs
from multichannel.enhance import SAMPLE_RATE
from multichannel.stft import STFT
from simulate.disk import naming

_RANGE_DB = 80.0
_PACKAGES = ("torch", "lightning", "numpy", "scipy", "soundfile", "clearbeam", "asteroid")


class Journal:
    """`log.jsonl`, one line every few steps, and the same numbers for TensorBoard.

    A run that goes on from an older checkpoint takes back the lines after it, and writes them anew.

    Args:
        folder: of the run.
        done: steps that the checkpoint has done.
    """

    def __init__(self, folder: Path, done: int) -> None:
        self.path = folder / "log.jsonl"
        if self.path.is_file():
            kept = [line for line in _whole_lines(self.path) if _step_of(line) <= done]
            _write(self.path, "".join(f"{line}\n" for line in kept))
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Add a line; what is not finite is written as null."""
        line: dict[str, Any] = {"step": step}
        for name, value in numbers.items():
            line[name] = value if math.isfinite(value) else None
            group = "valid" if name.startswith("valid_") else "train"
            self.board.add_scalar(f"{group}/{name.removeprefix('valid_')}", value, step)
        with naming(self.path), self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def show(self, step: int, number: int, outputs: Outputs, stft: STFT) -> None:
        """A valid clip to see and to hear: what went in, what came out, what was wanted."""
        sounds = {"heard": outputs.heard, "estimate": outputs.estimate}
        sounds["reference"] = outputs.reference
        waves = {name: x.detach().float().reshape(-1, x.shape[-1]) for name, x in sounds.items()}
        panels = [_levels(stft(x)) for rows in waves.values() for x in rows]
        self.board.add_image(f"clip{number}", _picture(panels), step, dataformats="HWC")
        for name, rows in waves.items():
            for k, x in enumerate(rows):
                label = f"clip{number}/{name}" + (str(k + 1) if len(rows) > 1 else "")
                loudest = max(float(x.abs().max()), 1e-9)
                self.board.add_audio(label, (0.9 * x / loudest)[None].cpu(), step, SAMPLE_RATE)

    def close(self) -> None:
        self.board.close()


def note_origin(folder: Path, config: TrainConfig) -> None:
    """Write the resolved config, and the revision, versions and machine that the run began with."""
    packages = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    origin = {
        "began": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "git": git_revision(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "packages": packages,
    }
    _write(folder / "origin.json", json.dumps(origin, indent=1) + "\n")
    _write(folder / "config.yaml", config.saved())


def git_revision() -> str | None:
    """Commit of the code, with `-dirty` after it where files were changed; None outside git."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(words, cwd=here, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _whole_lines(path: Path) -> list[str]:
    """Lines of a log; the last one may be torn."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text[: text.rfind("\n") + 1].splitlines()


def _step_of(line: str) -> float:
    """Of a line of the log; none that could be kept where something else has damaged it."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return math.inf


def _levels(X: Tensor) -> np.ndarray:
    """Level of a spectrum in 0..1 of the range shown, high frequencies on top."""
    level_db = 20 * torch.log10(X.abs().cpu() + 1e-6)
    return np.asarray((level_db / _RANGE_DB + 0.75).clamp(0, 1).flip(0))


def _picture(panels: list[np.ndarray]) -> np.ndarray:
    """Spectrograms one above the other, ``(height, width, 3)``, all on one scale."""
    gap = np.ones((4, panels[0].shape[1]))
    rows = [part for panel in panels for part in (panel, gap)][:-1]
    colours = matplotlib.colormaps["magma"](np.concatenate(rows))[..., :3]
    return (255 * colours).astype(np.uint8)
