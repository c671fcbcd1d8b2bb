"""The task `separate-post`: a GTCRN that cleans the streams of the separator.

A data set of several talkers goes through the separator once, told how many there are, and what the
post-filter would see of each talker is kept, beside his image. Who is who is settled then, so the
network is trained like any that cleans one beam.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clearbeam.matching import best_order
from clearbeam.training.config import Simulated, TrainConfig
from clearbeam.training.enhancement import Enhance, check_before
from clearbeam.training.sources import (
    cache_of,
    check_records,
    completed,
    digest,
    file_digest,
    identity,
    located,
)
from multichannel.cache import CachedClips, create_cache, is_cache, write_row
from multichannel.data import LEVEL, Clip, Source, records_of, samples_of
from separation.postfilter import POST_INPUTS, post_inputs, with_rest
from separation.separate import Separator
from separation.weights import find_separation, load_separation
from simulate.sound_files import read_sound


class PostFilter(Enhance):
    """The multi-input GTCRN after the separator. What it hears is given: scored, not trained."""

    inputs = POST_INPUTS

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        check_before(config, "the separation network")
        if config.augment:
            raise ValueError(
                f"expected no augmentations for the task {config.task}, found "
                f"{', '.join(config.augment)}"
            )

    def source(self, which: str, folder: Path) -> Source:
        where = located(self.config, which, folder)
        if isinstance(where, Simulated):
            raise ValueError(
                f"data.{which}: expected a data set for the task {self.config.task}, found a scene "
                "that is drawn from forever; give it a count"
            )
        if is_cache(where):
            return CachedClips(where, self.config.data.limit)
        return CachedClips(separated(self.config, where, cache_of(self.config, folder)))

    def spectra(self, batch: dict[str, Tensor]) -> Tensor:
        return with_rest(batch["spectra"])


def separated(config: TrainConfig, path: Path, cache: Path) -> Path:
    """Folder of what the separator makes of a data set, a row a talker; a broken one is completed.

    Raises ValueError for a data set without the images of its talkers.
    """
    records = records_of(path)[: config.data.limit]
    check_records(records, path)
    for record in records:
        if len(record["paths"].get("image") or []) != len(record["talkers"]):
            raise ValueError(f"expected an image of each talker in {path}, found {record['id']}")
    model = find_separation(config.data.before[0])
    facts = [identity(path), config.data.limit, file_digest(model)]
    folder = cache / f"separated-{digest(facts)}"
    lengths = [samples_of(record) for record in records for _ in record["talkers"]]
    create = partial(create_cache, lengths=np.array(lengths), n_spectra=POST_INPUTS[0])
    work = partial(_write_talkers, str(model), str(path), config.data.limit)
    return completed(folder, len(records), create, work, config)


def _write_talkers(model: str, path: str, limit: int | None, part: Path, number: int) -> int:
    """The rows of one mixture."""
    records, separator = _at_work(model, path, limit)
    first = sum(len(record["talkers"]) for record in records[:number])
    for row, clip in enumerate(clips_of(records[number], separator), first):
        write_row(part, row, clip)
    return number


@lru_cache(maxsize=1)
def _at_work(model: str, path: str, limit: int | None) -> tuple[list[dict], Separator]:
    """The same records and separator in every process that works on a cache."""
    torch.set_num_threads(1)
    return records_of(Path(path))[:limit], Separator(load_separation(model)).eval()


def clips_of(record: dict, separator: Separator) -> Sequence[Clip]:
    """What the post-filter sees of each talker of a mixture, and his image at mic 0."""
    mixture = _read(record["paths"]["mixture"])
    images = np.stack([_read(file)[0] for file in record["paths"]["image"]])
    scale = LEVEL / max(float(np.sqrt(np.mean(np.square(mixture[0], dtype=np.float64)))), 1e-6)
    x = torch.from_numpy(mixture * np.float32(scale))
    images *= np.float32(scale)
    streams = separator(x, len(images))
    streams = streams[torch.from_numpy(best_order(streams.numpy(), images))]
    seen = post_inputs(x, streams, separator.stft, separator.long)
    return [
        {"spectra": spectra.numpy(), "cues": cues.numpy(), "early": image}
        for spectra, cues, image in zip(seen.spectra, seen.cues, images, strict=True)
    ]


def _read(path: str) -> np.ndarray:
    """Channels ``(channels, samples)``."""
    x = read_sound(path)[0]
    return np.ascontiguousarray(x.T)
