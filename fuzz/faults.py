"""Disturb commands at random moments: `python fuzz/faults.py --seconds N --seed S`.

Each is killed, interrupted, stopped for a while, or loses a worker, up to three times, and is then
left to end. Nothing may be torn, said twice or left running on the way, and what is there in the
end is what an undisturbed run makes. The exit code is 1 where that did not hold. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import COMMANDS, command, started, workers_of, write_inputs  # noqa: E402

PARALLEL = ("enhance", "simulate", "sweep", "evaluate")
MOST_S = 120  # a command that was disturbed and takes longer hangs
FATES = ("kill", "kill all", "terminate", "ctrl-c", "ctrl-c here", "lose a worker", "sleep")
TIMES = re.compile(rb'"(rtf|compute_s)": [^,}\n]*')  # in files of scores
JOURNALS = re.compile(r"tfevents|\.clips\.jsonl$")  # hold times, or the order of what happened
DONE = "exists already"  # what a command says that was done before it was disturbed
Files = dict[str, bytes]


def main() -> None:
    """Disturb one command after another until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=COMMANDS, action="append")
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # and so for what is started here
    rng, tally, n_defects = random.Random(asked.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        inputs = write_inputs(Path(folder))
        judges = {name: Judge(name, inputs) for name in asked.only or COMMANDS}
        until = time.monotonic() + asked.seconds
        while time.monotonic() < until:
            judge = judges[rng.choice(list(judges))]
            for defect in judge.disturbed(rng, tally):
                n_defects += 1
                print(f"DEFECT {judge.name}: {defect}", flush=True)
    for what, n in sorted(tally.items()):
        print(f"{what}: {n}")
    print(f"{n_defects} defects")
    sys.exit(n_defects > 0)


class Judge:
    """One command, and what it makes when nobody disturbs it."""

    def __init__(self, name: str, inputs: Path) -> None:
        """Run it twice: what differs then tells the time, and is not looked at."""
        self.name, self.inputs, self.out = name, inputs, inputs / f"out-{name}"
        first, again = self._undisturbed(), self._undisturbed()
        self.same = {path: data for path, data in again.items() if first.get(path) == data}
        self.other = set(again) - set(self.same)
        assert self.same, f"nothing that {name} makes is the same twice"

    def _undisturbed(self) -> Files:
        shutil.rmtree(self.out, ignore_errors=True)
        code, words = end_of(self._start(1))
        assert code == 0, words
        return files(self.out)

    def _start(self, jobs: int) -> subprocess.Popen:
        words = command(self.name, self.inputs, self.out)
        words += ["--jobs", jobs] if self.name in PARALLEL else []
        return started(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def disturbed(self, rng: random.Random, tally: Counter[str]) -> Iterable[str]:
        """Disturb it a few times and let it end; yield what was wrong."""
        shutil.rmtree(self.out, ignore_errors=True)
        for _ in range(rng.randint(1, 3)):
            process = self._start(rng.choice((1, 2, 3)))
            fate = rng.choice(FATES)
            after_s = round(meet(process, fate, rng), 2)
            code, words = end_of(process)
            tally[f"{self.name}, {fate}"] += 1
            for wrong in (*spoken(code, words), *self._torn(), *left(process)):
                yield f"{fate} after {after_s} s: {wrong}"
        code, words = end_of(self._start(rng.choice((1, 2, 3))))
        if code != 0 and DONE not in words:
            yield f"does not go on ({code}): {words}"
            return
        made = files(self.out)
        for path in sorted({*made, *self.same, *self.other}):
            if path not in made:
                yield f"{path} is missing"
            elif path not in self.other and made[path] != self.same.get(path):
                yield f"{path} is another" if path in self.same else f"{path} is left"

    def _torn(self) -> Iterable[str]:
        """A final name is that of a whole file; `train` replaces it, `stream` may end early."""
        if self.name not in ("train", "stream"):
            for path, data in files(self.out).items():
                if data != self.same.get(path, data):
                    yield f"{path} is torn"


def meet(process: subprocess.Popen, fate: str, rng: random.Random) -> float:
    """Have the command meet its fate at some moment of its life; return after how many seconds."""
    began = time.monotonic()
    wait_s = rng.choice((rng.uniform(0, 0.5), rng.uniform(0, 6), rng.uniform(0, 6)))
    while process.poll() is None and time.monotonic() - began < wait_s:
        time.sleep(0.001)
        if rng.random() < 0.02 and workers_of(process.pid):  # as often when they have just begun
            break
    workers = workers_of(process.pid)
    worker = rng.choice(workers) if workers else process.pid
    who, what = {
        "kill": (process.pid, signal.SIGKILL),
        "kill all": (-process.pid, signal.SIGKILL),
        "terminate": (process.pid, signal.SIGTERM),
        "ctrl-c": (-process.pid, signal.SIGINT),
        "ctrl-c here": (process.pid, signal.SIGINT),
        "lose a worker": (worker, signal.SIGKILL),
        "sleep": (worker, signal.SIGSTOP),
    }[fate]
    if process.poll() is None:
        tell(who, what)
    if fate == "sleep":
        time.sleep(rng.uniform(0, 3))
        tell(who, signal.SIGCONT)
    return time.monotonic() - began


def tell(who: int, what: int) -> None:
    """A signal to a process, or with a minus to a group of them, if there still are any."""
    with suppress(ProcessLookupError):
        os.kill(who, what)


def end_of(process: subprocess.Popen) -> tuple[int, str]:
    """The exit code and the words on stderr; a command that hangs is killed and says so."""
    try:
        _, words = process.communicate(timeout=MOST_S)
    except subprocess.TimeoutExpired:
        tell(-process.pid, signal.SIGKILL)
        return 1, f"hangs\n{process.communicate()[1]}"
    return process.returncode, words


def spoken(code: int, words: str) -> Iterable[str]:
    """Whether a command that was disturbed ended as it should."""
    ends = {0: 0, 2: 1, 130: 1, -signal.SIGKILL: 0, -signal.SIGTERM: 0, -signal.SIGINT: 0}
    known = ("warning: ", "error: ") if DONE in words else "warning: "
    lines = [line for line in words.splitlines() if not line.startswith(known)]
    if "Traceback" in words and "__main__.py" not in words:  # Python had not begun with it
        return
    if code not in ends or len(lines) > ends[code]:
        yield f"exit code {code}, with the words {words!r}"


def left(process: subprocess.Popen) -> Iterable[str]:
    """Processes of the command that outlive it; they have ten seconds."""
    for _ in range(1000):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    tell(-process.pid, signal.SIGKILL)
    yield "processes go on"


def files(folder: Path) -> Files:
    """What is there by its path, without the seconds it took."""
    found = (p for p in folder.rglob("*") if p.is_file() and not JOURNALS.search(p.name))
    return {str(path.relative_to(folder)): TIMES.sub(b"", path.read_bytes()) for path in found}


if __name__ == "__main__":
    main()
