"""`clearbeam simulate` killed while at work: the same command makes it whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli import succeeded
from faults import killed_when

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills processes")

COUNT = 40
SCENE = """
method: fast
duration_s: 0.5
room: {rt60_s: 0.2}
references: [early]
"""


def made(out: Path) -> int:
    return len(list(out.glob("0*/0*/record.json")))


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_killed_twice_and_then_completed_it_has_the_same_bytes(tmp_path):
    scene = tmp_path / "scene.yaml"
    scene.write_text(SCENE)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    args = ("simulate", scene, "--out", broken, "--count", COUNT)
    manifest = broken / "manifest.jsonl"  # is written when all mixtures are there
    killed_when(lambda: made(broken) >= 2, *args, "--jobs", 2, result=manifest)
    killed_when(lambda: made(broken) >= 12, *args, result=manifest)
    assert made(broken) >= 12
    succeeded(*args)
    succeeded("simulate", scene, "--out", whole, "--count", COUNT)
    assert files(broken) == files(whole)
    assert len(manifest.read_text().splitlines()) == COUNT
