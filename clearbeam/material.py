"""Options of the commands that simulate: corpora instead of the scene's, and workers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Jobs = Annotated[int, typer.Option(metavar="J", min=1, help="Processes at work.")]
Cluster = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Work on the Dask cluster of this scheduler.")
]
Speech = Annotated[
    str | None,
    typer.Option(metavar="CORPUS", help="Talkers: a manifest or folder, not the scene's."),
]
Noise = Annotated[
    str | None,
    typer.Option(metavar="CORPUS", help="Noises: a manifest or folder, not the scene's."),
]
Split = Annotated[
    str | None, typer.Option(metavar="SPLIT", help="Use only this split of the corpora.")
]


def scene_keys(speech: str | None, noise: str | None, split: str | None) -> dict[str, str]:
    """What these options change in a scene; corpora are paths from the working folder."""
    from simulate.corpus import BUILTIN

    keys = {
        key: corpus if corpus == BUILTIN else str(Path(corpus).resolve())
        for key, corpus in (("speech", speech), ("noise", noise))
        if corpus is not None
    }
    return keys if split is None else {**keys, "split": split}
