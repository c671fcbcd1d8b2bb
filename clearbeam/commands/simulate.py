"""`clearbeam simulate`: a scene in YAML in, a dataset of array mixtures with references out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clearbeam.console import progress

if TYPE_CHECKING:
    from simulate import SceneConfig

NAME = "simulate"


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
    speech: Annotated[
        str | None,
        typer.Option(metavar="MANIFEST", help="Talkers: a .jsonl in place of the scene's."),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(metavar="MANIFEST", help="Noises: a .jsonl in place of the scene's."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Use only this split of the manifests.")
    ] = None,
) -> None:
    """Make mixtures of talkers and noise in simulated rooms, as a microphone array hears them.

    DIR gets the mixtures and their references as FLAC, and `manifest.jsonl` with everything known
    about each. Seed and number alone determine a mixture: the bytes are the same for any --jobs,
    and the same command again completes an interrupted dataset.

    A manifest has a line of JSON a recording: `path` (relative to the manifest), `seconds`, and
    where known `speaker`, `text`, `split`, `kind`. Without one, talkers and noises are built in.

    Examples:

        clearbeam simulate quickstart --out data/quick --count 5

        clearbeam simulate my-room.yaml --out data/train --count 3000 --jobs 8

        clearbeam simulate my-room.yaml --out data/mine --speech corpus/speech.jsonl
    """
    from simulate import write_dataset

    config = with_material(load(scene), speech, noise, split)
    with progress() as bar:
        task = bar.add_task("mixtures", total=count)
        manifest = write_dataset(
            config, out, count, seed, jobs, lambda done, _: bar.update(task, completed=done)
        )
    typer.echo(manifest)


def load(scene: str) -> SceneConfig:
    """Return the scene of a YAML file or of a shipped name."""
    from simulate import SceneConfig

    return SceneConfig.load(scene)


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
