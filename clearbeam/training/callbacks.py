"""What happens between steps: the log, validation, checkpoints, the best weights, the bar."""

from __future__ import annotations

import io
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from rich.progress import Progress, TaskID
from torch.utils.data import DataLoader

from clearbeam.console import out, progress
from clearbeam.files import replacing
from clearbeam.training.batches import ValidBatches
from clearbeam.training.config import TrainConfig
from clearbeam.training.journal import Journal
from clearbeam.training.module import Training
from multichannel.enhance import SAMPLE_RATE

CHECKPOINT = "last.ckpt"


class Meter:
    """How fast training steps go, whatever happens between them.

    `take` gives audio-seconds a second of wall clock, and a second of this process's processor
    time: how fast it would be on processors that nobody else uses.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self.audio_s, self.wall_s, self.cpu_s = 0.0, 0.0, 0.0
        self.go_on()

    def add(self, batch: dict[str, torch.Tensor]) -> None:
        wanted = batch["early"]  # of one talker or several
        self.audio_s += self.processes * len(wanted) * wanted.shape[-1] / SAMPLE_RATE

    def pause(self) -> None:
        self.wall_s += time.monotonic() - self.wall
        self.cpu_s += time.process_time() - self.cpu

    def go_on(self) -> None:
        self.wall, self.cpu = time.monotonic(), time.process_time()

    def take(self) -> tuple[float, float]:
        """Both speeds since it was last asked for; starts anew."""
        self.pause()
        speeds = self.audio_s / max(self.wall_s, 1e-9), self.audio_s / max(self.cpu_s, 1e-9)
        self.audio_s, self.wall_s, self.cpu_s = 0.0, 0.0, 0.0
        self.go_on()
        return speeds


class Keeper(pl.Callback):
    """Validates, writes the log, checkpoints and weights, and stops a run that gets no better.

    Args:
        config: of the run.
        folder: of the run.
        loader: of this process's share of the valid clips.
        state: of the checkpoint that the run goes on from.
    """

    def __init__(
        self, config: TrainConfig, folder: Path, loader: DataLoader, state: dict[str, Any] | None
    ) -> None:
        self.config, self.folder, self.loader = config, folder, loader
        kept: dict[str, Any] = state["keeper"] if state else {"best": None, "stale": 0}
        self.best: float | None = kept["best"]
        self.stale: int = kept["stale"]
        self.scaler = state["scaler"] if state else {}
        self.resumed = state is not None
        self.meter = Meter(config.processes)
        self.journal: Journal | None = None
        self.scores: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Training)
        if self.scaler:
            trainer.precision_plugin.load_state_dict(self.scaler)
        if trainer.is_global_zero:
            self.journal = Journal(self.folder, module.step)
        if not self.resumed:
            self._validate(trainer, module)
            self._save(trainer, module)
        self.meter.go_on()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        assert isinstance(module, Training)
        self.meter.add(batch)
        if (index + 1) % self.config.accumulate:
            return
        step, config = module.step, self.config
        last = step == config.steps
        if step % config.log_every == 0 or last:
            self._log(module)
        self.meter.pause()
        due = step % config.valid_every == 0 or last
        if due:
            self._validate(trainer, module)
        if due or step % config.save_every == 0:
            self._save(trainer, module)
        self.meter.go_on()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.journal:
            self.journal.close()

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        with suppress(OSError):  # its reason is that of the exception, if it has one
            self.on_train_end(trainer, module)

    def _log(self, module: Training) -> None:
        numbers = {name: value.item() for name, value in module.terms.items()}
        numbers["gradient_norm"] = module.norm.item()
        numbers["learning_rate"] = module.optimiser.param_groups[0]["lr"]
        numbers["skipped_steps"] = module.skipped
        numbers["audio_s_per_s"], numbers["audio_s_per_cpu_s"] = self.meter.take()
        if self.journal:
            self.journal.write(module.step, numbers)

    def _validate(self, trainer: pl.Trainer, module: Training) -> None:
        """Score the averaged weights; keep the best ones, and see whether to go on."""
        share_statistics(trainer, module)
        self.scores = validate(trainer, module, self.loader)
        loss = self.scores["valid_loss"]
        if not math.isfinite(loss):
            loss = math.inf
        better = self.best is None or loss < self.best
        self.best, self.stale = (loss, 0) if better else (self.best, self.stale + 1)
        if self.config.patience is not None and self.stale >= self.config.patience:
            trainer.should_stop = True
        if not (self.journal and trainer.is_global_zero):
            return
        self.journal.write(module.step, self.scores)
        facts = {"step": module.step, **self.scores, "recipe": self.config.name}
        facts["seed"] = self.config.seed
        for name in ("last", "best") if better else ("last",):
            module.task.save(module.average, self.folder / f"{name}.safetensors", facts)
        self._show(module)
        words = "  ".join(f"{name} {value:.3f}" for name, value in self.scores.items())
        out.print(f"step {module.step}  {words}{'  best' if better else ''}", soft_wrap=True)

    @torch.no_grad()
    def _show(self, module: Training) -> None:
        from multichannel.data import batch_of
        from multichannel.stft import STFT

        batches = self.loader.dataset
        assert isinstance(batches, ValidBatches) and self.journal is not None
        module.average.eval()
        for number in range(min(self.config.clips, len(batches.source.lengths))):  # type: ignore[arg-type]
            batch = batch_of([batches.clip(number)])
            batch = {name: x.to(module.device) for name, x in batch.items()}
            outputs = module.task.outputs(module.average, batch)
            self.journal.show(module.step, number, outputs, STFT().to(module.device))

    def _save(self, trainer: pl.Trainer, module: Training) -> None:
        """Write the checkpoint of process 0, whole or not at all; the others hold the same."""
        if not trainer.is_global_zero:
            return
        state = module.state() | {
            "keeper": {"best": self.best, "stale": self.stale},
            "scaler": trainer.precision_plugin.state_dict(),
        }
        whole = io.BytesIO()  # of a full disk `torch.save` says that a position is unexpected
        torch.save(state, whole)
        with replacing(self.folder / CHECKPOINT) as partial, partial.open("wb") as file:
            file.write(whole.getbuffer())
            file.flush()
            os.fsync(file.fileno())


@torch.no_grad()
def validate(trainer: pl.Trainer, module: Training, loader: DataLoader) -> dict[str, float]:
    """Mean losses and scores of the averaged weights over the valid clips of all processes."""
    module.average.eval()
    sums: dict[str, float] = {}
    for batch in loader:
        batch = {name: x.to(module.device, non_blocking=True) for name, x in batch.items()}
        n_clips = len(batch["early"])
        with trainer.precision_plugin.forward_context():
            outputs = module.task.outputs(module.average, batch)
            terms = {name: function(outputs) for name, function in module.functions.items()}
        terms["loss"] = sum(module.config.losses[name] * term for name, term in terms.items())
        for name, clips in module.task.scores(outputs).items():
            terms[name] = clips.mean()
        for name, value in {"clips": torch.ones(()), **terms}.items():
            sums[name] = sums.get(name, 0.0) + float(value) * n_clips
    names = sorted(sums) if sums else []
    total = torch.tensor([sums[name] for name in names], dtype=torch.float64, device=module.device)
    total = trainer.strategy.reduce(total, reduce_op="sum")
    by_name = dict(zip(names, total.tolist(), strict=True))
    n_clips = by_name.pop("clips")
    order = ["loss", *(name for name in sums if name not in ("loss", "clips"))]
    return {f"valid_{name}": by_name[name] / n_clips for name in order}


def share_statistics(trainer: pl.Trainer, module: Training) -> None:
    """Give every process the statistics of process 0, so that all of them score, and after a
    checkpoint go on with, the same networks. (Gradients are shared anyway.)"""
    if trainer.world_size > 1:
        for net in (module.net, module.average):
            for buffer in net.buffers():
                torch.distributed.broadcast(buffer, 0)


class Bar(pl.Callback):
    """A progress bar on stderr, where that is a terminal."""

    def __init__(self, config: TrainConfig, keeper: Keeper) -> None:
        self.config, self.keeper = config, keeper
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Training)
        if trainer.is_global_zero:
            self.speed = Meter(self.config.processes)
            self.bar = progress("{task.fields[loss]}", "{task.fields[speed]}")
            self.task = self.bar.add_task(
                self.config.name, total=self.config.steps, completed=module.step, loss="", speed=""
            )
            self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        assert isinstance(module, Training)
        if self.bar is None or self.task is None:
            return
        self.speed.add(batch)
        if (index + 1) % self.config.accumulate:
            return
        self.bar.update(self.task, completed=module.step)
        if module.step % self.config.log_every == 0:
            valid = self.keeper.scores.get("valid_loss")
            words = "" if valid is None else f"valid {valid:.3f}"
            speed = f"{self.speed.take()[0]:.0f} s of audio a second"
            self.bar.update(self.task, loss=words, speed=speed)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.close()

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
