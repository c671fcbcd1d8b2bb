"""What the enhancement weights claim, measured: simulate, score every system, say what held.

    python benchmarks/enhance.py [--corpora ../shared/data] [--gtcrn FILE] [--split test] [--jobs 2]

CORPORA holds speech.jsonl and noise.jsonl, and rir.jsonl for measured rooms; FILE the published
GTCRN, the rival. Every condition is a frozen data set of its own in OUT, made from one seed, whose
reference is the early image at microphone 0. The same command goes on where it was stopped, and
after a change of weights scores anew what depends on them. Develop with `--split valid`.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# A file beside this one has the name of a package, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clearbeam.claims import Claim, Found, claims_table, facts, write_claims
from clearbeam.files import replacing

if TYPE_CHECKING:  # workers that simulate import this file too, and need none of it
    from rich.progress import Progress

    from clearbeam.report import Report
    from simulate import SceneConfig

SHARED = Path(__file__).parents[1].parent / "shared"
CORPORA, PUBLISHED = SHARED / "data", SHARED / "golden" / "gtcrn_dns3.safetensors"
SEED = 40
ARRAYS = ("laptop_2mic", "linear_4mic", "irregular_5mic", "circular_6plus1", "circular_8mic")
SUBSETS = {1: "@0", 2: "@0,4", 4: "@0,2,4,6", 8: ""}  # of circular_8mic, as even as can be
TARGETS = {"si_sdr": 10.0, "pesq_wb": 2.25, "stoi": 0.885}
METRICS = tuple(TARGETS)
RIVAL = "rival: the published GTCRN after the oracle-mask MVDR of the same array"


@dataclass(frozen=True)
class Condition:
    """A data set and what is scored on it; `array` and `responses` are not those of the scene."""

    name: str
    scene: str
    systems: tuple[str, ...]
    metrics: tuple[str, ...] = METRICS
    array: str = ""
    responses: Path | None = None


@dataclass(frozen=True)
class Setting:
    """What one run is about. gtcrn: the published network, None to leave the rival out."""

    corpora: Path
    out: Path
    split: str
    count: int
    jobs: int
    gtcrn: Path | None
    model: str

    @property
    def ours(self) -> str:
        return "clearbeam" if self.model == "default" else f"clearbeam:{self.model}"

    @property
    def live(self) -> str:
        return self.ours.replace("clearbeam", "clearbeam-streaming", 1)

    @property
    def rival(self) -> str | None:
        return None if self.gtcrn is None else f"oracle-mvdr+gtcrn:{self.gtcrn}"


# ---------------------------------------------------------------------------------- the data sets


def conditions(setting: Setting) -> list[Condition]:
    """Every condition that the claims need."""
    ours, live, gtcrn = setting.ours, setting.live, f"gtcrn:{setting.gtcrn}"
    rivals = (setting.rival,) if setting.rival else ()
    chains = (gtcrn, f"delay-and-sum+{gtcrn}", f"mvdr-2048+{gtcrn}", f"wpe+mvdr-2048+{gtcrn}",
              *rivals, f"oracle-mvdr-2048+{gtcrn}") if rivals else ()  # fmt: skip
    baselines = ("noisy", "delay-and-sum", "superdirective", *chains)
    ceilings = ("oracle-mvdr", "oracle-mvdr-2048", "oracle-mask")
    found = [
        Condition(
            "circle", "enhance_6mic", (*baselines, *ceilings, "mono", live, ours),
            ("si_sdr", "si_sdri", "sdr", "pesq_wb", "stoi", "estoi"),
        )
    ]  # fmt: skip
    for array in ARRAYS:
        few = [s for s in SUBSETS.values() if s] if array == "circular_8mic" else []
        systems = ("noisy", *rivals, *(f"{ours}{mics}" for mics in few), ours)
        found.append(Condition(array, "eval_arrays", systems, array=array))
    found.append(Condition("pair_simulated", "eval_pair", ("noisy", ours)))
    responses = two_channel_responses(setting)
    if responses is not None:
        found.append(Condition("pair_measured", "eval_pair", ("noisy", ours), responses=responses))
    found.append(Condition("close", "eval_close", ("noisy", live, ours)))
    return [*found, Condition("noise", "eval_noise", ("noisy", live, ours), ("attenuation",))]


def two_channel_responses(setting: Setting) -> Path | None:
    """A manifest of the measured responses to two microphones; None where there are none.

    The four channels of a "true stereo" file are two loudspeakers heard by two microphones.
    """
    manifest = setting.corpora / "rir.jsonl"
    if not manifest.is_file():
        return None
    records = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    pairs = [{**r, "path": str((setting.corpora / r["path"]).resolve())}
             for r in records if r.get("channels") == 2]  # fmt: skip
    with replacing(setting.out / "pairs.jsonl") as file:
        file.write_text("".join(f"{json.dumps(record)}\n" for record in pairs), encoding="utf-8")
    return (setting.out / "pairs.jsonl").resolve()


def scene_of(condition: Condition, setting: Setting) -> SceneConfig:
    """The scene of a condition with the corpora of this run."""
    from simulate import SceneConfig

    scene = SceneConfig.load(condition.scene).model_dump(mode="json")
    for kind in ("speech", "noise"):
        scene[kind] = str((setting.corpora / f"{kind}.jsonl").resolve())
    scene |= {"split": setting.split, "references": ["early"]}
    if condition.array:
        scene["array"]["names"] = [condition.array]
    if condition.responses is not None:
        scene["measured"] = {"responses": str(condition.responses)}
    return SceneConfig.model_validate(scene)


def measure(condition: Condition, setting: Setting, bar: Progress) -> Report:
    """Make the data set and score its systems, or what is missing of both."""
    from clearbeam.evaluate import evaluate_dataset
    from simulate import write_dataset

    scene, folder = scene_of(condition, setting), setting.out / condition.name

    def under(title: str) -> Callable[[int, int], None]:
        task = bar.add_task(f"{condition.name}: {title}", total=None)
        return lambda done, total: bar.update(task, completed=done, total=total)

    write_dataset(scene, folder, setting.count, SEED, setting.jobs, under("mixtures"))
    return evaluate_dataset(
        folder,
        condition.systems,
        jobs=setting.jobs,
        limit=setting.count,
        metrics=condition.metrics,
        json_path=folder / "scores.json",
        progress=under("scores"),
    )


# ------------------------------------------------------------------------------------- the claims


def claims(reports: dict[str, Report], setting: Setting) -> list[Claim]:
    """Every claim that the reports can tell of."""
    ours, live, circle = setting.ours, setting.live, reports["circle"]
    absolute = {m: Found.of(circle.score(ours, m), least) for m, least in TARGETS.items()}
    found = [
        Claim("6-mic circle: offline", absolute),
        Claim("6-mic circle: live", {m: Found.of(circle.score(live, m)) for m in METRICS}),
        difference("6-mic circle: live − offline", circle, live, ours, si_sdr=-1.0, pesq_wb=-0.2),
    ]
    even = dict.fromkeys(METRICS, 0.0)
    for array in ARRAYS if setting.rival else ():
        title = f"{array}: ours − rival"
        found.append(difference(title, reports[array], ours, str(setting.rival), **even))
    for few, many in zip([*SUBSETS][:-1], [*SUBSETS][1:], strict=True):
        title, names = (
            f"circular_8mic: {many} − {few} mics",
            [ours + SUBSETS[n] for n in (many, few)],
        )
        found.append(difference(title, reports["circular_8mic"], *names, **even))
    found += rooms(reports, ours)
    for system, kind in ((ours, "offline"), (live, "live")):
        title = f"close and clean, {kind}: output − input"
        found.append(difference(title, reports["close"], system, "noisy", pesq_wb=-0.1))
        quiet = Found.of(reports["noise"].score(system, "attenuation"), 20.0)
        found.append(Claim(f"noise alone, {kind}", {"attenuation": quiet}))
    return found


def rooms(reports: dict[str, Report], ours: str) -> list[Claim]:
    """The gain over the microphone in simulated and in measured rooms, and their ratio."""
    if "pair_measured" not in reports:
        return []
    simulated, measured = (reports[f"pair_{kind}"] for kind in ("simulated", "measured"))
    ratios = {m: measured.gain(ours, m).ratio_to(simulated.gain(ours, m)) for m in METRICS}
    return [
        difference("two mics, simulated rooms: output − input", simulated, ours, "noisy"),
        difference("two mics, measured rooms: output − input", measured, ours, "noisy"),
        Claim(
            "gain in measured / in simulated rooms", {m: Found(*r, 0.8) for m, r in ratios.items()}
        ),
    ]


def difference(title: str, report: Report, system: str, other: str, **least: float) -> Claim:
    """The paired difference of two systems in every metric, `least` what it should reach."""
    scores = {m: report.score(system, m) - report.score(other, m) for m in METRICS}
    return Claim(title, {m: Found.of(score, least.get(m)) for m, score in scores.items()}, "+")


# --------------------------------------------------------------------------------------- the run


def main(
    corpora: Annotated[Path, typer.Option(help="speech.jsonl, noise.jsonl, rir.jsonl")] = CORPORA,
    gtcrn: Annotated[Path, typer.Option(help="weights of the published GTCRN")] = PUBLISHED,
    out: Annotated[Path | None, typer.Option(help="default: runs/enhance-SPLIT")] = None,
    split: Annotated[str, typer.Option(help="of the corpora")] = "test",
    count: Annotated[int, typer.Option(min=2, help="mixtures a condition")] = 100,
    jobs: Annotated[int, typer.Option(min=1)] = 2,
    model: Annotated[str, typer.Option(help="weights of ours, by name or path")] = "default",
) -> None:
    """Simulate, score, and write OUT/claims.md and OUT/claims.json."""
    from clearbeam.console import err, progress, say_error

    missing = [f for f in ("speech.jsonl", "noise.jsonl") if not (corpora / f).is_file()]
    if missing:
        err.print(f"left out: expected {missing[0]} in {corpora}, found no such file")
        return
    if not gtcrn.is_file():
        err.print(f"left out: the published GTCRN, for there is no file {gtcrn}")
    folder = out or Path("runs") / f"enhance-{split}"
    rival = gtcrn.resolve() if gtcrn.is_file() else None
    setting = Setting(corpora, folder, split, count, jobs, rival, model)
    reports = {}
    try:
        with progress() as bar:
            for condition in conditions(setting):
                reports[condition.name] = measure(condition, setting, bar)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        say_error(error)
        raise typer.Exit(2) from None
    write(claims(reports, setting), reports, setting)


def write(rows: list[Claim], reports: dict[str, Report], setting: Setting) -> None:
    """Print the claims, and leave them with every other table in the folder of the run."""
    from clearbeam.console import out as console
    from clearbeam.systems import system_files

    asked = {"split": setting.split, "mixtures a condition": setting.count, "seed": SEED,
             "model": setting.model}  # fmt: skip
    about = facts(asked, system_files(setting.ours), ("torch", "pesq", "pystoi"))
    tables = []
    for title, like, note in (("claims", "laptop_2mic", RIVAL), ("noise alone", "noise", "")):
        columns = reports[like].columns
        judged = [claim for claim in rows if columns[0].name in claim.found]
        tables.append(claims_table(title, judged, columns, note))
    for table in tables:
        console.print(table.to_rich())
    page = write_claims(setting.out, about, tables, rows, list(reports.values()))
    console.print(f"{page} has the tables of every condition")


if __name__ == "__main__":
    # Worker processes import this file again, and must not begin a benchmark of their own.
    typer.run(main)
