"""Batches as functions of seed and step, so that nothing else decides what a step sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from clearbeam.training.config import TrainConfig
from multichannel.augment import ON_SPECTRA, augment
from multichannel.data import Order, Source, batch_of, crop
from multichannel.enhance import SAMPLE_RATE

_CLIP = 7  # first number of a generator's seed: what is done to one clip of one step

Batch = dict[str, Tensor]


class StepParts(Dataset):
    """Training batches of one process by number: part p of step s is number s * accumulate + p.

    Args:
        source: of training clips.
        config: of the run.
        rank: which of its processes this is.
    """

    def __init__(self, source: Source, config: TrainConfig, rank: int = 0) -> None:
        self.source, self.config, self.rank = source, config, rank
        self.order = Order(source.lengths, config.batch, config.seed)
        self.n_samples = round(config.data.seconds * SAMPLE_RATE)

    def __getitem__(self, number: int) -> Batch:
        config = self.config
        step, part = divmod(number, config.accumulate)
        indices = self.order.of(step)
        size = config.batch // (config.accumulate * config.processes)
        first = (part * config.processes + self.rank) * size
        places = range(first, first + size)
        return batch_of([self._clip(indices[k], step * config.batch + k) for k in places])

    def _clip(self, index: int, number: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([_CLIP, self.config.seed, number])
        clip = crop(self.source.clip(int(index)), self.n_samples, rng)
        chosen = self.config.augment
        if "spectra" in clip:  # what happens at the microphones has happened
            chosen = {name: v for name, v in chosen.items() if name in ON_SPECTRA}
        return augment(clip, chosen, rng)


class ValidBatches(Dataset):
    """A process's share of the valid clips, long beside long, each clip from its start.

    Args:
        source: of valid clips.
        config: of the run.
        rank: which of its processes this is.
    """

    def __init__(self, source: Source, config: TrainConfig, rank: int = 0) -> None:
        assert source.lengths is not None
        self.source = source
        self.n_samples = round(config.data.seconds * SAMPLE_RATE)
        size = max(1, config.batch // (config.accumulate * config.processes))
        order = np.argsort(source.lengths, kind="stable")
        batches = [order[first : first + size] for first in range(0, len(order), size)]
        self.batches = batches[rank :: config.processes]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch:
        return batch_of([self.clip(int(index)) for index in self.batches[number]])

    def clip(self, index: int) -> dict[str, np.ndarray]:
        """One valid clip."""
        return crop(self.source.clip(index), self.n_samples)


class _From(Sampler[int]):
    """The parts that are left when some steps are done."""

    def __init__(self, first: int, end: int) -> None:
        self.range = range(first, end)

    def __iter__(self) -> Iterator[int]:
        return iter(self.range)

    def __len__(self) -> int:
        return len(self.range)


def train_loader(parts: StepParts, done: int, device: torch.device) -> DataLoader:
    """Batches from step `done` on to the end of the run."""
    config = parts.config
    sampler = _From(done * config.accumulate, config.steps * config.accumulate)
    return DataLoader(parts, sampler=sampler, batch_size=None, **_loading(config, device))


def valid_loader(batches: ValidBatches, config: TrainConfig, device: torch.device) -> DataLoader:
    """All of them, in order."""
    return DataLoader(batches, batch_size=None, **_loading(config, device))


def _loading(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    workers = config.data.workers
    return {
        "num_workers": workers,
        "pin_memory": device.type == "cuda",
        "worker_init_fn": _one_thread if workers else None,
        "prefetch_factor": 4 if workers else None,
    }


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
