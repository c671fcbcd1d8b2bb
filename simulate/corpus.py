"""Speech and noise to simulate with: a manifest, a folder of recordings, or what is built in."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simulate.corpus_readers import read_folder, read_lhotse
from simulate.disk import write_text
from simulate.parsing import from_json
from simulate.recordings import (
    BUILTIN,
    BUILTIN_NOISE_S,
    LONGEST_S,
    RecordingError,
    Utterance,
    read_audio,
)
from simulate.synthetic import SYNTHETIC_KINDS

__all__ = [
    "BUILTIN",
    "Corpus",
    "RecordingError",
    "Utterance",
    "is_manifest",
    "load_corpus",
    "read_audio",
    "write_corpus",
]


_TALKERS = str(Path(__file__).parent / "talkers" / "talkers.jsonl")


class Corpus(tuple[Utterance, ...]):
    """Recordings that can be drawn from by the thousand: what a speaker said is listed once."""

    @cached_property
    def speakers(self) -> dict[str, list[int]]:
        """Where the recordings of each known speaker are, in their order."""
        places: dict[str, list[int]] = {}
        for place, recording in enumerate(self):
            if recording.speaker:
                places.setdefault(recording.speaker, []).append(place)
        return places

    def said_by(self, speaker: str) -> list[Utterance]:
        """The recordings of one known speaker."""
        return [self[place] for place in self.speakers.get(speaker, ())]

    def draw(self, rng: np.random.Generator, without: Collection[str] = ()) -> Utterance:
        """One recording, each as likely, of no speaker in `without` where there are others."""
        skipped = sorted(place for name in without for place in self.speakers.get(name, ()))
        skipped = skipped if len(skipped) < len(self) else []
        place = int(rng.integers(len(self) - len(skipped)))
        for other in skipped:
            place += other <= place
        return self[place]


_BUILTIN_NOISES = Corpus(
    Utterance(f"{BUILTIN}:{kind}", BUILTIN_NOISE_S, kind=kind) for kind in SYNTHETIC_KINDS
)


def load_corpus(
    path: str | Path, split: str | None = None, content: Literal["speech", "noise"] = "speech"
) -> Corpus:
    """Recordings of a corpus, or the built-in ones.

    path: a jsonl file with a recording a line (its audio paths are relative to it); a Lhotse
    manifest of cuts or recordings (jsonl or jsonl.gz); a folder: a LibriSpeech tree, a VCTK tree or
    any other (see `corpus_readers`); or "builtin".
    split: keep only this split; "train" also stands for "train-clean-100" and the like. Ignored for
    built-in material, which has none.
    content: "speech" or "noise", which says what "builtin" means.
    Raises ValueError when the corpus is missing, malformed or holds nothing of the split.
    """
    if str(path) == BUILTIN and content == "noise":
        return _BUILTIN_NOISES
    source = _TALKERS if str(path) == BUILTIN else os.path.abspath(path)
    try:
        stat = os.stat(source)
    except OSError:
        raise ValueError(
            f"expected a corpus manifest (jsonl) or folder, found no file {source}"
        ) from None
    split = None if str(path) == BUILTIN else split
    recordings = _read(source, stat.st_mtime_ns, stat.st_size, split)
    if not recordings:
        wanted = f" of split {split}" if split else ""
        raise ValueError(f"expected recordings{wanted} in {source}, found none")
    return recordings


def write_corpus(recordings: Sequence[Utterance], path: Path) -> None:
    """List recordings in a jsonl manifest that `load_corpus` reads, complete or not at all."""
    lines = [json.dumps({k: v for k, v in asdict(r).items() if v != ""}) for r in recordings]
    write_text(path, "".join(f"{line}\n" for line in lines))


def is_manifest(path: str) -> bool:
    """Whether `path` is quick to read: our own jsonl, or what is built in."""
    return path == BUILTIN or (Path(path).is_file() and not _is_lhotse(Path(path)))


@lru_cache(maxsize=8)
def _read(source: str, mtime_ns: int, size: int, split: str | None) -> Corpus:
    """Read once per process and version of the file: scenes are drawn from it by the thousand."""
    if split is not None:
        whole = _read(source, mtime_ns, size, None)
        return Corpus(r for r in whole if r.split == split or r.split.startswith(f"{split}-"))
    path = Path(source)
    if path.is_dir():
        return Corpus(read_folder(path))
    return Corpus(read_lhotse(path) if _is_lhotse(path) else _read_manifest(path))


def _is_lhotse(path: Path) -> bool:
    """Lhotse's lines name where their sound is in `sources`; ours in `path`."""
    if path.suffix == ".gz":
        return True
    with path.open(encoding="utf-8", errors="replace") as lines:
        return '"sources"' in next(lines, "")


def _read_manifest(manifest: Path) -> list[Utterance]:
    records = []
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            records.append(_utterance(from_json(line), manifest.parent))
        except (KeyError, TypeError, ValueError) as error:
            where = f"{manifest}, line {number}"
            raise ValueError(
                f"{where}: expected a record with path and seconds, found {error!r}"
            ) from None
    return records


def _utterance(record: dict[str, Any], folder: Path) -> Utterance:
    names = ("speaker", "text", "split", "kind")
    seconds = float(record["seconds"])
    if not 0 < seconds < LONGEST_S:
        raise ValueError(f"{seconds:g} seconds")
    return Utterance(
        str(folder / record["path"]),
        seconds,
        **{name: str(record.get(name) or "") for name in names},
    )
