"""The arrows between the rooms of the house, as ARCHITECTURE.md draws them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("simulate", "multichannel", "separation", "clearbeam")
MAY_IMPORT = {
    "simulate": set(),
    "multichannel": {"simulate"},  # in multichannel/data.py only, see below
    "separation": {"multichannel"},
    "clearbeam": {"simulate", "multichannel", "separation"},
}
DATA_MODULES = {"multichannel/data.py"}
OWNERS = {
    # its rooms, and its blind source separation
    "pyroomacoustics": {"simulate/rooms.py", "clearbeam/blind.py"},
    "asteroid": {"clearbeam/training/asteroid_adapter.py"},
}


def imports_in(source: str, module: str) -> set[str]:
    """Top-level names that `source` imports anywhere; a relative import is one of its own."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(module if node.level else (node.module or "").partition(".")[0])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names |= {
                str(a.value).partition(".")[0] for a in node.args if isinstance(a, ast.Constant)
            }
    return names


def violations(path: str, source: str) -> list[str]:
    """What the file at `path` (relative to the root) may not import but does."""
    room = path.partition("/")[0]
    imported = imports_in(source, room)
    allowed = MAY_IMPORT[room] | {room}
    if room == "multichannel" and path not in DATA_MODULES:
        allowed = allowed - {"simulate"}
    found = sorted(imported & set(ROOMS) - allowed)
    found += [name for name, owners in OWNERS.items() if name in imported and path not in owners]
    if room == "simulate" and "torch" in imported:
        found.append("torch")
    return found


def files() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize("path", files(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_follow_the_arrows(path):
    assert violations(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("simulate/rooms.py", "from clearbeam.audio import Recording", ["clearbeam"]),
        ("simulate/rooms.py", "import multichannel", ["multichannel"]),
        ("simulate/rooms.py", "def f():\n    import torch.nn", ["torch"]),
        ("multichannel/stft.py", "from simulate import render", ["simulate"]),
        ("multichannel/data.py", "from simulate import read_manifest", []),
        ("multichannel/data.py", "from separation import Separator", ["separation"]),
        ("multichannel/stft.py", "import clearbeam.audio", ["clearbeam"]),
        ("separation/masks.py", "from simulate import render", ["simulate"]),
        ("separation/masks.py", "from multichannel import STFT", []),
        ("clearbeam/cli.py", "import simulate, multichannel, separation", []),
        ("clearbeam/cli.py", "import pyroomacoustics as pra", ["pyroomacoustics"]),
        ("simulate/rooms.py", "import pyroomacoustics as pra", []),
        ("clearbeam/blind.py", "from pyroomacoustics import bss", []),
        ("multichannel/stft.py", "importlib.import_module('simulate.rooms')", ["simulate"]),
        ("multichannel/loss.py", "from asteroid.losses import PITLossWrapper", ["asteroid"]),
        ("multichannel/stft.py", "from . import gtcrn\nfrom .gtcrn import GTCRN", []),
    ],
)  # fmt: skip
def test_a_broken_arrow_is_found(path, source, found):
    assert violations(path, source) == found


@pytest.mark.parametrize("room", ROOMS)
def test_the_page_on_where_to_change_what_names_every_module(room):
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Where to change")[2]
    table = page.partition(f"\n`{room}/`\n")[2].partition("\n`")[0]
    own = {path.relative_to(ROOT / room).as_posix() for path in (ROOT / room).rglob("[a-z]*.py")}
    own = {name for name in own if not name.startswith(("commands/", "talkers/"))}
    named = set(re.findall(r"`([\w/]+\.py)`", table))
    assert own - named == set()
    assert [
        name for name in named if not any((at / name).is_file() for at in (ROOT / room, ROOT))
    ] == []


def test_every_room_that_exists_is_looked_at():
    seen = {path.relative_to(ROOT).parts[0] for path in files()}
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages <= seen
    assert {"simulate", "multichannel", "clearbeam"} <= seen


def test_every_package_is_in_the_wheel():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = set(project["tool"]["setuptools"]["packages"]) - {"simulate.configs"}
    found = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert packages == found
