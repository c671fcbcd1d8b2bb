"""`clearbeam simulate` killed while at work: the same command makes it whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cli import succeeded

COUNT = 40
SCENE = """
method: fast
duration_s: 0.5
room: {rt60_s: 0.2}
references: [early]
"""


def made(out: Path) -> int:
    return len(list(out.glob("0*/0*/record.json")))


def kill_when(out: Path, enough: int, *args: object) -> None:
    """Run the command and, as soon as `enough` mixtures are there, kill it without warning."""
    command = [sys.executable, "-m", "clearbeam", *(str(arg) for arg in args)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while made(out) < enough and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_killed_twice_and_then_completed_it_has_the_same_bytes(tmp_path):
    scene = tmp_path / "scene.yaml"
    scene.write_text(SCENE)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    args = ("simulate", scene, "--out", broken, "--count", COUNT)
    kill_when(broken, 2, *args, "--jobs", 2)
    assert 2 <= made(broken) < COUNT and not (broken / "manifest.jsonl").exists()
    kill_when(broken, 12, *args)
    assert 12 <= made(broken) < COUNT
    succeeded(*args)
    succeeded("simulate", scene, "--out", whole, "--count", COUNT)
    assert files(broken) == files(whole)
    assert len((broken / "manifest.jsonl").read_text().splitlines()) == COUNT
