"""What has been scored already, so that an evaluation killed half-way goes on where it stopped.

One JSON object a line, appended as each clip is done. A row is found again by the fingerprint of
everything its numbers depend on: the clip's files, the system's weights, and the code of both; so
new weights or new code never meet old scores.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clearbeam.scores import Speed
from simulate.disk import naming

_CODE_SUFFIXES = {".py", ".safetensors", ".json", ".so"}


@dataclass(frozen=True)
class Row:
    """The scores of one system on one clip, by metric; NaN where undefined."""

    clip: str
    system: str
    values: Mapping[str, float]
    speed: Speed

    def to_json(self) -> dict[str, Any]:
        """Plain data, with None for NaN, which JSON does not know."""
        values = {k: None if math.isnan(v) else v for k, v in self.values.items()}
        return {
            "clip": self.clip,
            "system": self.system,
            "values": values,
            "compute_s": self.speed.compute_s,
            "audio_s": self.speed.audio_s,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Row:
        """The inverse of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        values = {k: math.nan if v is None else float(v) for k, v in data["values"].items()}
        speed = Speed(float(data["compute_s"]), float(data["audio_s"]))
        return Row(str(data["clip"]), str(data["system"]), values, speed)


class Ledger:
    """Rows by key, kept in a jsonl file; without a path it remembers nothing.

    A line that a killed process left torn is skipped when read and closed before the next append.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._rows: dict[str, Row] = {}
        text = ""
        if path is not None and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
        self._torn = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                data = json.loads(line)
                self._rows[data["key"]] = Row.from_json(data)
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
                continue

    @property
    def again(self) -> str:
        """What to do where scoring broke off, in words."""
        if self.path is None:
            return "nothing is kept without --json: do it again"
        return "the same command goes on from here"

    def find(self, key: str, metrics: Iterable[str]) -> Row | None:
        """The row of `key` if it holds every one of `metrics`."""
        row = self._rows.get(key)
        return row if row is not None and set(metrics) <= set(row.values) else None

    def add(self, key: str, row: Row) -> None:
        """Append `row` to the file at once: a kill loses no finished clip."""
        if self.path is None:
            return
        line = json.dumps({"key": key, **row.to_json()}) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(("\n" if self._torn else "") + line)
        self._torn = False


def fingerprint(*parts: str | Path) -> str:
    """A hash of texts and of the bytes of files; a folder counts by the code and weights in it."""
    digest = hashlib.sha256()
    for part in parts:
        bits = part if isinstance(part, str) else _files_digest(part)
        digest.update(hashlib.sha256(bits.encode()).digest())
    return digest.hexdigest()


def _files_digest(path: Path) -> str:
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in _CODE_SUFFIXES and p.is_file())
    stats = [(file, file.stat()) for file in files]
    return "".join(_file_digest(file, s.st_mtime_ns, s.st_size) for file, s in stats)


@cache
def _file_digest(path: Path, mtime_ns: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
