"""What the tests of training share: small data, small runs."""

from __future__ import annotations

import json
from pathlib import Path

from cli import run

from simulate import SceneConfig, write_dataset

SMALL = ("batch=2", "clips=1", "log_every=1", "data.seconds=0.5", "optimiser.warmup=2")


def write_small(folder: Path, count: int = 6, seed: int = 1, duration_s: float = 0.5) -> Path:
    """Mixtures of random arrays and built-in talkers."""
    config = SceneConfig.load("train_enhance")
    config = config.model_copy(update={"duration_s": duration_s, "split": None})
    write_dataset(config, folder, count=count, seed=seed)
    return folder


def train(recipe: str, data: Path, out: Path, *overrides: str):
    """Run `clearbeam train RECIPE` on small data; returns typer's result."""
    cache = data.with_name(f"{data.name}-cache")  # made once for all tests of a module
    sets = (f"data.train={data}", f"data.valid={data}", f"data.cache={cache}")
    return run("train", recipe, *sets, *SMALL, *overrides, "--out", out)


def lines_of(out: Path) -> list[dict]:
    """The log of a run."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def curve_of(out: Path) -> list[dict]:
    """The log of a run without what depends on the clock."""
    clock = ("audio_s_per_s", "audio_s_per_cpu_s")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines_of(out)]
