"""Does a network that learned in fast rooms do as well in exact ones?

    python benchmarks/fast_rooms.py --speech SPEECH --noise NOISE --out runs/fast_rooms

Two training sets of the same talkers, noises, places and levels, one in fast rooms and one in exact
ones, train the same one-input network, from the same seeds. Both are judged in exact rooms of the
valid split, clip against clip. Fast rooms do as well when the difference of the SI-SDR is above
-0.2 dB with its whole 95% interval. What that difference is between two seeds in exact rooms is
shown beside it. The same command goes on where it was stopped.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# benchmarks/simulate.py has the name of a package, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

import itertools
import subprocess
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from clearbeam.evaluate import evaluate_dataset
from clearbeam.report import Report
from clearbeam.scores import Score
from clearbeam.tables import Table
from simulate import SceneConfig, write_dataset

METHODS = ("fast", "exact")
METRICS = ("si_sdr", "pesq_wb", "stoi")
TRAIN_SEED, VALID_SEED = 1, 2
MARGIN_DB = 0.2
ALL_SEEDS = "fast - exact, all seeds"

Scores = dict[str, Score]  # by metric


def main(
    out: Annotated[Path, typer.Option()],
    speech: str = "builtin",
    noise: str = "builtin",
    clips: int = 800,
    valid: int = 100,
    seconds: float = 4,
    steps: int = 400,
    seeds: int = 2,
    jobs: int = 1,
) -> None:
    """Make the data, train, evaluate, and print the tables."""
    for method in METHODS:
        write_dataset(scene(method, speech, noise, "train"), out / method, clips, TRAIN_SEED, jobs)
    exact = scene("exact", speech, noise, "valid")
    write_dataset(exact, out / "valid", valid, VALID_SEED, jobs)
    weights = {
        (method, seed): trained(out, method, clips, seconds, steps, seed)
        for seed in range(seeds)
        for method in METHODS
    }
    systems = {place: f"gtcrn:{path}" for place, path in weights.items()}
    report = evaluate_dataset(
        out / "valid",
        ["noisy", *systems.values()],
        metrics=METRICS,
        json_path=out / "scores.json",
        jobs=jobs,
    )
    scores = {place: scores_of(report, name) for place, name in systems.items()}
    paired = differences(scores, seeds)
    console = Console()
    named = {f"{method} rooms, seed {seed}": found for (method, seed), found in scores.items()}
    noisy = {"noisy microphone": scores_of(report, "noisy")}
    console.print(table(f"{valid} clips in exact rooms", report, noisy | named).to_rich())
    console.print(table("paired differences", report, paired).to_rich())
    low, high = paired[ALL_SEEDS]["si_sdr"].interval()
    verdict = "as well" if low > -MARGIN_DB else "worse" if high < -MARGIN_DB else "undecided"
    console.print(f"fast rooms do {verdict} (margin {MARGIN_DB:g} dB)")


def scene(method: str, speech: str, noise: str, split: str) -> SceneConfig:
    """The shipped training scene in rooms of one method, with one microphone: all that is heard."""
    config = SceneConfig.load("train_enhance")
    data = config.model_dump(mode="json") | {"method": method, "split": split}
    for name, corpus in (("speech", speech), ("noise", noise)):
        data[name] = corpus if corpus == "builtin" else str(Path(corpus).resolve())
    data["array"]["random"]["mics"] = 1
    data["references"] = ["early"]
    return SceneConfig.model_validate(data)


def trained(out: Path, method: str, clips: int, seconds: float, steps: int, seed: int) -> Path:
    """The weights of a finished training run, in a folder named by all that it depends on."""
    folder = out / f"{method}-{clips}x{seconds:g}s-{steps}-{seed}"
    finished = folder / "finished.safetensors"
    if not finished.is_file():
        command = [sys.executable, "-m", "clearbeam", "train", "mask", "--out", str(folder)]
        command += [f"data.train={out / method}", f"data.valid={out / 'valid'}", "batch=8"]
        command += [f"steps={steps}", f"valid_every={steps}", f"seed={seed}"]
        subprocess.run([*command, f"data.seconds={seconds}"], check=True)
        for suffix in (".json", ".safetensors"):
            (folder / "last").with_suffix(suffix).rename(finished.with_suffix(suffix))
    return finished


def scores_of(report: Report, system: str) -> Scores:
    return {metric: report.score(system, metric) for metric in METRICS}


def differences(scores: dict[tuple[str, int], Scores], seeds: int) -> dict[str, Scores]:
    """Fast minus exact clip by clip, for every seed and on average; and what seeds alone do."""
    found = {f"fast - exact, seed {k}": minus(scores["fast", k], scores["exact", k])
             for k in range(seeds)}  # fmt: skip
    found[ALL_SEEDS] = mean([*found.values()])
    for method, k in itertools.product(METHODS, range(1, seeds)):
        found[f"{method} rooms, seed {k} - seed 0"] = minus(scores[method, k], scores[method, 0])
    return found


def minus(these: Scores, those: Scores) -> Scores:
    return {metric: these[metric] - those[metric] for metric in METRICS}


def mean(runs: Sequence[Scores]) -> Scores:
    """The mean over runs of every clip's score."""
    found = {}
    for metric in METRICS:
        values = np.mean([run[metric].values for run in runs], axis=0)
        found[metric] = Score(runs[0][metric].clips, tuple(values.tolist()))
    return found


def table(title: str, report: Report, rows: dict[str, Scores]) -> Table:
    """Mean and interval over clips of every row."""
    header = ("system", *(column.title for column in report.columns))
    cells = []
    for label, scores in rows.items():
        intervals = {metric: score.interval() for metric, score in scores.items()}
        halves = {metric: (high - low) / 2 for metric, (low, high) in intervals.items()}
        texts = [f"{c.text(scores[c.name].mean)} ± {c.text(halves[c.name])}"
                 for c in report.columns]  # fmt: skip
        cells.append((label, *texts))
    return Table(title, header, cells, "mean ± half the width of its 95% interval over clips")


if __name__ == "__main__":
    typer.run(main)
