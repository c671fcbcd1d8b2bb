"""A picture of a meeting: what a microphone heard, and below it who talked when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from clearbeam.audio import Recording
from clearbeam.plots import check_picture, colours, draw_spectrograms, save, spectrogram, title
from simulate.meeting_text import Said


def plot_timeline(
    path: Path, recording: Recording, speakers: Sequence[str], segments: Sequence[Said]
) -> None:
    """Draw the spectrogram of microphone 0 and a row of bars a speaker, on one time axis.

    Raises ValueError for a name that is no picture or cannot be written.
    """
    check_picture(path)
    heights = (2.3, 0.5 + 0.35 * len(speakers))
    figure = Figure(figsize=(10, 0.9 + sum(heights)), layout="constrained")
    axes = figure.subplots(2, sharex=True, height_ratios=heights)
    draw_spectrograms(figure, [axes[0]], {"microphone 0": spectrogram(recording)})
    rows = axes[1]
    for row, (speaker, colour) in enumerate(zip(speakers, colours(len(speakers)), strict=True)):
        own = [(s.start_s, s.end_s - s.start_s) for s in segments if s.speaker == speaker]
        rows.broken_barh(own, (row - 0.35, 0.7), color=colour)
    rows.set_yticks(range(len(speakers)), [_label(name, segments) for name in speakers])
    rows.set(ylim=(len(speakers) - 0.4, -0.6), xlabel="time (s)")
    axes[0].set_xlabel("")
    rows.grid(axis="x", alpha=0.3)
    title(rows, "who talks")
    save(figure, path)


def _label(speaker: str, segments: Sequence[Said]) -> str:
    """The name of a speaker, and where he is, where that is known."""
    known = [s.facts["azimuth_deg"] for s in segments if s.speaker == speaker and s.facts]
    azimuths = [a for a in known if isinstance(a, float)]
    return f"{speaker} ({azimuths[0]:.0f}°)" if azimuths else speaker
