"""`clearbeam train`: a recipe in YAML in, weights out; the same command goes on after a stop."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from clearbeam.console import stoppable

NAME = "train"


def run(
    recipe: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A recipe file, or the name of a shipped one.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value ...]", help="Values instead of the recipe's."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the run. Default: runs/ and its name."),
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only compute what training waits for.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print the resolved config and do nothing.")
    ] = False,
) -> None:
    """Train a network, or go on training it where it was stopped.

    Shipped recipes: mask (one microphone; also makes the masks that steer the beam), enhance
    (cleans the beam), refine (cleans the second beam), enhance-finetune (the shipped weights, on
    your own noise or recordings), distill (a small network learns from a large one), prune (a
    trained network made smaller), separate and separate-causal (tell talkers apart), separate-post
    (cleans separated streams), fasnet (a rival). Keys are dotted; --show prints all of them.

    DIR gets `best.safetensors` and `last.safetensors`, which `clearbeam enhance --model` takes, the
    resolved `config.yaml`, `origin.json` (git revision, versions), `log.jsonl`, and `tensorboard`
    with curves, spectrograms and sounds of a few valid clips. The same command goes on from the
    last checkpoint, whatever ended it, and ends up with the same weights.

    Examples:

        clearbeam train mask data.train=data/train data.valid=data/valid

        clearbeam train enhance data.mono=runs/mask/best.safetensors processes=2

        clearbeam train enhance-finetune data.train.noise=my-noise --out runs/mine

        clearbeam enhance meeting.wav --model runs/mine/best.safetensors

        tensorboard --logdir runs
    """
    from clearbeam.training.config import load_recipe

    config = load_recipe(recipe, overrides or [])
    if show:
        typer.echo(config.saved(), nl=False)
        return
    folder = out or Path("runs") / config.name
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"expected a folder for the run, found the file {folder}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of its own dependencies
            import lightning.pytorch  # noqa: F401
    except ImportError:
        raise ImportError(
            "expected Lightning for training: pip install 'clearbeam[train]'"
        ) from None
    from clearbeam.training import run as training

    if prepare:
        training.prepare(config, folder)
        return
    with stoppable(f"the same command goes on in {folder}"):
        best = training.train(config, folder)
    typer.echo(best)
