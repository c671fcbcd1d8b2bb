"""Two talkers in a real room: are the streams as unlike as the microphones are alike?

    python benchmarks/real_talkers.py RECORDING [--talkers 2] [--out FOLDER] [--plot PICTURE.png]

There is no truth of a real recording. What can be told is how much two signals have in common: the
largest correlation of their samples within 16 ms, and the correlation of their levels in time and
frequency (512/256 STFT, 100 Hz to 6 kHz, 50 dB), both near 1 for microphones beside each other and
near 0 for voices apart.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# A file beside this one has the name of a package, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

from itertools import combinations
from typing import Annotated

import numpy as np
import soundfile
import typer
from numpy.typing import NDArray

_LAG_S = 0.016
_RANGE_DB = 50.0

Pairs = tuple[float, float]  # of samples, of levels


def in_common(x: NDArray[np.floating], rate: int) -> Pairs:
    """Means over all pairs of ``x (channels, samples)``."""
    pairs = list(combinations(range(len(x)), 2))
    levels = [level_of(channel, rate) for channel in x]
    samples = [largest_correlation(x[a], x[b], round(_LAG_S * rate)) for a, b in pairs]
    return float(np.mean(samples)), float(
        np.mean([np.corrcoef(levels[a], levels[b])[0, 1] for a, b in pairs])
    )


def largest_correlation(a: NDArray[np.floating], b: NDArray[np.floating], n_lags: int) -> float:
    """Of the samples, over all lags of up to `n_lags`, in magnitude."""
    n = 2 * len(a)
    cross = np.fft.irfft(np.fft.rfft(a, n) * np.fft.rfft(b, n).conj(), n)
    near = np.concatenate([cross[: n_lags + 1], cross[-n_lags:]])
    return float(np.abs(near).max() / np.sqrt(np.sum(a**2) * np.sum(b**2)))


def level_of(x: NDArray[np.floating], rate: int) -> NDArray[np.floating]:
    """Levels of all bins in dB, as one vector."""
    import torch

    from multichannel.stft import STFT

    stft = STFT()
    freqs = stft.config.freqs_hz(rate)
    X = stft(torch.from_numpy(x))[(freqs > 100) & (freqs < 6000)]
    power = X.abs().square()
    return (10 * (power + 10 ** (-_RANGE_DB / 10) * power.max()).log10()).flatten().numpy()


def main(
    recording: Annotated[Path, typer.Argument(help="a file of several channels")],
    talkers: Annotated[int, typer.Option(help="how many talk")] = 2,
    out: Annotated[Path, typer.Option(help="where the streams go")] = Path("runs/real_talkers"),
    plot: Annotated[Path | None, typer.Option(help="a picture of mic 0 and the streams")] = None,
    model: Annotated[str, typer.Option(help="weights of ours, by name or path")] = "separate",
) -> None:
    """Separate, correlate, draw."""
    from clearbeam.audio import Recording
    from clearbeam.console import out as console
    from clearbeam.console import say_error
    from clearbeam.plots import plot_spectrograms, spectrogram
    from clearbeam.separate import Job, Settings, load_separator

    try:
        job = Job(load_separator(model), model, Settings(talkers))
        found = job.run(Recording([recording]), out)
    except (ValueError, OSError) as error:
        say_error(error)
        raise typer.Exit(2) from None
    mics, rate = soundfile.read(recording, always_2d=True)
    streams = np.stack([soundfile.read(file)[0] for file in found.files])
    for name, x in (("microphones", mics.T), ("streams", streams)):
        samples, levels = in_common(x, rate)
        console.print(f"{name}: correlation of samples {samples:.2f}, of levels {levels:.2f}")
    if plot is not None:
        panels = {"microphone 0": spectrogram(Recording([recording]))}
        panels |= {file.stem: spectrogram(Recording([file])) for file in found.files}
        plot_spectrograms(plot, panels)


if __name__ == "__main__":
    typer.run(main)
