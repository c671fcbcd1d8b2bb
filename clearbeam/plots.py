"""Pictures: spectrograms side by side, array geometry, beam patterns. Nothing needs a display."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from clearbeam.audio import Recording
from clearbeam.files import check_writable, replacing

COLUMNS = 1000  # of a spectrogram, or up to twice as many: more are averaged, not cut
WINDOW_S = 0.032
RANGE_DB = 75.0
HIGHEST_HZ = 8_000
FORMATS = (".png", ".pdf", ".svg")
INK = "#20303c"
ACCENT = "#d1495b"
BLUE = "#2e6f95"


@dataclass(frozen=True)
class Spectrogram:
    """Power over time and frequency: `level_db` (freqs, columns) up to `top_hz` for `seconds`."""

    level_db: NDArray[np.float64]
    seconds: float
    top_hz: float


def spectrogram(recording: Recording, mic: int = 0) -> Spectrogram:
    """Return the spectrogram of one microphone of a recording of any length, in bounded memory.

    Frames of 32 ms, a quarter apart. Neighbours are averaged as often as it takes to keep fewer
    than 2000 columns, so nothing has to be known about the length beforehand.
    """
    rate = recording.sample_rate
    n_fft = 2 ** round(math.log2(WINDOW_S * rate))
    n_kept = math.ceil(min(HIGHEST_HZ / rate, 0.5) * n_fft) + 1
    columns, rest, width = np.zeros((0, n_kept)), np.zeros((0, n_kept)), 1
    for power in _powers(recording, mic, n_fft, n_kept):
        rest = np.concatenate([rest, power])
        full = len(rest) // width * width
        columns = np.concatenate([columns, _averaged(rest[:full], width)])
        rest = rest[full:]
        while len(columns) >= 2 * COLUMNS:
            even = len(columns) // 2 * 2
            rest = np.concatenate([np.repeat(columns[even:], width, axis=0), rest])
            columns, width = _averaged(columns[:even], 2), 2 * width
    if len(rest):
        columns = np.concatenate([columns, rest.mean(axis=0, keepdims=True)])
    level_db = 10 * np.log10(np.nan_to_num(columns.T) + 1e-20)
    return Spectrogram(level_db, recording.n_samples / rate, (n_kept - 1) * rate / n_fft)


def _powers(
    recording: Recording, mic: int, n_fft: int, n_kept: int
) -> Iterator[NDArray[np.float64]]:
    """Yield the power of frames in the lowest `n_kept` bins, (frames, bins), a block at a time."""
    hop = n_fft // 4
    window = np.hanning(n_fft + 1)[:-1]
    # Half a window of silence on both sides puts a frame's middle where it is drawn.
    edge = np.zeros((recording.n_mics, n_fft // 2), np.float32)
    held = edge[mic]
    for block in chain(recording.blocks(), [edge]):
        held = np.concatenate([held, block[mic]])
        if len(held) < n_fft:
            continue
        frames = np.lib.stride_tricks.sliding_window_view(held, n_fft)[::hop]
        held = held[len(frames) * hop :]
        yield np.abs(np.fft.rfft(frames * window)[:, :n_kept] / window.sum()) ** 2


def _averaged(rows: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Average every `width` of `rows`, (n * width, bins) -> (n, bins)."""
    return rows.reshape(-1, width, rows.shape[1]).mean(axis=1)


