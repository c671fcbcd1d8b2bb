"""Options that several commands have, and what they stand for."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from simulate import ArrayGeometry


class Device(str, Enum):
    """Where the networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Inputs = Annotated[
    list[Path], typer.Argument(metavar="INPUT", help="Recordings, a channel per microphone.")
]
ChannelsAsFiles = Annotated[
    bool, typer.Option("--channels-as-files", help="The INPUTs are channels of one recording.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")]
Streaming = Annotated[
    bool, typer.Option("--streaming", help="Use only the past, as a live device must.")
]
RunOn = Annotated[Device, typer.Option("--device", help="Where the networks run.")]
Model = Annotated[
    str, typer.Option(metavar="NAME or PATH", help="Shipped weights, or a .safetensors file.")
]
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


def geometry(array: str | None) -> ArrayGeometry | None:
    """The array of a name or a YAML file."""
    if array is None:
        return None
    from simulate import load_array

    return load_array(array)
