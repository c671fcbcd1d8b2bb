"""Running the command line in tests, and what a refusal must look like."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import soundfile
from typer.testing import CliRunner

from clearbeam.cli import app

RATE = 16_000


def run(*args: object):
    """Run `clearbeam ARGS` in this process; returns typer's result."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def succeeded(*args: object):
    """Run `clearbeam ARGS`, which must end well and say nothing on stderr; returns the result."""
    result = run(*args)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result


def refused(match: str, *args: object) -> None:
    """`clearbeam ARGS` must end with exit code 2 and one error line that matches."""
    result = run(*args)
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert re.search(match, lines[0]), lines[0]


def tree(folder: Path) -> set[str]:
    """Everything below a folder, hidden or not."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def voice(n_mics: int, seconds: float = 1.5, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """(samples, mics): a built-in talker, later at each mic, in a little noise."""
    talkers = Path(__file__).parents[1] / "simulate" / "talkers"
    speech, talker_rate = soundfile.read(talkers / "slt1.flac")
    step = max(1, talker_rate // rate)
    speech = np.repeat(speech, max(1, rate // talker_rate))[::step][: round(seconds * rate)]
    noise = np.random.default_rng(seed).standard_normal((len(speech), n_mics))
    delayed = np.stack([np.roll(speech, 2 * k) for k in range(n_mics)], axis=1)
    return 0.5 * delayed + 0.01 * noise


def write(path: Path, x: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    """Write (samples, mics) and return the path."""
    soundfile.write(path, x, rate, subtype=subtype)
    return path
