"""`clearbeam simulate`: a scene in YAML in, a dataset of array mixtures with references out."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clearbeam.commands.options import Cluster, Jobs, Noise, Speech, Split, scene_keys
from clearbeam.console import out as console
from clearbeam.console import progress, stoppable

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
    jobs: Jobs = 1,
    cluster: Cluster = None,
    speech: Speech = None,
    noise: Noise = None,
    split: Split = None,
    rooms: Annotated[
        Path | None,
        typer.Option(metavar="BANK", help="Draw rooms from a bank or measured responses."),
    ] = None,
    bank: Annotated[
        bool, typer.Option("--bank", help="Make a bank of N rooms in place of mixtures.")
    ] = False,
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

    Examples:

        clearbeam simulate quickstart --out data/quick --count 20

        clearbeam simulate quickstart --out data/many --count 10000 --dry-run

        clearbeam simulate meeting --out data/meetings --count 2

        clearbeam simulate quickstart --out data/libri --speech LibriSpeech --split dev-clean

        clearbeam simulate my-room.yaml --out data/mine --jobs 4 --export lhotse --export kaldi

        clearbeam simulate quickstart --bank --out data/bank --count 1000 --jobs 4

        clearbeam simulate quickstart --rooms data/bank --out data/quick --count 100000
    """
    config = with_material(load(scene), speech, noise, split, rooms)
    if bank and (export or dry_run):
        raise ValueError("expected --bank without --export and --dry-run, found both")
    if dry_run:
        show_plan(config, out, count, seed, jobs)
        return
    manifest = make(config, out, count, seed, jobs, cluster, bank)
    describe(manifest, export or [])
    typer.echo(manifest)


def make(
    config: SceneConfig,
    out: Path,
    count: int,
    seed: int,
    jobs: int,
    cluster: str | None,
    bank: bool,
) -> Path:
    """Write the dataset, or the bank, under a progress bar; returns its manifest."""
    from simulate import write_dataset
    from simulate.bank import write_bank
    from simulate.meeting import MeetingConfig
    from simulate.meeting_files import write_meetings

    with stoppable(), progress() as bar:
        task = bar.add_task("rooms" if bank else "mixtures", total=count)

        def show(done: float, _: int) -> None:
            bar.update(task, completed=done)

        if bank:
            return write_bank(config, out, count, seed, jobs, show, cluster)
        if isinstance(config, MeetingConfig):
            return write_meetings(config, out, count, seed, jobs, show, cluster)
        return write_dataset(config, out, count, seed, jobs, show, cluster)


def describe(manifest: Path, toolkits: list[Export]) -> None:
    """Put the picture of a finished dataset, and what other toolkits want, beside its manifest."""
    from simulate.dataset import read_manifest
    from simulate.export import export_kaldi, export_lhotse
    from simulate.summary import plot_summary

    folder = manifest.parent
    plot_summary(read_manifest(folder), folder / "summary.png")
    writers = {Export.lhotse: export_lhotse, Export.kaldi: export_kaldi}
    for toolkit in toolkits:
        writers[toolkit](manifest, folder / toolkit.value)


def show_plan(config: SceneConfig, out: Path, count: int, seed: int, jobs: int) -> None:
    """Print what a dataset would hold, how much of it is there, and how its quantities spread."""
    from rich.table import Table

    from simulate.dataset import plan_dataset
    from simulate.meeting import MeetingConfig
    from simulate.meeting_files import plan_meetings
    from simulate.shards import missing
    from simulate.summary import contents, gigabytes, rows

    if isinstance(config, MeetingConfig):
        records = plan_meetings(config, count, seed, jobs)
    else:
        records = plan_dataset(config, count, seed, jobs)
    hours = sum(record["seconds"] for record in records) / 3600
    there = count - len(missing(out, count))
    console.print(f"{count} mixtures, {hours:.2f} h, seed {seed}, in {out} ({there} are there)")
    most = gigabytes(records, config.references, config.reference_mics == "all")
    console.print(f"files: {', '.join(['mixture', *config.references])}; at most {most:.3g} GB")
    table = Table(box=None)
    for column in ("quantity", "lowest", "median", "mean", "highest"):
        table.add_column(column, justify="left" if column == "quantity" else "right")
    table.add_column("histogram")
    for row in rows(records):
        table.add_row(*row)
    console.print(table)
    for line in contents(records):
        console.print(line, soft_wrap=True)


def load(scene: str) -> SceneConfig:
    """Return the scene of a YAML file or of a shipped name; one with `turns` is a meeting."""
    from simulate import SceneConfig
    from simulate.meeting import MeetingConfig
    from simulate.parsing import from_yaml_file
    from simulate.scene_config import find_scene

    path = find_scene(scene)
    try:
        keys = from_yaml_file(path)
    except (OSError, ValueError):
        keys = None  # said in one line below
    kind = MeetingConfig if isinstance(keys, dict) and "turns" in keys else SceneConfig
    return kind.load(scene)


def with_material(
    config: SceneConfig,
    speech: str | None,
    noise: str | None,
    split: str | None,
    rooms: Path | None = None,
) -> SceneConfig:
    """Return `config` with other corpora or rooms, relative to the working folder, or split."""
    from simulate.config import validate

    update: dict[str, object] = {**scene_keys(speech, noise, split)}
    if rooms is not None:
        listing = rooms / "responses.jsonl"
        responses = (listing if listing.is_file() else rooms).resolve()
        update["measured"] = {"responses": str(responses)}
    return validate(config.model_dump() | update, type(config), "scene")
