"""The demonstration: a simulated room, its recording enhanced, and what that gained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from clearbeam.audio import Recording, write_audio
from clearbeam.enhance import load_enhancer
from clearbeam.metrics import METRICS
from clearbeam.plots import (
    ACCENT,
    BLUE,
    INK,
    draw_geometry,
    draw_spectrograms,
    save,
    spectrogram,
    title,
)
from clearbeam.tables import Table
from simulate import Scene, SceneConfig, render, sample_scene

SCENE = "quickstart"
SEED = 2
METRIC_NAMES = ("si_sdr", "pesq_wb", "stoi")


@dataclass(frozen=True)
class Demo:
    """What the demonstration made: its files and the scores of microphone 0 and of the output."""

    files: tuple[Path, ...]
    before: dict[str, float]
    after: dict[str, float]

    def table(self) -> Table:
        """The scores before and after, and the gain."""
        metrics = [METRICS[name] for name in self.before]
        rows = [
            ("microphone 0", *(f"{self.before[m.name]:.{m.digits}f}" for m in metrics)),
            ("enhanced", *(f"{self.after[m.name]:.{m.digits}f}" for m in metrics)),
            (
                "gain",
                *(f"{self.after[m.name] - self.before[m.name]:+.{m.digits}f}" for m in metrics),
            ),
        ]
        return Table("one talker, six microphones", ("", *(m.title for m in metrics)), rows)


def run_demo(out: Path, step: Callable[[str], object] = lambda what: None) -> Demo:
    """Simulate a room with six microphones, enhance what they hear, and judge it.

    Writes into the folder `out`: `noisy.flac` (a channel per microphone), `noisy_mic0.flac`,
    `enhanced.flac`, `clean.flac` (the early image at microphone 0, which the scores refer to),
    `demo.png` and `scores.md`. `step` hears what is being done. Raises OSError where `out` is not
    writable.
    """
    step("simulating a room with six microphones")
    mixture = render(sample_scene(SceneConfig.load(SCENE), SEED, 0))
    step("enhancing")
    enhancer = load_enhancer()
    noisy = torch.from_numpy(mixture.mixture).float()
    with torch.inference_mode():
        enhanced = enhancer(noisy).numpy()
    step("scoring")
    clean = mixture.early[0, 0]
    before, after = _scores(mixture.mixture[0], clean), _scores(enhanced, clean)
    step("drawing")
    sounds = {"noisy": mixture.mixture, "noisy_mic0": mixture.mixture[:1],
              "enhanced": enhanced[None], "clean": clean[None]}  # fmt: skip
    files = [_write(out / f"{name}.flac", sound, mixture.fs) for name, sound in sounds.items()]
    demo = Demo((*files, out / "demo.png", out / "scores.md"), before, after)
    plot_demo(demo.files[-2], files, mixture.scene)
    demo.files[-1].write_text(demo.table().to_markdown() + "\n", encoding="utf-8")
    return demo


def _scores(estimate: NDArray[np.floating], reference: NDArray[np.floating]) -> dict[str, float]:
    """The scores that can be computed here: PESQ needs a package that may be missing."""
    return {
        name: METRICS[name].measure(estimate, reference)
        for name in METRIC_NAMES
        if METRICS[name].available
    }


def _write(path: Path, sound: NDArray[np.floating], rate: int) -> Path:
    write_audio(path, [sound.astype(np.float32)], rate, "PCM_16", channels=len(sound))
    return path


def plot_demo(path: Path, files: list[Path], scene: Scene) -> None:
    """Draw the spectrograms of microphone 0, output and target beside the room and the array."""
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(3, 1.25))[0]
    _, mic, enhanced, clean = files
    panels = {
        f"one of {len(scene.mics_m)} microphones": spectrogram(Recording([mic])),
        "enhanced by clearbeam": spectrogram(Recording([enhanced])),
        "the talker without noise and reverberation": spectrogram(Recording([clean])),
    }
    draw_spectrograms(left, list(left.subplots(3, sharex=True)), panels)
    room, array = right.subplots(2, height_ratios=(1.25, 1))
    _draw_room(room, scene)
    draw_geometry(array, scene.array.as_array())
    title(array, f"array: {scene.array.name}")
    save(figure, path)


def _draw_room(axis: Axes, scene: Scene) -> None:
    """Draw the room seen from above: its walls, microphones, talkers and noises."""
    length, width, _ = scene.room_size_m
    noises = [n.position_m for n in scene.noises if n.position_m is not None]
    talkers = [t.position_m for t in scene.talkers if t.position_m is not None]
    for label, places, marker, colour, size in (
        ("array", scene.mics_m, "o", BLUE, 12),
        ("talker", talkers, "*", ACCENT, 220),
        ("noise", noises, "X", INK, 90),
    ):
        if places:
            x, y, _ = zip(*places, strict=True)
            axis.scatter(x, y, s=size, marker=marker, c=colour, label=label, zorder=3)
    axis.set(xlim=(0, length), ylim=(0, width), aspect="equal", xlabel="x (m)", ylabel="y (m)")
    axis.grid(alpha=0.3)
    title(axis, f"room: RT60 {scene.rt60_s:.2f} s, SNR {scene.snr_db:g} dB")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False)
