"""Coverage-guided fuzzing: `python fuzz/run.py TARGET --seconds N --corpus DIR`.

Needs the package atheris. Inputs that reach new code are added to DIR; what is wrong with one is
told once, with the input kept in DIR/../TARGET.defects, and the run goes on. The exit code is 1
where there was a defect.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
SHIPPED = {
    "array": "arrays", "scene": "scenes", "sweep": "sweeps", "recipe": "train",
}  # fmt: skip
MOST_S = 20  # of computing: longer than this on one input is a hang
MOST_BYTES = 4 * 2**30  # of address space above what is taken after the first input
LONGEST = {"audio": 20_000, "pcm": 8_000, "samples": 6_000}  # of an input, in bytes

with atheris.instrument_imports(include=["clearbeam", "multichannel", "separation", "simulate",
                                         "yaml", "json", "soundfile"]):  # fmt: skip
    from fuzz.targets import TARGETS, judge

    # what is imported later is not followed
    for name in ("commands.simulate", "sweep_config", "enhance", "training.config", "stream"):
        import_module(f"clearbeam.{name}")
    for name in ("multichannel.enhance", "separation.weights", "simulate.measured"):
        import_module(name)


class Hang(BaseException):
    """One input took too long."""


class Defects:
    """What went wrong, each place in the code once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.known, self.n_inputs = folder, set[str](), 0
        self.scratch = Path(tempfile.mkdtemp(prefix="fuzz", dir="/dev/shm"))

    def test(self, target: str, data: bytes) -> None:
        """One input."""
        self.n_inputs += 1
        folder = self.scratch / "now"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            with time_limit(MOST_S):
                judge(target, data, folder)
        except (Exception, Hang) as error:
            self.tell(error, data)

    def tell(self, error: BaseException, data: bytes) -> None:
        """Print the error and keep the input, unless that place is known."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if str(ROOT) in f.filename]
        place = frames[-1] if frames else None
        where = f"{Path(place.filename).name}:{place.lineno}" if place else "?"
        name = f"{type(error).__name__}-{where}"
        if name not in self.known:
            self.known.add(name)
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / name.replace(":", "-")).write_bytes(data)
            print(f"DEFECT {name}: {' '.join(str(error).split())[:200]}", flush=True)


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise `Hang` in the block after so many seconds of computing, or ten times so many in all."""

    def stop(*_: object) -> None:
        raise Hang

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, 1), (signal.ITIMER_REAL, signal.SIGALRM, 10))
    before = [signal.signal(number, stop) for _, number, _ in timers]
    for timer, _, factor in timers:
        signal.setitimer(timer, factor * seconds)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def dictionary(folder: Path) -> Path:
    """Words that the parsers know, as libFuzzer wants them."""
    from clearbeam.sweep_config import SweepConfig
    from clearbeam.training.config import TrainConfig
    from simulate.arrays import ArrayGeometry
    from simulate.meeting import MeetingConfig

    words = {"&a", "*a", "<<: ", ".nan", ".inf", "1e999", "null", "NaN", "-Infinity", "\\\\x00"}
    words |= {"uniform", "normal", "choice", "paths", "mixture", "early", "seconds", "path", "fs"}
    for model in (SweepConfig, TrainConfig, ArrayGeometry, MeetingConfig):
        words |= keys(model.model_json_schema())
    path = folder / "words.dict"
    path.write_text("".join(f'"{word}"\n' for word in sorted(words)))
    return path


def keys(schema: object) -> set[str]:
    """All keys of models in a JSON schema."""
    if isinstance(schema, list):
        return set().union(*map(keys, schema))
    if not isinstance(schema, dict):
        return set()
    return set(schema.get("properties", {})).union(*map(keys, schema.values()))


def main() -> None:
    """Fuzz one target for a while."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, required=True)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    asked.corpus.mkdir(parents=True, exist_ok=True)
    defects = Defects(asked.corpus.parent / f"{asked.target}.defects")
    defects.test(asked.target, b"")
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MOST_BYTES, -1))
    seeds = [ROOT / "fuzz" / "corpus" / asked.target]
    if asked.target in SHIPPED:
        seeds.append(ROOT / "configs" / SHIPPED[asked.target])
    began = time.monotonic()

    def end() -> None:
        spent = time.monotonic() - began
        print(f"{asked.target}: {defects.n_inputs} inputs in {spent:.0f} s, "
              f"{len(defects.known)} defects", flush=True)  # fmt: skip
        shutil.rmtree(defects.scratch, ignore_errors=True)
        os._exit(1 if defects.known else 0)

    threading.Timer(asked.seconds, end).start()
    words = dictionary(defects.scratch)
    arguments = ["-timeout=0", "-rss_limit_mb=0", f"-dict={words}",
                 f"-artifact_prefix={defects.scratch}/",
                 f"-max_len={LONGEST.get(asked.target, 4_000)}"]  # fmt: skip
    folders = [str(folder) for folder in (asked.corpus, *seeds) if folder.is_dir()]
    atheris.Setup(
        [sys.argv[0], *arguments, *folders], lambda data: defects.test(asked.target, data)
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