def plot_spectrograms(path: Path, panels: Mapping[str, Spectrogram]) -> None:
    """Draw titled spectrograms below each other on one time axis and one colour scale.

    The scale ends at the loudest bin of all panels and spans 75 dB, so that equal colours are
    equal levels. Raises ValueError for a name that is no picture or cannot be written.
    """
    check_picture(path)
    figure = Figure(figsize=(10, 0.9 + 2.3 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    draw_spectrograms(figure, list(axes), panels)
    save(figure, path)


def draw_spectrograms(figure: Figure, axes: list[Axes], panels: Mapping[str, Spectrogram]) -> None:
    """Draw `panels` into `axes` with one colour scale, its bar at the right."""
    loudest_db = max(float(panel.level_db.max()) for panel in panels.values())
    for axis, (name, panel) in zip(axes, panels.items(), strict=True):
        image = axis.imshow(
            panel.level_db - loudest_db,
            origin="lower",
            aspect="auto",
            extent=(0.0, panel.seconds, 0.0, panel.top_hz / 1000),
            cmap="magma",
            vmin=-RANGE_DB,
            vmax=0.0,
            interpolation="antialiased",
        )
        title(axis, name)
        axis.set_ylabel("frequency (kHz)")
    axes[-1].set_xlabel("time (s)")
    figure.colorbar(image, ax=axes, label="level (dB)", fraction=0.03, pad=0.01, aspect=40)


def title(axis: Axes, text: str) -> None:
    """Head `axis` with `text`, in the style of all pictures here."""
    axis.set_title(text, loc="left", fontsize=11, color=INK, fontweight="bold")


def draw_geometry(axis: Axes, positions_m: NDArray[np.float64]) -> None:
    """Draw microphone positions (mics, 3), seen from above, in centimetres, numbered from 0."""
    x, y, z = 100 * np.asarray(positions_m).T
    if np.ptp(z) > 1e-6:
        dots = axis.scatter(x, y, s=90, c=z, cmap="viridis", zorder=3)
        axis.figure.colorbar(dots, ax=axis, label="height (cm)", fraction=0.04)
    else:
        axis.scatter(x, y, s=90, c=BLUE, zorder=3)
    for number, place in enumerate(zip(x, y, strict=True)):
        axis.annotate(str(number), place, (6, 6), textcoords="offset points", color=INK, fontsize=9)
    reach = 1.35 * max(np.abs(x).max(), np.abs(y).max(), 1.0)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axis.set(xlabel="x (cm): azimuth 0°", ylabel="y (cm): azimuth 90°")
    axis.grid(alpha=0.3)


def draw_beam_pattern(
    axis: Axes, azimuth_deg: NDArray[np.float64], gains_db: Mapping[str, NDArray[np.float64]]
) -> None:
    """Draw gains in dB (azimuths,) around a polar axis, one line a label, floor at -40 dB."""
    for (label, gain_db), colour in zip(gains_db.items(), colours(len(gains_db)), strict=True):
        axis.plot(np.deg2rad(azimuth_deg), np.maximum(gain_db, -40.0), label=label, color=colour)
    axis.set(ylim=(-40, 3), yticks=[-30, -20, -10, 0])
    axis.tick_params(axis="y", labelsize=8)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, -0.3), ncols=2, fontsize=9, frameon=False)


def draw_curves(
    axis: Axes, freqs_hz: NDArray[np.float64], curves: Mapping[str, NDArray[np.float64]]
) -> None:
    """Draw curves in dB (freqs,) over a logarithmic frequency axis, one line a label."""
    for (label, curve), colour in zip(curves.items(), (ACCENT, BLUE, INK), strict=False):
        axis.semilogx(freqs_hz, curve, label=label, color=colour, linewidth=1.8)
    ticks = [100, 200, 500, 1000, 2000, 4000, 8000]
    axis.set_xticks(ticks, [f"{t // 1000}k" if t >= 1000 else str(t) for t in ticks])
    axis.minorticks_off()
    axis.set(xlabel="frequency (Hz)", ylabel="dB", xlim=(freqs_hz[0], freqs_hz[-1]))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9, frameon=False)


def colours(n: int) -> list[tuple[float, float, float, float]]:
    """Colours that are told apart, dark ones first."""
    from matplotlib import colormaps

    return [colormaps["viridis"](v) for v in np.linspace(0.0, 0.85, n)]


def check_picture(path: Path) -> None:
    """Raise ValueError where `path` is no name for a picture, or cannot be written."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"expected a picture named {', '.join(FORMATS)}, found {path.name}")
    check_writable(path)


def save(figure: Figure, path: Path) -> None:
    """Write `figure` to `path`, which appears only when complete."""
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110, facecolor="white")
