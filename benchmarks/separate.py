"""What the separation weights claim, measured: simulate, score every system, say what held.

    python benchmarks/separate.py [--corpora ../shared/data] [--split test] [--count 100] [--jobs 2]

CORPORA holds speech.jsonl and noise.jsonl. Every condition is a frozen data set of its own in OUT,
made from one seed; the references are the talkers' images at microphone 0, with all of the room.
The same command goes on where it was stopped. Develop with `--split valid`. FastMNMF2 takes most of
the time of scoring: `--no-slow` leaves it out.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# A file beside this one has the name of a package, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clearbeam.claims import Claim, Found, claims_table, facts, write_claims
from clearbeam.report import Column

if TYPE_CHECKING:  # workers that simulate import this file too, and need none of it
    from rich.progress import Progress

    from clearbeam.report import Report
    from simulate import SceneConfig

CORPORA = Path(__file__).parents[1].parent / "shared" / "data"
SEED = 60
ARRAYS = ("laptop_2mic", "linear_4mic", "circular_6plus1", "circular_8mic")
ROOMS = {"dry": 0.3, "lively": 0.6}  # RT60 in seconds
ORACLES = ("oracle-mvdr", "oracle-mvdr-1024", "oracle-mvdr-2048", "oracle-mask", "oracle-wiener")
ALL = ("si_sdri", "sdri", "pesq_wb", "stoi", "count")
FEW = ("si_sdri", "sdri", "count")
COLUMNS = {
    "si_sdri": Column("si_sdri", "SI-SDRi", 2, gain=True),
    "count": Column("count", "count right", 2),
    "speed": Column("speed", "seconds of audio in a second of one thread", 1),
}


@dataclass(frozen=True)
class Condition:
    """A data set and what is scored on it; `array` and `rt60_s` are not those of the scene."""

    name: str
    scene: str
    systems: tuple[str, ...]
    metrics: tuple[str, ...] = FEW
    array: str = ""
    rt60_s: float | None = None


@dataclass(frozen=True)
class Setting:
    """What one run is about. slow: with FastMNMF2."""

    corpora: Path
    out: Path
    split: str
    count: int
    jobs: int
    slow: bool
    model: str

    @property
    def ours(self) -> str:
        return "clearbeam" if self.model == "separate" else f"clearbeam:{self.model}"

    @property
    def told(self) -> str:
        return self.ours.replace("clearbeam", "clearbeam-told", 1)

    @property
    def live(self) -> tuple[str, ...]:
        """The causal weights of the package, beside the others of the package."""
        return ("clearbeam-live",) if self.model == "separate" else ()

    @property
    def rivals(self) -> tuple[str, ...]:
        """Those that are blind as ours, but for being told how many talk."""
        return ("auxiva", *(("fastmnmf2",) if self.slow else ()), "cacgmm")


# ---------------------------------------------------------------------------------- the data sets


def conditions(setting: Setting) -> list[Condition]:
    """Every condition that the claims need."""
    ours = (setting.told, setting.ours)
    blind = ("noisy", *setting.rivals)
    rooms = [
        Condition(
            name, "eval_separate_2talkers", (*blind, *ORACLES, *setting.live, *ours), ALL,
            rt60_s=rt60_s,
        )
        for name, rt60_s in ROOMS.items()
    ]  # fmt: skip
    arrays = [
        Condition(name, "eval_separate_arrays", (*blind, *ours), array=name) for name in ARRAYS
    ]
    three = Condition("three", "eval_separate_3talkers", (*blind, "oracle-mvdr-1024", *ours))
    one = Condition("one", "eval_separate_1talker", ("noisy", *ours))
    return [*rooms, *arrays, three, one]


def scene_of(condition: Condition, setting: Setting) -> SceneConfig:
    """The scene of a condition with the corpora of this run."""
    from simulate import SceneConfig

    scene = SceneConfig.load(condition.scene).model_dump(mode="json")
    for kind in ("speech", "noise"):
        scene[kind] = str((setting.corpora / f"{kind}.jsonl").resolve())
    scene |= {"split": setting.split, "references": ["image"], "reference_mics": "first"}
    if condition.array:
        scene["array"]["names"] = [condition.array]
    if condition.rt60_s is not None:
        scene["room"]["rt60_s"] = condition.rt60_s
    return SceneConfig.model_validate(scene)


def under(bar: Progress, title: str) -> Callable[[int, int], None]:
    """A function that shows progress below a title."""
    task = bar.add_task(title, total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


def simulate(condition: Condition, setting: Setting, bar: Progress) -> Path:
    """The folder of the data set, with what was missing of it."""
    from simulate import write_dataset

    scene, folder = scene_of(condition, setting), setting.out / condition.name
    seen = under(bar, f"{condition.name}: mixtures")
    write_dataset(scene, folder, setting.count, SEED, setting.jobs, seen)
    return folder


def measure(condition: Condition, setting: Setting, bar: Progress) -> Report:
    """Make the data set and score its systems, or what is missing of both."""
    from clearbeam.evaluate import evaluate_dataset

    folder = simulate(condition, setting, bar)
    return evaluate_dataset(
        folder,
        condition.systems,
        task="separate",
        jobs=setting.jobs,
        limit=setting.count,
        metrics=condition.metrics,
        json_path=folder / "scores.json",
        progress=under(bar, f"{condition.name}: scores"),
    )


# ------------------------------------------------------------------------------------- the claims


def claims(reports: dict[str, Report], setting: Setting) -> list[Claim]:
    """Every claim that the reports can tell of."""
    ours, found = setting.ours, []
    for name, rt60_s in ROOMS.items():
        title = f"2 talkers, 6-mic circle, RT60 {rt60_s:g} s"
        found.append(gain(title, reports[name], ours, 11.0))
        found += [difference(title, reports[name], ours, r, 3.0) for r in setting.rivals]
        found.append(speed(f"{title}: speed", reports[name], ours, 5.0))
        for live in setting.live:
            found.append(gain(f"{title}: live", reports[name], live))
            found.append(speed(f"{title}: speed, live", reports[name], live, 10.0))
    for array in ARRAYS:
        found.append(gain(array, reports[array], ours))
        found += [difference(array, reports[array], ours, r, 0.0) for r in setting.rivals]
    found.append(gain("3 talkers, 6-mic circle", reports["three"], ours, 8.0))
    found.append(gain("1 talker alone", reports["one"], ours, -1.0))
    for name, report in reports.items():
        count = Found.of(report.score(ours, "count"), 0.9)
        found.append(Claim(f"{name}: as many streams as talkers", {"count": count}))
    return found


def gain(title: str, report: Report, system: str, least: float | None = None) -> Claim:
    """The median gain over the microphone."""
    return Claim(title, {"si_sdri": Found.of(report.score(system, "si_sdri"), least, median=True)})


def difference(title: str, report: Report, system: str, other: str, least: float) -> Claim:
    """The median of the paired differences of two systems."""
    score = report.score(system, "si_sdri") - report.score(other, "si_sdri")
    return Claim(f"{title}: ours − {other}", {"si_sdri": Found.of(score, least, median=True)}, "+")


def speed(title: str, report: Report, system: str, least: float) -> Claim:
    """Audio over processor time, all clips together."""
    value = 1 / report.speed(system).rtf
    return Claim(title, {"speed": Found(value, value, value, least)})


# --------------------------------------------------------------------------------------- the run


def main(
    corpora: Annotated[Path, typer.Option(help="speech.jsonl, noise.jsonl")] = CORPORA,
    out: Annotated[Path | None, typer.Option(help="default: runs/separate-SPLIT")] = None,
    split: Annotated[str, typer.Option(help="of the corpora")] = "test",
    count: Annotated[int, typer.Option(min=2, help="mixtures a condition")] = 100,
    jobs: Annotated[int, typer.Option(min=1)] = 2,
    slow: Annotated[bool, typer.Option(help="with FastMNMF2")] = True,
    model: Annotated[str, typer.Option(help="weights of ours, by name or path")] = "separate",
    only: Annotated[
        list[str] | None, typer.Option(help="a condition; its tables, without claims")
    ] = None,
    scores: Annotated[bool, typer.Option(help="without: make the data sets, no more")] = True,
) -> None:
    """Simulate, score, and write OUT/claims.md and OUT/claims.json."""
    from clearbeam.console import err, progress, say_error

    missing = [f for f in ("speech.jsonl", "noise.jsonl") if not (corpora / f).is_file()]
    if missing:
        err.print(f"left out: expected {missing[0]} in {corpora}, found no such file")
        return
    folder = out or Path("runs") / f"separate-{split}"
    setting = Setting(corpora, folder, split, count, jobs, slow, model)
    wanted = [c for c in conditions(setting) if not only or c.name in only]
    reports = {}
    try:
        with progress() as bar:
            for condition in wanted:
                if scores:
                    reports[condition.name] = measure(condition, setting, bar)
                else:
                    simulate(condition, setting, bar)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        say_error(error)
        raise typer.Exit(2) from None
    if scores:
        write([] if only else claims(reports, setting), reports, setting)


def write(rows: list[Claim], reports: dict[str, Report], setting: Setting) -> None:
    """Print the claims, and leave them with every other table in the folder of the run."""
    from clearbeam.console import out as console
    from clearbeam.separators import system_files

    asked = {"split": setting.split, "mixtures a condition": setting.count, "seed": SEED,
             "model": setting.model}  # fmt: skip
    packages = ("torch", "pyroomacoustics", "pesq", "pystoi")
    about, tables = facts(asked, system_files(setting.ours), packages), []
    for name, column in COLUMNS.items():
        judged = [claim for claim in rows if name in claim.found]
        middle = "median" if name == "si_sdri" else "mean"
        tables.append(claims_table(f"claims: {column.title}", judged, [column], middle=middle))
    for table in tables if rows else [t for r in reports.values() for t in r.tables()[:1]]:
        console.print(table.to_rich())
    shown = tables if rows else []
    page = write_claims(setting.out, about, shown, rows, list(reports.values()))
    console.print(f"{page} has the tables of every condition")


if __name__ == "__main__":
    # Worker processes import this file again, and must not begin a benchmark of their own.
    typer.run(main)
