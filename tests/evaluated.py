"""What the tests of evaluation share: three short clips, and a system that counts its calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from clearbeam import evaluate, systems
from clearbeam.report import Report
from simulate import SceneConfig, write_dataset

FAST = ("si_sdr", "si_sdri", "stoi")
N_CLIPS = 3


def write_clips(folder: Path) -> Path:
    """A data set of `N_CLIPS` clips of two seconds."""
    config = SceneConfig.load("quickstart").model_copy(update={"duration_s": 2.0})
    write_dataset(config, folder, N_CLIPS, seed=5)
    return folder


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clips that a system called `counting` is run on from now on, warm-up left out."""
    calls: list[str] = []

    def count(mixture, clip):
        if clip.seconds > evaluate.WARM_UP_S:
            calls.append(clip.name)
        return mixture[-1]

    monkeypatch.setitem(systems.BEAMS, "counting", count)
    return calls


def scores(report: Report, system: str, metric: str = "si_sdr") -> tuple[float, ...]:
    """Of each clip."""
    return report.score(system, metric).values
