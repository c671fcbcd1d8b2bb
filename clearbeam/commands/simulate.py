"""`clearbeam simulate`: a scene in YAML in, a dataset of array mixtures with references out."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clearbeam.console import out as console
from clearbeam.console import progress

if TYPE_CHECKING:
    from simulate import SceneConfig

NAME = "simulate"


class Export(str, Enum):
    """Other toolkits that a dataset can be described to."""

    lhotse = "lhotse"
    kaldi = "kaldi"


def run(
    scene: Annotated[
        str,
        typer.Argument(metavar="SCENE.yaml", help="A scene file, or the name of a shipped one."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the dataset.")],
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many mixtures.")] = 10,
    seed: Annotated[
        int, typer.Option(metavar="S", min=0, help="Another seed, other mixtures.")
    ] = 0,
    jobs: Annotated[int, typer.Option(metavar="J", min=1, help="Processes at work.")] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Work on the Dask cluster of this scheduler."),
    ] = None,
    speech: Annotated[
        str | None,
        typer.Option(metavar="CORPUS", help="Talkers: a manifest or folder, not the scene's."),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(metavar="CORPUS", help="Noises: a manifest or folder, not the scene's."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Use only this split of the corpora.")
    ] = None,
    export: Annotated[
        list[Export] | None, typer.Option(help="Describe the dataset to this toolkit too.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be made, and make nothing.")
    ] = False,
) -> None:
    """Make mixtures of talkers and noise in simulated rooms, as a microphone array hears them.

    DIR gets the mixtures and their references as FLAC, `manifest.jsonl` with everything known about
    each, and `summary.png` with how it is spread. Seed and number alone determine a mixture: the
    bytes are the same for any --jobs or --cluster, and the same command again completes an
    interrupted dataset. A recording that cannot be read is skipped and reported.

    A CORPUS is a LibriSpeech or VCTK tree, any folder of recordings, a Lhotse manifest, or a .jsonl
    with a line a recording: `path` (relative to the manifest), `seconds`, and where known
    `speaker`, `text`, `split`, `kind`. Without one, talkers and noises are built in.

    \b
    Examples:
        clearbeam simulate quickstart --out data/quick --count 20
        clearbeam simulate quickstart --out data/many --count 10000 --dry-run
        clearbeam simulate meeting --out data/meetings --count 2
        clearbeam simulate quickstart --out data/libri --speech LibriSpeech --split dev-clean
        clearbeam simulate my-room.yaml --out data/mine --jobs 4 --export lhotse --export kaldi
    """
    config = with_material(load(scene), speech, noise, split)
    refuse_for_meetings(config, dry_run, export or [])
    if dry_run:
        show_plan(config, out, count, seed, jobs)
        return
    manifest = make(config, out, count, seed, jobs, cluster)
    describe(manifest, export or [])
    typer.echo(manifest)


def refuse_for_meetings(config: SceneConfig, dry_run: bool, toolkits: list[Export]) -> None:
    """Raise ValueError for an option that meetings do not have yet."""
    from simulate.meeting import MeetingConfig

    options = ["--dry-run"] * dry_run + ["--export"] * bool(toolkits)
    if isinstance(config, MeetingConfig) and options:
        raise ValueError(f"expected a scene for {options[0]}, found a meeting")


def make(
    config: SceneConfig, out: Path, count: int, seed: int, jobs: int, cluster: str | None
) -> Path:
    """Write the dataset under a progress bar; returns its manifest."""
    from simulate import write_dataset
    from simulate.meeting import MeetingConfig
    from simulate.meeting_files import write_meetings

    with progress() as bar:
        task = bar.add_task("mixtures", total=count)

        def show(done: float, _: int) -> None:
            bar.update(task, completed=done)

        if isinstance(config, MeetingConfig):
            return write_meetings(config, out, count, seed, jobs, show, cluster)
        return write_dataset(config, out, count, seed, jobs, show, cluster)


def describe(manifest: Path, toolkits: list[Export]) -> None:
    """Put the picture of a finished dataset, and what other toolkits want, beside its manifest."""
    from simulate.dataset import read_manifest
    from simulate.export import export_kaldi, export_lhotse
    from simulate.summary import plot_summary

    folder = manifest.parent
    plot_summary(read_manifest(manifest), folder / "summary.png")
    writers = {Export.lhotse: export_lhotse, Export.kaldi: export_kaldi}
    for toolkit in toolkits:
        writers[toolkit](manifest, folder / toolkit.value)


def show_plan(config: SceneConfig, out: Path, count: int, seed: int, jobs: int) -> None:
    """Print what a dataset would hold, how much of it is there, and how its quantities spread."""
    import numpy as np
    from rich.table import Table

    from simulate.dataset import plan_dataset
    from simulate.shards import missing
    from simulate.summary import histogram_line, quantities

    records = plan_dataset(config, count, seed, jobs)
    hours = sum(record["seconds"] for record in records) / 3600
    there = count - len(missing(out, count))
    console.print(f"{count} mixtures, {hours:.2f} h, seed {seed}, in {out} ({there} are there)")
    console.print(f"files of a mixture: mixture, {', '.join(config.references)}")
    table = Table(box=None)
    for column in ("quantity", "lowest", "median", "highest"):
        table.add_column(column, justify="left" if column == "quantity" else "right")
    table.add_column("histogram")
    for name, values in quantities(records).items():
        numbers = (f"{v:.3g}" for v in (values.min(), np.median(values), values.max()))
        table.add_row(name, *numbers, histogram_line(values))
    console.print(table)


def load(scene: str) -> SceneConfig:
    """Return the scene of a YAML file or of a shipped name; one with `turns` is a meeting."""
    import yaml

    from simulate import SceneConfig
    from simulate.meeting import MeetingConfig
    from simulate.scene_config import find_scene

    path = find_scene(scene)
    try:
        keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        keys = None  # said in one line below
    kind = MeetingConfig if isinstance(keys, dict) and "turns" in keys else SceneConfig
    return kind.load(scene)


def with_material(
    config: SceneConfig, speech: str | None, noise: str | None, split: str | None
) -> SceneConfig:
    """Return `config` with other manifests, relative to the working folder, or another split."""
    chosen = {"speech": speech, "noise": noise}
    update = {
        key: value if value == "builtin" else str(Path(value).resolve())
        for key, value in chosen.items()
        if value is not None
    }
    if split is not None:
        update["split"] = split
    return config.model_copy(update=update)
