"""A training run: one process or several, from the beginning or from where it was stopped."""

from __future__ import annotations

import difflib
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from clearbeam.console import out as console
from clearbeam.files import alone_in
from clearbeam.training.batches import StepParts, ValidBatches, train_loader, valid_loader
from clearbeam.training.callbacks import CHECKPOINT, Bar, Keeper
from clearbeam.training.config import TrainConfig
from clearbeam.training.journal import note_origin
from clearbeam.training.module import Training, known_losses
from clearbeam.training.peers import beside
from clearbeam.training.tasks import Task, make_task
from multichannel.kernels import compile_training_kernels
from multichannel.memory import keep_freed_memory
from multichannel.weights import pick_device
from simulate.parsing import from_yaml
from simulate.workers import end_with_parent, environment

_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
# What may differ between two calls of one run: it changes where the work is done, not the result.
_FREE = ("device", "data.workers", "data.cache", "compiled_layers")


def train(config: TrainConfig, folder: Path) -> Path:
    """Train, or go on training, in `folder`; returns the file of the best weights.

    Raises ValueError for a config that cannot work, another one than the folder was begun with, and
    a folder that another process trains in; ChildProcessError when one of several processes dies,
    or one that loads clips.
    """
    device = pick_device(config.device)
    with alone_in(folder):
        state = claim(config, folder)
        task = prepare(config, folder)
        if not (folder / "config.yaml").is_file():
            note_origin(folder, config)
        if state is not None and is_finished(config, state):
            console.print(f"{folder} has done its {state['step']} steps", soft_wrap=True)
            return folder / "best.safetensors"
        if device.type == "cpu":
            prepare_cpu(config, aloud=True)
        with beside(config.processes, partial(_other, config.model_dump_json(), folder)):
            _fit(config, folder, task, device, rank=0)
        return folder / "best.safetensors"


def prepare(config: TrainConfig, folder: Path) -> Task:
    """Check what can be checked beforehand, and compute what training waits for; the task."""
    task = make_task(config)
    known_losses(config, task)
    task.network()  # its first weights may not fit: better known before data are made
    for which in ("valid", "train"):
        source = task.source(which, folder)
    StepParts(source, config)
    return task


def claim(config: TrainConfig, folder: Path) -> dict[str, Any] | None:
    """The checkpoint to go on from, None at the beginning.

    Raises ValueError when the folder was begun with another config.
    """
    note = folder / "config.yaml"
    if note.is_file():
        before, now = _resaved(note.read_text(encoding="utf-8")), config.saved()
        differing = _differing(before, now)
        if differing:
            raise ValueError(
                f"expected the config that {folder} was begun with, found another one "
                f"({differing}); choose another --out"
            )
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    return read_checkpoint(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a `Keeper` wrote. Tensors and numbers alone are read: code in a pickle does not run.

    Raises ValueError for a damaged checkpoint, or another program's.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["step"] + state["skipped"] + state["keeper"]["stale"]
        known = {"net", "average", "optimiser", "scaler"} <= state.keys()
    except Exception as error:  # of an unpickler that meets what it was not made for: any
        known, why = False, f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    else:
        why = "another program's"
    if not known:
        raise ValueError(
            f"expected a checkpoint of a training run in {path}, found {why}; "
            "delete it to begin anew"
        )
    return state


def is_finished(config: TrainConfig, state: dict[str, Any]) -> bool:
    """Whether the checkpoint is that of the last step, or of one that patience ended at."""
    stale = state["keeper"]["stale"]
    return state["step"] >= config.steps or (
        config.patience is not None and stale >= config.patience
    )


def _resaved(saved: str) -> str:
    """A saved config as it would be saved now: keys that were not known then at their defaults."""
    try:
        return TrainConfig.model_validate(from_yaml(saved)).saved()
    except ValueError:
        return saved


def _differing(before: str, now: str) -> str:
    """The lines that differ between two saved configs, but for those that may; empty for none."""
    lines = difflib.ndiff(_fixed(before), _fixed(now))
    return ", ".join(f"{line[0]}{line[1:].strip()}" for line in lines if line[0] in "+-")


def _fixed(saved: str) -> list[str]:
    free = tuple(name.rpartition(".")[2] + ":" for name in _FREE)
    return [line for line in saved.splitlines() if not line.strip().startswith(free)]


def prepare_cpu(config: TrainConfig, aloud: bool = False) -> None:
    """One thread, memory that stays, and compiled layers where they can be built."""
    torch.set_num_threads(1)
    keep_freed_memory()
    if not config.compiled_layers:
        return
    try:
        compile_training_kernels()
    except (RuntimeError, OSError, ImportError) as error:
        if aloud:
            reason = " ".join(str(error).split())[:120]
            warnings.warn(f"no compiled layers, so training takes longer: {reason}", stacklevel=2)


def _other(config: str, folder: Path, rank: int) -> None:
    """One of the processes beside the first."""
    end_with_parent()
    parsed = TrainConfig.model_validate_json(config)
    device = pick_device(parsed.device)
    if device.type == "cpu":
        prepare_cpu(parsed)
    with environment({"LOCAL_RANK": str(rank)}), suppress(KeyboardInterrupt):
        _fit(parsed, folder, make_task(parsed), device, rank)


def _fit(config: TrainConfig, folder: Path, task: Task, device: torch.device, rank: int) -> None:
    """The steps that are left."""
    state = claim(config, folder)
    module = Training(config, task)
    if state is not None:
        module.restore(state)
    parts = StepParts(task.source("train", folder), config, rank)
    valid = ValidBatches(task.source("valid", folder), config, rank)
    keeper = Keeper(config, folder, valid_loader(valid, config, device), state)
    with quiet():
        trainer = make_trainer(config, device, module.step, [keeper, Bar(config, keeper)])
        try:
            trainer.fit(module, train_loader(parts, module.step, device))
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None


def make_trainer(
    config: TrainConfig, device: torch.device, done: int, callbacks: list[pl.Callback]
) -> pl.Trainer:
    """Lightning's trainer for the steps after `done`; what it would do beside them is ours."""
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=config.processes,
        strategy=_strategy(config, device),
        plugins=[LightningEnvironment()],
        precision=_PRECISIONS[config.precision],  # type: ignore[arg-type]
        max_steps=config.steps - done,
        max_epochs=-1,
        accumulate_grad_batches=config.accumulate,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def _strategy(config: TrainConfig, device: torch.device) -> Any:
    if config.processes == 1:
        return "auto"
    return DDPStrategy(
        process_group_backend="nccl" if device.type == "cuda" else "gloo",
        broadcast_buffers=False,  # statistics are shared when they are looked at
        gradient_as_bucket_view=True,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's advice is for those who write the training loop.

    And what TensorBoard's thread fails at, as on a full disk, is raised here too: once is enough.
    """
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", module="torch")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        threads, threading.excepthook = threading.excepthook, _but_of_the_disk
        try:
            yield
        finally:
            threading.excepthook = threads
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _but_of_the_disk(failure: threading.ExceptHookArgs) -> None:
    """What threads print when they fail, but for what the disk refused them."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)
