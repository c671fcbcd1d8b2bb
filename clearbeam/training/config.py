"""What a training recipe may say, and how the command line changes it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, field_validator, model_validator

from simulate.config import Frozen, find_config, nearest, owner_of, validate
from simulate.parsing import from_yaml, from_yaml_file

Built = TypeVar("Built")


class Simulated(Frozen):
    """A data set to be made before training, or drawn from while it runs.

    scene: name or path of a scene. count: how many mixtures are made, once; without it every step
    draws new ones in memory. seed: of the mixtures. speech, noise: corpora instead of the scene's;
    recordings: folder of your own recordings, whose noise (what the shipped enhancer takes away
    from them) becomes the noise corpus. split: of the corpora.
    """

    scene: str = "train_enhance"
    count: int | None = Field(None, ge=1)
    seed: int = Field(1, ge=0)
    speech: str | None = None
    noise: str | None = None
    recordings: str | None = None
    split: str | None = None

    @model_validator(mode="after")
    def _one_noise(self) -> Simulated:
        if self.noise and self.recordings:
            raise ValueError("expected noise or recordings, found both")
        return self


class DataConfig(Frozen):
    """Where clips come from.

    train, valid: a folder of `clearbeam simulate`, a front-end cache, or a scene to simulate.
    seconds: longer clips are cut to it. limit: first clips only. workers: processes that load
    clips; 0 loads between steps. cache: folder of what is computed once; by default in the run.
    mono, causal_every: front-end of the task `enhance`: its mask network, and every how many clips
    one has the recursive beam. before: networks whose work this one continues: of the passes before
    it; of the separator for `separate` (its second pass) and `separate-post`. times: how often a
    clip goes through the front-end, each time augmented differently; of the task `separate`: how
    often it is mixed, each time anew.
    """

    train: str | Simulated
    valid: str | Simulated
    seconds: float = Field(4.0, gt=0)
    limit: int | None = Field(None, ge=1)
    workers: int = Field(0, ge=0)
    cache: str | None = None
    mono: str = "mono"
    before: list[str] = Field(default_factory=list)
    causal_every: int = Field(3, ge=0)
    times: int = Field(1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _same_corpora(cls, data: Any) -> Any:
        """What is simulated for `valid` has the corpora of `train`, unless it names its own."""
        if not isinstance(data, dict):
            return data
        train, valid = (data.get(which) for which in ("train", "valid"))
        if not (isinstance(train, dict) and isinstance(valid, dict)):
            return data
        corpora = ("speech", "noise", "recordings")
        shared = {key: train[key] for key in corpora if key in train and key not in valid}
        if "noise" in valid:
            shared.pop("recordings", None)
        return {**data, "valid": {**valid, **shared}}

    @model_validator(mode="after")
    def _valid_is_frozen(self) -> DataConfig:
        if isinstance(self.valid, Simulated) and self.valid.count is None:
            raise ValueError("expected valid.count, found a scene that is drawn from forever")
        return self


class OptimiserConfig(Frozen):
    """Adam. lr: peak learning rate, reached after `warmup` steps, then half a cosine down to
    `final` times it. clip: norm that gradients are clipped at. ema: how much of the averaged
    weights is kept a step; 0 does not average."""

    lr: float = Field(2e-3, gt=0)
    warmup: int = Field(100, ge=0)
    final: float = Field(0.01, ge=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(3.0, gt=0)
    ema: float = Field(0.998, ge=0, lt=1)


class PruneConfig(Frozen):
    """What is taken out of the network that `init` names, before it is trained on.

    kind: `structured` leaves the best `inner` feats inside every temporal convolution, a smaller
    network; `top_k` leaves the largest weights and holds the rest at zero. amount: share that goes.
    ramp: steps over which `top_k` goes there (Zhu & Gupta 2017).
    """

    kind: Literal["structured", "top_k"] = "structured"
    amount: float = Field(0.25, gt=0, lt=1)
    ramp: int = Field(0, ge=0)


class TrainConfig(Frozen):
    """A training run.

    task: what is learned, a key of `tasks.TASKS`. network: what its network may say. init: weights
    to start from, a shipped name or a path; a GTCRN of fewer inputs is allowed, the new ones start
    at zero.
    losses: weights of named losses. augment: for each named augmentation its probability and
    settings. teacher: weights of a network to learn from, for the loss `teacher`. latency_ms: of
    the live streams that the network is for.
    steps, batch: optimiser steps and clips in each of them, whatever the number of processes and of
    parts (`accumulate`) that they are shared out to. processes: one thread each on a CPU, one GPU
    each on CUDA. precision: mixed with bf16 or fp16. valid_every, save_every: steps between
    validations, and between checkpoints. patience: validations without a better loss before it
    stops. log_every: steps between two lines of the log. clips: valid clips to hear and see.
    """

    name: str = Field(min_length=1)
    task: str
    network: dict[str, Any] = Field(default_factory=dict)
    init: str | None = None
    teacher: str | None = None
    latency_ms: float = Field(32.0, ge=18, le=32)
    prune: PruneConfig | None = None
    data: DataConfig
    losses: dict[str, float] = Field(min_length=1)
    augment: dict[str, dict[str, Any]] = Field(default_factory=dict)
    optimiser: OptimiserConfig = OptimiserConfig()
    steps: int = Field(ge=1)
    batch: int = Field(16, ge=1)
    accumulate: int = Field(1, ge=1)
    processes: int = Field(1, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["32", "bf16", "fp16"] = "32"
    compiled_layers: bool = True
    valid_every: int = Field(200, ge=1)
    save_every: int = Field(100, ge=1)
    patience: int | None = Field(None, ge=1)
    log_every: int = Field(10, ge=1)
    clips: int = Field(3, ge=0)
    seed: int = Field(0, ge=0)

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str) -> str:
        from clearbeam.training.tasks import TASKS

        return _one_of("task", task, list(TASKS))

    @field_validator("augment")
    @classmethod
    def _known_augmentations(cls, chosen: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        from multichannel.augment import AUGMENTATIONS

        for name, settings in chosen.items():
            _one_of("augmentation", name, list(AUGMENTATIONS))
            known = list(inspect.signature(AUGMENTATIONS[name]).parameters)[2:]
            for key in settings:
                _one_of(f"setting of {name}", key, ["probability", *known])
            if not 0 <= settings.get("probability", -1) <= 1:
                raise ValueError(f"expected a probability in 0..1 for {name}, found {settings}")
        return chosen

    @model_validator(mode="after")
    def _shares_are_whole(self) -> TrainConfig:
        if self.batch % (self.processes * self.accumulate):
            raise ValueError(
                f"expected a batch that {self.processes} processes x {self.accumulate} parts "
                f"share evenly, found {self.batch}"
            )
        if ("teacher" in self.losses) != (self.teacher is not None):
            raise ValueError("expected both a teacher and a loss `teacher`, found one of them")
        if self.prune and self.init is None:
            raise ValueError("expected init, the weights to prune, found none")
        return self

    def saved(self) -> str:
        """The resolved config as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_recipe(name: str, overrides: list[str]) -> TrainConfig:
    """A recipe by shipped name or path, with `key=value` of dotted keys put in.

    Raises ValueError, in one line, for an unknown recipe, key or value.
    """
    try:
        path = find_config("train", name)
    except ValueError as error:
        raise ValueError(str(error).replace("unknown train", "unknown recipe")) from None
    if not path.is_file():
        raise ValueError(f"expected a recipe, found no file {path}")
    data = from_yaml_file(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected keys and values, found {type(data).__name__}")
    for override in overrides:
        _put(data, override)
    return validate(data, TrainConfig, name)


def _put(data: dict[str, Any], override: str) -> None:
    """Set one dotted key."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(f"expected key=value, found {override!r}")
    try:
        value = from_yaml(text)
    except ValueError:
        value = text
    owner, last = owner_of(data, key)
    owner[last] = value


def build(kind: type[Built], settings: Mapping[str, Any], what: str) -> Built:
    """A dataclass from the settings of a config; ValueError names what is wrong with them."""
    for key in settings:
        _one_of(f"key {what}", key, [field.name for field in fields(kind)])  # type: ignore[arg-type]
    try:
        return kind(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: {error}") from None


def _one_of(what: str, name: str, valid: list[str]) -> str:
    if name not in valid:
        raise ValueError(f"unknown {what} {name}: {nearest(name, valid)}")
    return name


def relative(path: str) -> Path:
    """A path of a config, from the working folder."""
    return Path(path).expanduser()
