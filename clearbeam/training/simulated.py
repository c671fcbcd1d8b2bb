"""Data sets that a recipe has made for itself, from scenes and from a user's own folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from clearbeam.audio import FORMATS, Recording, resample
from clearbeam.console import progress
from clearbeam.files import replacing
from clearbeam.training.config import Simulated
from multichannel import Enhancer
from multichannel.enhance import SAMPLE_RATE
from simulate import SceneConfig, write_dataset

_BLOCK = 15 * SAMPLE_RATE


def scene_of(made: Simulated) -> SceneConfig:
    """The scene with the corpora and the split that were asked for.

    The scene's own split belongs to its own corpora: another corpus is used whole unless a split is
    named.
    """
    corpora = {"speech": made.speech, "noise": made.noise}
    update: dict[str, str | None] = {
        key: value if value == "builtin" else str(Path(value).expanduser().resolve())
        for key, value in corpora.items()
        if value is not None
    }
    if made.split is not None or update:
        update["split"] = made.split
    return SceneConfig.load(made.scene).model_copy(update=update)


def make_data_set(made: Simulated, out: Path, jobs: int) -> Path:
    """The folder `out` with the mixtures of a scene; what is there already is kept."""
    count = made.count or 0
    if made.recordings is not None:
        noise = out.with_name("recorded_noise")
        noise_of_recordings(Path(made.recordings).expanduser(), noise)
        made = made.model_copy(update={"noise": str(noise), "recordings": None})
    with progress() as bar:
        task = bar.add_task(f"simulating {out.name}", total=count)

        def show(done: float, _: int) -> None:
            bar.update(task, completed=done)

        write_dataset(scene_of(made), out, count, made.seed, jobs, show)
    return out


def noise_of_recordings(folder: Path, out: Path) -> None:
    """Write what the shipped `mono` network takes away from each recording, at its first mic.

    A user's recordings have no clean reference, but the noise in them is the noise to adapt to.
    Traces of speech stay in it. Files that are there already are kept. Raises ValueError where the
    folder holds no recording.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in FORMATS)
    if not files:
        raise ValueError(f"expected recordings in {folder}, found none")
    enhancer = Enhancer.from_pretrained("mono", "cpu")
    with progress() as bar:
        for number in bar.track(range(len(files)), description="noise of recordings"):
            target = out / f"{number:05d}.flac"
            if not target.is_file():
                _write_noise(enhancer, files[number], target)


def _write_noise(enhancer: Enhancer, path: Path, target: Path) -> None:
    recording = Recording([path])
    first_mic = (block[:1] for block in recording.blocks())
    x = np.concatenate([*resample(first_mic, recording.sample_rate, SAMPLE_RATE)], axis=-1)
    blocks = torch.from_numpy(x).split(_BLOCK, -1)
    clean = torch.cat([*enhancer.enhance_blocks(blocks, reference_mic=0)]).numpy()
    with replacing(target) as partial:
        soundfile.write(partial, x[0] - clean, SAMPLE_RATE)
